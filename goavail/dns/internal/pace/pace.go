// Package pace keeps calls to a provider well under its limits, and away from it
// while it does not want any.
package pace

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// Pace lets calls through at a bounded rate.
type Pace struct {
	limiter *rate.Limiter

	mu    sync.Mutex
	until time.Time // before it, no call is made
}

// New allows burst calls at once and then perSecond, in the long run.
func New(perSecond float64, burst int) *Pace {
	return &Pace{limiter: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// Wait returns when the next call may be made. Rather than to wait longer than ctx
// lasts, or while calls are held back, it returns a dns.Error with RateLimited at once.
func (p *Pace) Wait(ctx context.Context) error {
	p.mu.Lock()
	held := time.Until(p.until)
	p.mu.Unlock()
	if held > 0 {
		return &dns.Error{
			Reason: dns.RateLimited, RetryAfter: held,
			Err: fmt.Errorf("the provider wants no calls for another %s", held.Round(time.Second)),
		}
	}
	if err := p.limiter.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the next call: %w", err)
		}
		return &dns.Error{
			Reason: dns.RateLimited,
			Err:    fmt.Errorf("more calls than the limit that goavail keeps: %w", err),
		}
	}
	return nil
}

// Hold keeps calls back for a while, if they are not held back for longer already.
func (p *Pace) Hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.until) {
		p.until = until
	}
}
