package goavail

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// metrics counts what happens; what is, is looked up when somebody asks.
type metrics struct {
	agent   *Agent
	probes  *prometheus.CounterVec
	changes *prometheus.CounterVec
	events  *prometheus.CounterVec
	failed  *prometheus.CounterVec
	refused *prometheus.CounterVec

	places, member, writer, failures *prometheus.Desc
}

func newMetrics(a *Agent, reg *prometheus.Registry) (*metrics, error) {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		agent:    a,
		probes:   counter("goavail_probes_total", "Probes by result: ok, failed, or own for a failure of this machine.", "result"),
		changes:  counter("goavail_changes_total", "Members that this agent put in or took out, or tried to, by result: in, out, failed or unsure.", "result"),
		events:   counter("goavail_events_total", "Entries of the history that this agent made, by kind.", "kind"),
		failed:   counter("goavail_provider_failures_total", "Failed attempts to read or change records, by reason.", "reason"),
		refused:  counter("goavail_api_refused_total", "Callers of the API that were refused, by reason.", "reason"),
		places:   prometheus.NewDesc("goavail_target_places", "How many places say up, down or unknown of a target.", []string{"target", "verdict"}, nil),
		member:   prometheus.NewDesc("goavail_member_in_service", "1 if the member is in service, as this agent last read.", []string{"set", "value", "target"}, nil),
		writer:   prometheus.NewDesc("goavail_writer", "1 if this agent is the writer.", nil, nil),
		failures: prometheus.NewDesc("goavail_provider_failing", "How many attempts in a row have failed.", nil, nil),
	}
	for _, c := range []prometheus.Collector{m.probes, m.changes, m.events, m.failed, m.refused, m} {
		if err := reg.Register(c); err != nil {
			return nil, pancake.Errorf(pancake.Internal, "register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) probed(r probe.Result) {
	switch {
	case r.Own:
		m.probes.WithLabelValues("own").Inc()
	case r.Err != nil:
		m.probes.WithLabelValues("failed").Inc()
	default:
		m.probes.WithLabelValues("ok").Inc()
	}
}

func (m *metrics) noted(e client.Entry) {
	m.events.WithLabelValues(e.Kind).Inc()
	if e.Kind != client.KindChange {
		return
	}
	for _, move := range e.Moves {
		result := "out"
		switch {
		case e.Unsure:
			result = "unsure"
		case e.Error != "":
			result = "failed"
		case move.In:
			result = "in"
		}
		m.changes.WithLabelValues(result).Inc()
	}
}

func (m *metrics) providerFailed(r dns.Reason) { m.failed.WithLabelValues(string(r)).Inc() }

// Describe is for Prometheus.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.places, m.member, m.writer, m.failures} {
		ch <- d
	}
}

// Collect is for Prometheus.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	a := m.agent
	leads := !a.elector.Leader().Until.IsZero()
	a.mu.Lock()
	failures, targets, now := a.act.failures, make(map[string]vote.Opinion, len(a.targets)), time.Now()
	for name := range a.targets {
		targets[name] = a.board.Opinion(name, now)
	}
	sets := a.setStatus(a.known)
	a.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for name, o := range targets {
		gauge(m.places, float64(o.Up), name, vote.Up.String())
		gauge(m.places, float64(o.Down), name, vote.Down.String())
		gauge(m.places, float64(o.Unknown), name, vote.Unknown.String())
	}
	for _, s := range sets {
		key := dns.Key{Name: s.Name, Type: s.Type, Set: s.Set}.String()
		for _, member := range s.Members {
			gauge(m.member, number(member.In), key, member.Value, member.Target)
		}
	}
	gauge(m.writer, number(leads))
	gauge(m.failures, float64(failures))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
