package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// remindAfter is how long a cause of complaint stays unmentioned once it was
	// logged, maxCauses how many are remembered: some come from the network.
	remindAfter = time.Hour
	maxCauses   = 1000
)

// report counts what happens and logs each cause of complaint once an hour.
// It is safe for concurrent use.
type report struct {
	log                        *slog.Logger
	received, refused, carried *prometheus.CounterVec
	leading                    prometheus.Gauge

	mu   sync.Mutex
	told map[string]time.Time
}

// newReport makes a report. The way, gossip or http, keeps the metrics of a Bridge
// and of an Importer apart.
func newReport(way string, log *slog.Logger, reg prometheus.Registerer) *report {
	with := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"way": way}, reg))
	return &report{
		log: log, told: map[string]time.Time{},
		received: with.NewCounterVec(prometheus.CounterOpts{
			Name: "sidecar_bridge_received_total", Help: "What came from the old cluster, by kind: message, state or poll.",
		}, []string{"kind"}),
		refused: with.NewCounterVec(prometheus.CounterOpts{
			Name: "sidecar_bridge_refused_total", Help: "What was not taken or not passed on, by cause.",
		}, []string{"cause"}),
		carried: with.NewCounterVec(prometheus.CounterOpts{
			Name: "sidecar_bridge_records_total", Help: "Records passed on, by the side they went to: ours or theirs.",
		}, []string{"to"}),
		leading: with.NewGauge(prometheus.GaugeOpts{
			Name: "sidecar_bridge_leading", Help: "1 while this bridge is the one that mirrors.",
		}),
	}
}

// refuse counts something that was not taken and says why, once. About is whom
// it concerns, or "".
func (r *report) refuse(ctx context.Context, cause, about, text string, err error) {
	r.refused.WithLabelValues(cause).Inc()
	r.once(ctx, cause+"/"+about, text, "about", about, "err", err)
}

// once warns, unless it has for the same cause within the hour.
func (r *report) once(ctx context.Context, cause, text string, args ...any) {
	r.mu.Lock()
	now := time.Now()
	if now.Sub(r.told[cause]) < remindAfter {
		r.mu.Unlock()
		return
	}
	if len(r.told) >= maxCauses {
		clear(r.told)
	}
	r.told[cause] = now
	r.mu.Unlock()
	r.log.WarnContext(ctx, text, args...) //nolint:sloglint // the callers' texts are constant
}
