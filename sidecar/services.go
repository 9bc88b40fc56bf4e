package sidecar

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/discover"
	"github.com/pancake-stack/pancake/sidecar/feed"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// services are those of this host: what all sources of discovery have found, each
// checked for as long as it runs. An ID belongs to the source that was first to
// tell of it; no other can change or end that service.
type services struct {
	owner   *owner
	checker *health.Checker
	group   *errgroup.Group
	log     *slog.Logger
	// listeners are the URLs of services that want to be told of changes, by ID.
	listeners *feed.Feed[map[string]string]

	mu        sync.Mutex
	sources   []*source
	unsettled int
	running   map[string]*running
}

// running is one service that is announced.
type running struct {
	source *source
	found  discover.Found
	cancel context.CancelFunc // ends its check
}

// claim is a service whose ID another source has, and what was last said of it.
type claim struct {
	found  discover.Found
	told   bool
	status pancake.ServiceStatus
	note   string
}

// source is discovery's sink for one way of finding services.
type source struct {
	*services
	name    string
	settled bool
	// waiting are those whose ID another source has.
	waiting map[string]claim
}

var _ discover.Sink = (*source)(nil)

func newServices(o *owner, checker *health.Checker, group *errgroup.Group, log *slog.Logger) *services {
	return &services{
		owner: o, checker: checker, group: group, log: log,
		listeners: feed.New(map[string]string{}), running: map[string]*running{},
	}
}

// source makes the sink for one source of discovery. All must be made before the
// first of them runs: the services are settled when all of them are.
func (s *services) source(name string) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &source{services: s, name: name, waiting: map[string]claim{}}
	s.sources = append(s.sources, out)
	s.unsettled++
	return out
}

// settle says that all services of this host have been discovered.
func (s *services) settle(ctx context.Context) {
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		return c.Settle(now)
	})
}

// Up announces a service and starts to check it.
func (s *source) Up(ctx context.Context, f discover.Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := f.Service.ID
	if other := s.running[id]; other != nil && other.source != s {
		if _, known := s.waiting[id]; !known {
			s.log.ErrorContext(ctx, "two sources of discovery have a service of this ID; the first one counts",
				"id", id, "first", other.source.name, "second", s.name, "service", f.Service.Name)
		}
		s.waiting[id] = claim{found: f}
		return
	}
	s.start(ctx, f)
}

// start announces and checks a service whose ID is free or the source's own.
func (s *source) start(ctx context.Context, f discover.Found) {
	id := f.Service.ID
	if old := s.running[id]; old != nil {
		old.cancel()
	}
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		return c.Discover(f.Service, now)
	})
	watching, cancel := context.WithCancel(ctx)
	s.running[id] = &running{source: s, found: f, cancel: cancel}
	s.listen(id, f.Listener)
	if f.Check.Told() {
		return // the source says what it is like
	}
	s.group.Go(func() error {
		s.checker.Watch(watching, health.Target{Service: f.Service, Spec: f.Check}, func(r health.Result) {
			s.report(watching, r.ID, r.Status, r.Note)
		})
		return nil
	})
}

// report takes the answer of a check. One that was stopped in the meantime has
// nothing to say: the owner looks at that once more, in the order of events.
func (s *services) report(ctx context.Context, id string, status pancake.ServiceStatus, note string) {
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		if ctx.Err() != nil {
			return nil
		}
		return c.SetStatus(id, status, note, now)
	})
}

// Status takes what the source itself knows of a service's health.
func (s *source) Status(ctx context.Context, id string, status pancake.ServiceStatus, note string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.waiting[id]; ok {
		c.told, c.status, c.note = true, status, note
		s.waiting[id] = c
	}
	if r := s.running[id]; r != nil && r.source == s && r.found.Check.Told() {
		s.report(ctx, id, status, note)
	}
}

// Gone ends a service. Another source that has one of this ID takes it over.
func (s *source) Gone(ctx context.Context, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
	r := s.running[id]
	if r == nil || r.source != s {
		return
	}
	r.cancel()
	delete(s.running, id)
	s.listen(id, "")
	s.owner.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		return c.Remove(id, now)
	})
	for _, other := range s.sources {
		if c, ok := other.waiting[id]; ok {
			delete(other.waiting, id)
			other.start(ctx, c.found)
			if c.told {
				other.report(ctx, id, c.status, c.note)
			}
			return
		}
	}
}

// Settled says that the source has told of all services that it has. When all
// sources have, the host's services are known.
func (s *source) Settled(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled {
		return
	}
	s.settled = true
	if s.unsettled--; s.unsettled == 0 {
		s.settle(ctx)
	}
}

// waitsFor names the sources that have not told of all that they have yet.
func (s *services) waitsFor() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, source := range s.sources {
		if !source.settled {
			out = append(out, source.name)
		}
	}
	return out
}

// taken reports whether another source has a service of this ID.
func (s *source) taken(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.running[id]
	return r != nil && r.source != s
}

// listen notes where a service wants to be told of changes, "" for nowhere.
func (s *services) listen(id, url string) {
	old, _ := s.listeners.Get()
	if old[id] == url {
		return
	}
	next := maps.Clone(old)
	if url == "" {
		delete(next, id)
	} else {
		next[id] = url
	}
	s.listeners.Set(next)
}
