package membership

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake/internal/identity"
)

type metrics struct {
	refused  *prometheus.CounterVec
	renewals *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, m *Member) (*metrics, error) {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pancake_agent_identity_" + name, Help: help}, []string{label})
	}
	out := &metrics{
		refused:  counter("refused_total", "Joins and renewals that one side refused, by reason.", "reason"),
		renewals: counter("renewals_total", "Renewals of the certificate, by result: ok or failed.", "result"),
	}
	if r == nil {
		return out, nil
	}
	left := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pancake_agent_identity_valid_seconds", Help: "How long the certificate is still good, in seconds.",
	}, func() float64 {
		if m.source == nil {
			return 0
		}
		return time.Until(m.source.Leaf().Cert.NotAfter).Seconds()
	})
	if err := errors.Join(r.Register(out.refused), r.Register(out.renewals), r.Register(left)); err != nil {
		return nil, fmt.Errorf("identity metrics: %w", err)
	}
	return out, nil
}

func (m *metrics) renewed(err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.renewals.WithLabelValues(result).Inc()
}

// denied counts err if it is a refusal, and returns it.
func (m *Member) denied(err error) error {
	if reason := identity.ReasonOf(err); reason != "" {
		m.metrics.refused.WithLabelValues(string(reason)).Inc()
	}
	return err
}
