// Package health finds out whether a service answers: over HTTP, over TCP or
// by running a program. Each service is checked on its own, so one that hangs
// delays no other.
package health

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/pancake-stack/pancake"
)

// Config says how services are checked. The zero value works.
type Config struct {
	// Host is the address under which this host's ports are reached: what
	// {{ host }} means. Default 127.0.0.1.
	Host string
	// Hostname is what {{ container }} means: Sidecar's name for Service.Hostname.
	Hostname string
	// DefaultEndpoint is the path that is asked for where no label says how to
	// check. Default /version, Sidecar's.
	DefaultEndpoint string
	// Interval is the time between two checks. Default 3 s, Sidecar's.
	Interval time.Duration
	// Timeout bounds one check. Default 1 ms less than Interval, as Sidecar's.
	Timeout time.Duration
	// Fall is how many failures in a row make a healthy service Sick. Default 1, as Sidecar.
	Fall int
	// Concurrency bounds how many checks run at the same time. Default 256.
	Concurrency int
	Log         *slog.Logger          // default: none
	Metrics     prometheus.Registerer // default: none
}

const (
	// firstRetry is the wait behind the first failure; each further one is
	// longer by half, up to Interval. So a service is noticed some milliseconds
	// after it answers for the first time, and soon when it has recovered.
	firstRetry = 50 * time.Millisecond
	// hurryFor is how long after the first failure that goes on.
	hurryFor = 30 * time.Second
	// MaxNote bounds Result.Note in bytes.
	MaxNote = 200
)

// Target is a service and how to check it, as its labels say it.
type Target struct {
	Service pancake.Service
	Type    string // HttpGet, Tcp, External or AlwaysSuccessful; "" means Sidecar's default
	Args    string // a template; what it means depends on Type
}

// Result is what the checks of a service say.
type Result struct {
	ID     string
	Status pancake.ServiceStatus // Alive or Sick
	Note   string                // why it is Sick
}

// Checker checks services. It is safe for concurrent use.
type Checker struct {
	cfg   Config
	log   *slog.Logger
	slots chan struct{} // one per check that runs
	http  *http.Client
	took  *prometheus.HistogramVec
}

// New makes a Checker.
func New(cfg Config) *Checker {
	cfg.Host = cmp.Or(cfg.Host, "127.0.0.1")
	cfg.DefaultEndpoint = cmp.Or(cfg.DefaultEndpoint, "/version")
	cfg.Interval = cmp.Or(cfg.Interval, 3*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, cfg.Interval-time.Millisecond)
	cfg.Fall = cmp.Or(cfg.Fall, 1)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Checker{
		cfg: cfg, log: cfg.Log, http: newHTTPClient(),
		slots: make(chan struct{}, cmp.Or(cfg.Concurrency, 256)),
		took: promauto.With(cfg.Metrics).NewHistogramVec(prometheus.HistogramOpts{
			Name: "sidecar_check_duration_seconds", Help: "How long health checks took, by type and result.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 8),
		}, []string{"type", "result"}),
	}
}

// Watch checks the target until ctx ends. It reports the first result, and
// from then on each that differs from the one before.
func (c *Checker) Watch(ctx context.Context, t Target, report func(Result)) {
	check, err := c.prepare(t)
	if err != nil {
		// It can never pass: the labels are wrong and those of a container do not change.
		report(Result{ID: t.Service.ID, Status: pancake.Sick, Note: shorten(err.Error())})
		return
	}
	if check.run == nil {
		report(Result{ID: t.Service.ID, Status: pancake.Alive})
		return
	}
	hurry := newHurry(c.cfg.Interval)
	var last *Result
	for fails := 0; ctx.Err() == nil; {
		start := time.Now()
		err := c.once(ctx, check)
		if ctx.Err() != nil {
			return // the check failed because it was cut off
		}
		wait := c.cfg.Interval
		next := Result{ID: t.Service.ID, Status: pancake.Alive}
		if err == nil {
			fails, hurry = 0, newHurry(c.cfg.Interval)
		} else {
			fails++
			wait = min(wait, hurry.next(start))
			next.Status, next.Note = pancake.Sick, shorten(err.Error())
			if last != nil && last.Status == pancake.Alive && fails < c.cfg.Fall {
				next.Status = pancake.Alive
			}
		}
		if last == nil || *last != next {
			report(next)
			last = &next
		}
		if wait == c.cfg.Interval {
			wait -= rand.N(wait/10 + 1) // so that the checks of many services drift apart
		}
		sleep(ctx, wait-time.Since(start))
	}
}

// once runs one check when there is room for it.
func (c *Checker) once(ctx context.Context, check prepared) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	start := time.Now()
	err := check.run(ctx)
	result := "passed"
	if err != nil {
		result = "failed"
	}
	c.took.WithLabelValues(check.kind, result).Observe(time.Since(start).Seconds())
	return err
}

// hurry grows the wait between the first checks.
type hurry struct {
	backoff *backoff.ExponentialBackOff
	since   time.Time
	limit   time.Duration
}

func newHurry(interval time.Duration) *hurry {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.RandomizationFactor, b.MaxInterval = firstRetry, 1.5, 0.1, interval
	return &hurry{backoff: b, limit: interval}
}

func (h *hurry) next(now time.Time) time.Duration {
	if h.since.IsZero() {
		h.since = now
	}
	if now.Sub(h.since) > hurryFor {
		return h.limit
	}
	return h.backoff.NextBackOff()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// shorten bounds a note and keeps it on one line and valid UTF-8.
func shorten(s string) string { return clean(s, MaxNote) }
