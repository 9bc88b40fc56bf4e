// Package sidecar announces the services of one host to all others. It
// discovers containers, checks their health, spreads what it finds by gossip,
// and serves the whole catalogue, and Traefik's routes made from it, over HTTP.
//
// One goroutine owns the catalogue (see own). Discovery, checks, gossip and the
// API send it events and read snapshots, which never change; nobody waits for
// anybody else.
package sidecar

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/moby/moby/client"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/api"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/discover"
	"github.com/pancake-stack/pancake/sidecar/feed"
	"github.com/pancake-stack/pancake/sidecar/gossip"
	"github.com/pancake-stack/pancake/sidecar/health"
	"github.com/pancake-stack/pancake/sidecar/traefik"
)

// Sidecar is the Sidecar of one host.
type Sidecar struct {
	cfg     Config
	owner   *owner
	gossip  *gossip.Gossip
	checker *health.Checker
	routes  *routes
	refused *prometheus.CounterVec // callers of the API, by reason

	listening chan struct{} // closed when the API answers
}

// New checks cfg and makes a Sidecar. Run starts it.
func New(cfg Config) (*Sidecar, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	builder, err := traefik.New(traefik.Config{Domain: cfg.TraefikDomain, DefaultRule: cfg.TraefikRule})
	if err != nil {
		return nil, err
	}
	s := &Sidecar{cfg: cfg, listening: make(chan struct{})}
	s.owner = newOwner(catalog.New(cfg.Hostname, cfg.ClusterName), cfg.Log)
	s.gossip, err = gossip.New(gossip.Config{
		Name: cfg.Hostname, Cluster: cfg.ClusterName, Owner: s.owner, BindAddr: cfg.BindAddr, BindPort: cfg.BindPort,
		AdvertiseAddr: cfg.AdvertiseIP, Seeds: cfg.Seeds, Keys: cfg.GossipKeys, PushPull: cfg.PushPullInterval, Quiet: cfg.Quiet,
		Log: cfg.Log, Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	s.owner.publish = s.gossip.Publish
	s.checker = health.New(health.Config{
		Host: cfg.AdvertiseIP, Hostname: cfg.Hostname, DefaultEndpoint: cfg.DefaultCheckEndpoint,
		Interval: cfg.CheckInterval, Fall: cfg.CheckFall, Log: cfg.Log, Metrics: cfg.Metrics,
	})
	s.routes = &routes{builder: builder, state: s.owner.state, out: feed.New(api.Routes{}), log: cfg.Log, known: map[traefik.Problem]bool{}}
	if err := s.register(cfg.Metrics); err != nil {
		return nil, err
	}
	return s, nil
}

// Run works until ctx ends. It fails at once if it cannot listen.
func (s *Sidecar) Run(ctx context.Context) error {
	ln := s.cfg.Listener
	if ln == nil {
		var err error
		if ln, err = serve.Listen(ctx, s.cfg.HTTPAddr); err != nil {
			return fmt.Errorf("sidecar: %w", err)
		}
	}
	defer ln.Close() // for a part that fails before the server has taken it
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.owner.own(ctx) })
	group.Go(func() error { return s.gossip.Run(ctx) })
	group.Go(func() error { return s.discover(ctx) })
	group.Go(func() error {
		if err := s.settle(ctx); err != nil {
			return err
		}
		return s.routes.run(ctx)
	})
	handler := s.handler()
	if s.cfg.TLSListener != nil {
		defer s.cfg.TLSListener.Close()
		group.Go(func() error {
			return serve.Run(ctx, s.secured(ctx), s.guarded(handler), s.cfg.Log)
		})
	}
	group.Go(func() error {
		close(s.listening)
		return serve.Run(ctx, ln, handler, s.cfg.Log)
	})
	return group.Wait()
}

// Ready blocks until the API answers and all containers that run on this host
// are known, or ctx ends; then it says what it was waiting for.
func (s *Sidecar) Ready(ctx context.Context) error {
	for _, part := range []<-chan struct{}{s.listening, s.owner.complete} {
		select {
		case <-part:
		case <-ctx.Done():
			return s.notReady()
		}
	}
	return nil
}

// SetGossipKeys replaces the keys that gossip is encrypted with, also while Run works:
// the first encrypts, all decrypt. A new key goes second on all hosts before it goes first
// on any, and the old one stays until it encrypts nowhere; then no member is lost. It
// fails with Invalid for what is no key, and with Conflict when gossip began in clear.
func (s *Sidecar) SetGossipKeys(keys [][]byte) error { return s.gossip.SetKeys(keys) }

// notReady says what this Sidecar waits for, nil for nothing.
func (s *Sidecar) notReady() error {
	select {
	case <-s.owner.complete:
		return nil
	default:
		return pancake.Errorf(pancake.Unavailable, "the containers of this host are not all known yet; does docker answer?")
	}
}

// handler is the HTTP API.
func (s *Sidecar) handler() http.Handler {
	return api.Handler(api.Config{
		State: s.owner.state, Routes: s.routes.out, Members: s.gossip.Members, Drain: s.owner.drain,
		Ready: s.notReady, Metrics: s.cfg.Metrics, Log: s.cfg.Log,
	})
}

// seedPatience is how long discovery waits for a seed to answer.
const seedPatience = 3 * time.Second

// discover finds this host's services and has each checked. It begins when a
// seed has told what it knows of them from before a restart, if one answers.
func (s *Sidecar) discover(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.gossip.Joined():
	case <-time.After(seedPatience):
	}
	group, ctx := errgroup.WithContext(ctx)
	found := &services{owner: s.owner, checker: s.checker, group: group, watches: map[string]context.CancelFunc{}}
	if s.cfg.Passive {
		found.Settled(ctx)
		<-ctx.Done()
		return ctx.Err()
	}
	engine := s.cfg.Engine
	if engine == nil {
		docker, err := newEngine(s.cfg.DockerHost)
		if err != nil {
			return err
		}
		defer docker.Close()
		engine = docker
	}
	group.Go(func() error {
		return discover.NewDocker(discover.Config{
			AdvertiseIP: s.cfg.AdvertiseIP, Agent: s.cfg.Agent, ForeignContainers: s.cfg.ForeignContainers,
			NameLabel: s.cfg.NameLabel, Log: s.cfg.Log,
		}, engine, found).Run(ctx)
	})
	return group.Wait()
}

func newEngine(host string) (*client.Client, error) {
	option := client.FromEnv
	if host != "" {
		option = client.WithHost(host)
	}
	docker, err := client.New(option)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "docker host %q: %w", host, err)
	}
	return docker, nil
}
