// Package health finds out whether a service answers: over HTTP, TCP or gRPC, or
// by running a program. Each service is checked on its own, and checks that hang
// keep only each other waiting.
package health

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
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
	// Interval is the time between two checks. Default 3 s, Sidecar's. A service may say otherwise.
	Interval time.Duration
	// Timeout bounds one check. Default 1 ms less than Interval, as Sidecar's. A service may say otherwise.
	Timeout time.Duration
	// Rise is how many passes in a row make a service Alive, Fall how many failures in a
	// row make it Sick. Default 1, as Sidecar. A service may say otherwise.
	Rise, Fall int
	// Concurrency bounds how many checks that answer soon run at the same time, Slow how
	// many others do. Programs have a quarter of both. Defaults 128 and 256: few enough that
	// each has its turn within Timeout where the machine is busy.
	Concurrency, Slow int
	Log               *slog.Logger          // default: none
	Metrics           prometheus.Registerer // default: none
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
	// quick is how soon a check answers that is not slow; quickProgram the same for
	// programs, which take longer to start.
	quick        = 250 * time.Millisecond
	quickProgram = 500 * time.Millisecond
	// programShare is how many other checks weigh as much as a program.
	programShare = 4
	// maxWarned bounds how many causes are remembered so that each is logged once:
	// they come from labels.
	maxWarned = 1000
)

func (cfg Config) withDefaults() Config {
	cfg.Host = cmp.Or(cfg.Host, "127.0.0.1")
	cfg.DefaultEndpoint = cmp.Or(cfg.DefaultEndpoint, "/version")
	cfg.Interval = cmp.Or(cfg.Interval, 3*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, cfg.Interval-time.Millisecond)
	cfg.Rise, cfg.Fall = cmp.Or(cfg.Rise, 1), cmp.Or(cfg.Fall, 1)
	cfg.Concurrency, cfg.Slow = cmp.Or(cfg.Concurrency, 128), cmp.Or(cfg.Slow, 256)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Target is a service and how to check it.
type Target struct {
	Service pancake.Service
	Spec    Spec
}

// Result is what the checks of a service say.
type Result struct {
	ID     string
	Status pancake.ServiceStatus // Alive or Sick
	Note   string                // why it is not entirely well
}

// Checker checks services. It is safe for concurrent use.
type Checker struct {
	cfg                Config
	log                *slog.Logger
	requests, programs *lanes
	transport          *http.Transport
	took               *prometheus.HistogramVec

	mu     sync.Mutex
	warned map[string]bool
}

// New makes a Checker.
func New(cfg Config) *Checker {
	cfg = cfg.withDefaults()
	return &Checker{
		cfg: cfg, log: cfg.Log, transport: newTransport(), warned: map[string]bool{},
		requests: newLanes(quick, cfg.Concurrency, cfg.Slow),
		programs: newLanes(quickProgram, max(1, cfg.Concurrency/programShare), max(1, cfg.Slow/programShare)),
		took: promauto.With(cfg.Metrics).NewHistogramVec(prometheus.HistogramOpts{
			Name: "sidecar_check_duration_seconds", Help: "How long health checks took, by type and result.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 8),
		}, []string{"type", "result"}),
	}
}

// Watch checks the target until ctx ends. It reports the first result, and
// from then on each that differs from the one before.
func (c *Checker) Watch(ctx context.Context, t Target, report func(Result)) {
	if t.Spec.Told() {
		return // whoever found the service knows
	}
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
	interval := check.interval
	verdict, hurry := judge{rise: check.rise, fall: check.fall}, newHurry(interval)
	// The first wait is any part of the second half of an interval, so that services
	// which were found together are not checked together.
	spread := interval / 2
	var last *Result
	for slow := false; ctx.Err() == nil; {
		start := time.Now()
		took, err := c.once(ctx, check, slow)
		if ctx.Err() != nil {
			return // the check failed because it was cut off
		}
		slow = took > check.lanes.quick
		status, note, ok := verdict.take(err)
		if next := (Result{t.Service.ID, status, note}); ok && (last == nil || *last != next) {
			report(next)
			last = &next
		}
		wait := interval
		switch {
		case err == nil:
			hurry = newHurry(interval)
		case !verdict.well():
			wait = min(wait, hurry.next(start))
		}
		if wait == interval {
			wait -= rand.N(spread + 1)
			spread = interval / 10
		}
		sleep(ctx, wait-time.Since(start))
	}
}

// once runs one check when there is room for it, and says how long it took.
func (c *Checker) once(ctx context.Context, check prepared, slow bool) (took time.Duration, err error) {
	err = check.lanes.run(ctx, slow, check.timeout, func(ctx context.Context) error {
		start := time.Now()
		err := check.run(ctx)
		took = time.Since(start)
		return err
	})
	result := "passed"
	if err != nil {
		result = "failed"
	}
	c.took.WithLabelValues(check.kind, result).Observe(took.Seconds())
	return took, err
}

// firstTime reports whether a cause has not been logged yet, however many services have it.
func (c *Checker) firstTime(cause string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned[cause] || len(c.warned) >= maxWarned {
		return false
	}
	c.warned[cause] = true
	return true
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
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// shorten bounds a note and keeps it on one line and valid UTF-8.
func shorten(s string) string { return clean(s, MaxNote) }
