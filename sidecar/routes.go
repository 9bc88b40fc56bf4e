package sidecar

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/api"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/feed"
	"github.com/pancake-stack/pancake/sidecar/traefik"
)

// dockerPatience is how long the first routes wait for Docker where peers have
// services to route to. A Sidecar without either has nothing to say.
const dockerPatience = 30 * time.Second

// settle returns when the catalogue is as complete as it will be for now. Routes
// that were made earlier would take away those that an ingress still has from
// before this Sidecar was restarted.
func (s *Sidecar) settle(ctx context.Context) error {
	again := time.NewTicker(dockerPatience)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.owner.complete: // and so seeds have been asked before
			s.owner.flush(ctx)
			return nil
		case <-again.C:
			if len(s.gossip.Members()) > 1 {
				return nil
			}
		}
	}
}

// keepMaking is how long routes are still made after somebody has asked for them:
// several times the pause of a reader that polls.
const keepMaking = time.Minute

// routes makes Traefik's configuration from the catalogue, for as long as somebody
// reads it: on most hosts of a large cluster nobody does.
type routes struct {
	builder *traefik.Builder
	state   *feed.Feed[*catalog.Snapshot]
	out     *feed.Feed[api.Routes]
	log     *slog.Logger
	known   map[traefik.Problem]bool // those that the last configuration had

	mu      sync.Mutex
	readers int           // those that are reading now
	asked   time.Time     // when the last one came or went
	awake   chan struct{} // closed by the next reader; nil while routes are made
	fresh   chan struct{} // closed by the next configuration; nil while routes are made
}

// run makes a configuration now and, while there are readers, after each change of
// the catalogue. It shows each that differs from the one before.
func (r *routes) run(ctx context.Context) error {
	var last []byte
	for {
		start := time.Now()
		snap, changed := r.state.Get()
		conf, problems := r.builder.Build(values(snap.Services()))
		line, err := conf.Line()
		if err != nil {
			return err
		}
		if !bytes.Equal(line, last) {
			document, err := conf.Document()
			if err != nil {
				return err
			}
			last = line
			r.out.Set(api.Routes{Line: line, Document: document})
		}
		r.tell(ctx, problems)
		r.caughtUp()
		// Under constant change this takes half a core at most. A change that comes
		// after a quiet moment is not held up.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(time.Second, time.Since(start))):
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		if err := r.rest(ctx); err != nil {
			return err
		}
	}
}

// rest returns at once while there are readers, else when one comes.
func (r *routes) rest(ctx context.Context) error {
	r.mu.Lock()
	if r.readers > 0 || time.Since(r.asked) < keepMaking {
		r.mu.Unlock()
		return nil
	}
	r.awake, r.fresh = make(chan struct{}), make(chan struct{})
	awake := r.awake
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-awake:
		return nil
	}
}

// caughtUp lets go those that came while no routes were made.
func (r *routes) caughtUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fresh != nil {
		close(r.fresh)
		r.fresh = nil
	}
}

// read serves what reads the routes. One that comes while none are made waits for them.
func (r *routes) read(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fresh := r.enter()
		defer r.leave()
		if fresh != nil {
			select {
			case <-fresh:
			case <-req.Context().Done():
			}
		}
		next.ServeHTTP(w, req)
	})
}

// enter counts a reader. What it returns is closed when the routes are up to date; nil
// means that they are.
func (r *routes) enter() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers++
	r.asked = time.Now()
	if r.awake != nil {
		close(r.awake)
		r.awake = nil
	}
	return r.fresh
}

func (r *routes) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers--
	r.asked = time.Now()
}

// tell logs the problems that were not there the last time.
func (r *routes) tell(ctx context.Context, problems []traefik.Problem) {
	known := make(map[traefik.Problem]bool, len(problems))
	for _, p := range problems {
		known[p] = true
		if !r.known[p] {
			r.log.WarnContext(ctx, "a service is not routed as it asks", "service", p.Service, "label", p.Label, "problem", p.Message)
		}
	}
	r.known = known
}

// values copies services: the builder must not see what others share.
func values(list []*pancake.Service) []pancake.Service {
	out := make([]pancake.Service, len(list))
	for i, s := range list {
		out[i] = *s
	}
	return out
}
