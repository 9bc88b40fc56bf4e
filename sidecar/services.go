package sidecar

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/discover"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// services are those of this host: it is discovery's sink and has each of them
// checked for as long as it runs.
type services struct {
	owner   *owner
	checker *health.Checker
	group   *errgroup.Group
	watches map[string]context.CancelFunc
}

// Up announces a service and starts to check it.
func (s *services) Up(ctx context.Context, f discover.Found) {
	id := f.Service.ID
	if cancel := s.watches[id]; cancel != nil {
		cancel()
	}
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		return c.Discover(f.Service, now)
	})
	ctx, cancel := context.WithCancel(ctx)
	s.watches[id] = cancel
	target := health.Target{Service: f.Service, Type: f.CheckType, Args: f.CheckArgs}
	s.group.Go(func() error {
		s.checker.Watch(ctx, target, func(r health.Result) { s.report(ctx, r) })
		return nil
	})
}

// report takes the answer of a check. One that was stopped in the meantime has
// nothing to say: the owner looks at that once more, in the order of events.
func (s *services) report(ctx context.Context, r health.Result) {
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		if ctx.Err() != nil {
			return nil
		}
		return c.SetStatus(r.ID, r.Status, r.Note, now)
	})
}

// Gone ends a service.
func (s *services) Gone(ctx context.Context, id string) {
	if cancel := s.watches[id]; cancel != nil {
		cancel()
		delete(s.watches, id)
	}
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		return c.Remove(id, now)
	})
}

// Settled says that all services of this host have been discovered.
func (s *services) Settled(ctx context.Context) {
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		return c.Settle(now)
	})
}

var _ discover.Sink = (*services)(nil)
