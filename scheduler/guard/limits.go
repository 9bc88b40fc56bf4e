package guard

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pancake-stack/pancake"
)

// The defaults of Config, far above what people and programs need: a CLI that
// follows a deploy makes a few calls a second.
const (
	defaultRate  = 200
	defaultBurst = 1000
)

// maxBuckets bounds the clients that are remembered. Those that called last stay;
// the others begin anew with a full bucket.
const maxBuckets = 10_000

// What calls are counted by.
const (
	byAddress    = "address"
	byCredential = "credential"
)

// tooMany refuses a call of a client that has made too many.
type tooMany struct {
	error
	wait time.Duration
}

func (e *tooMany) Unwrap() error { return e.error }

// RetryAfter is how long the client has to wait.
func (e *tooMany) RetryAfter() time.Duration { return e.wait }

// take counts a call. It fails with Unavailable when the client has made too many.
func (g *Guard) take(by, key string) error {
	wait := g.limits.take(key, time.Now())
	if wait <= 0 {
		return nil
	}
	g.limited.WithLabelValues(by).Inc()
	return &tooMany{pancake.Errorf(pancake.Unavailable, "too many calls by this %s; try again in %s", by, max(wait, time.Second).Round(time.Second)), wait}
}

// limits is a token bucket for each client.
type limits struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*list.Element
	recent  *list.List // of bucket; who called last is in front
}

type bucket struct {
	key     string
	limiter *rate.Limiter
}

// newLimits allows calls a second, in bursts; calls 0 and less means no limit.
func newLimits(calls float64, burst int) *limits {
	l := &limits{rate: rate.Limit(calls), burst: burst, buckets: map[string]*list.Element{}, recent: list.New()}
	if calls <= 0 {
		l.rate = rate.Inf
	}
	return l
}

// take counts a call of a client. It returns how long the client has to wait when it
// has made too many; the call is not counted then.
func (l *limits) take(key string, now time.Time) (wait time.Duration) {
	if l.rate == rate.Inf {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.bucket(key).ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

func (l *limits) bucket(key string) *rate.Limiter {
	if e := l.buckets[key]; e != nil {
		l.recent.MoveToFront(e)
		return e.Value.(bucket).limiter
	}
	if len(l.buckets) >= maxBuckets {
		last := l.recent.Back()
		delete(l.buckets, l.recent.Remove(last).(bucket).key)
	}
	b := bucket{key, rate.NewLimiter(l.rate, l.burst)}
	l.buckets[key] = l.recent.PushFront(b)
	return b.limiter
}

// size is how many clients are remembered.
func (l *limits) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buckets)
}

// network is what the calls of an address are counted by: itself or, in IPv6, the
// network of which one machine has all.
func network(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return "address " + addr
	}
	if ip = ip.Unmap(); ip.Is6() {
		prefix, err := ip.WithZone("").Prefix(64)
		if err == nil {
			return "address " + prefix.String()
		}
	}
	return "address " + ip.String()
}
