package sidecar

import (
	"bytes"
	"context"
	"log/slog"
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

// routes makes Traefik's configuration from the catalogue.
type routes struct {
	builder *traefik.Builder
	state   *feed.Feed[*catalog.Snapshot]
	out     *feed.Feed[api.Routes]
	log     *slog.Logger
	known   map[traefik.Problem]bool // those that the last configuration had
}

// run makes a configuration now and after each change of the catalogue, and
// shows each that differs from the one before.
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
	}
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
