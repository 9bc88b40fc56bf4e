package sidecar

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// register adds what is counted here to the metrics.
func (s *Sidecar) register(reg *prometheus.Registry) error {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sidecar_records_refused_total", Help: "Records of peers that were not taken, by reason.",
	}, []string{"reason"})
	s.owner.refused = func(r catalog.Reason) { refused.WithLabelValues(string(r)).Inc() }
	s.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sidecar_api_refused_total", Help: "Callers of the API that were refused, by reason.",
	}, []string{"reason"})
	for _, c := range []prometheus.Collector{
		refused, s.refused, census{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register the sidecar's metrics: %w", err)
		}
	}
	return nil
}

// census counts services and members when it is asked.
type census struct{ s *Sidecar }

var (
	servicesDesc = prometheus.NewDesc("sidecar_services", "Services in the catalogue by status.", []string{"status"}, nil)
	membersDesc  = prometheus.NewDesc("sidecar_members", "Hosts of the cluster by state, this one included.", []string{"state"}, nil)
)

// Describe is prometheus.Collector's.
func (c census) Describe(ch chan<- *prometheus.Desc) {
	ch <- servicesDesc
	ch <- membersDesc
}

// Collect is prometheus.Collector's.
func (c census) Collect(ch chan<- prometheus.Metric) {
	services := map[pancake.ServiceStatus]float64{pancake.Alive: 0, pancake.Tombstone: 0, pancake.Sick: 0, pancake.Unknown: 0, pancake.Draining: 0}
	for _, h := range c.s.owner.Snapshot().Hosts {
		for _, svc := range h.Services {
			services[svc.Status]++
		}
	}
	for status, n := range services {
		ch <- prometheus.MustNewConstMetric(servicesDesc, prometheus.GaugeValue, n, status.String())
	}
	members := map[client.MemberState]float64{client.MemberAlive: 0, client.MemberLeft: 0, client.MemberDead: 0}
	for _, m := range c.s.gossip.Members() {
		members[m.State]++
	}
	for state, n := range members {
		ch <- prometheus.MustNewConstMetric(membersDesc, prometheus.GaugeValue, n, string(state))
	}
}
