// Package sidecar announces the services of one host to all others. It
// discovers containers, checks their health, spreads what it finds by gossip,
// and serves the whole catalogue, and Traefik's routes made from it, over HTTP.
//
// One goroutine owns the catalogue (see own). Discovery, checks, gossip and the
// API send it events and read snapshots, which never change; nobody waits for
// anybody else.
package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/api"
	"github.com/pancake-stack/pancake/sidecar/api/document"
	"github.com/pancake-stack/pancake/sidecar/bridge"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	sidecarclient "github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/discover"
	"github.com/pancake-stack/pancake/sidecar/envoy"
	"github.com/pancake-stack/pancake/sidecar/feed"
	"github.com/pancake-stack/pancake/sidecar/gossip"
	"github.com/pancake-stack/pancake/sidecar/health"
	"github.com/pancake-stack/pancake/sidecar/nameserver"
	"github.com/pancake-stack/pancake/sidecar/notify"
	"github.com/pancake-stack/pancake/sidecar/traefik"
)

// Sidecar is the Sidecar of one host.
type Sidecar struct {
	cfg     Config
	owner   *owner
	gossip  *gossip.Gossip
	checker *health.Checker
	routes  *routes
	events  *feed.Events
	docs    *document.Cache
	// notifier tells those who asked for it of changes; envoy is nil if it is not wanted.
	notifier *notify.Notifier
	envoy    *envoy.Server
	names    *nameserver.Server // the same
	zones    zones
	refused  *prometheus.CounterVec // callers of the API, by reason

	listening chan struct{} // closed when the API answers
	settled   chan struct{} // closed when the catalogue is as complete as it will be for now
	found     atomic.Pointer[services]
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
	s := &Sidecar{cfg: cfg, events: feed.NewEvents(), docs: &document.Cache{}, listening: make(chan struct{}), settled: make(chan struct{})}
	s.owner = newOwner(catalog.New(cfg.Hostname, cfg.ClusterName), cfg.Log)
	s.owner.now = cfg.Now
	s.gossip, err = gossip.New(gossip.Config{
		Name: cfg.Hostname, Cluster: cfg.ClusterName, Owner: s.owner, BindAddr: cfg.BindAddr, BindPort: cfg.BindPort,
		AdvertiseAddr: cfg.AdvertiseIP, Seeds: cfg.Seeds, Keys: cfg.GossipKeys, PushPull: cfg.PushPullInterval, Quiet: cfg.Quiet,
		Version: cfg.Version, HTTP: cfg.listens(), Zone: cfg.Zone, Log: cfg.Log, Metrics: cfg.Metrics, Transport: cfg.Transport,
	})
	if err != nil {
		return nil, err
	}
	s.owner.publish = func(changes []catalog.Change) {
		s.events.Add(changes)
		s.gossip.Publish(changes)
	}
	s.checker = health.New(health.Config{
		Host: cfg.AdvertiseIP, Hostname: cfg.Hostname, DefaultEndpoint: cfg.DefaultCheckEndpoint,
		Interval: cfg.CheckInterval, Timeout: cfg.CheckTimeout, Rise: cfg.CheckRise, Fall: cfg.CheckFall, Log: cfg.Log, Metrics: cfg.Metrics,
	})
	s.zones.members = s.gossip.Members
	if err := s.newReaders(); err != nil {
		return nil, err
	}
	s.routes = &routes{builder: builder, state: s.owner.state, out: feed.New(api.Routes{}), log: cfg.Log, known: map[traefik.Problem]bool{}}
	if err := s.register(cfg.Metrics); err != nil {
		return nil, err
	}
	return s, nil
}

// newReaders makes those to whom the catalogue is pushed.
func (s *Sidecar) newReaders() (err error) {
	cfg := s.cfg
	s.notifier, err = notify.New(notify.Config{
		URLs: cfg.ListenerURLs, State: s.owner.state, Events: s.events, Hostname: cfg.Hostname, Docs: s.docs, Log: cfg.Log, Metrics: cfg.Metrics,
	})
	if err != nil {
		return err
	}
	if cfg.EnvoyAddr != "" {
		s.envoy, err = envoy.New(envoy.Config{
			State: s.owner.state, Addr: cfg.EnvoyAddr, BindIP: cfg.EnvoyBindIP, UseHostnames: cfg.EnvoyUseHostnames, Zone: s.zones.of,
			Ready: s.settled, Log: cfg.Log, Metrics: cfg.Metrics,
		})
		if err != nil {
			return err
		}
	}
	if cfg.DNSAddr != "" {
		s.names, err = nameserver.New(nameserver.Config{
			State: s.owner.state, Addr: cfg.DNSAddr, Domain: cfg.DNSDomain, TTL: cfg.DNSTTL, Zone: s.zones.of, Ready: s.settled, Log: cfg.Log, Metrics: cfg.Metrics,
		})
	}
	return err
}

// Run works until ctx ends. It fails at once, with a PortError, if it cannot listen.
func (s *Sidecar) Run(ctx context.Context) error {
	ln := s.cfg.Listener
	if ln == nil {
		var err error
		if ln, err = serve.Listen(ctx, s.cfg.HTTPAddr); err != nil {
			return ofPort(PortHTTP, err)
		}
	}
	defer ln.Close() // for a part that fails before the server has taken it
	group, ctx := errgroup.WithContext(ctx)
	found, err := s.newSources(group)
	if err != nil {
		return err
	}
	s.found.Store(found.found)
	group.Go(func() error { return s.owner.own(ctx) })
	group.Go(func() error { return ofPort(PortGossip, s.gossip.Run(ctx)) })
	group.Go(func() error { return s.discover(ctx, found) })
	group.Go(func() error { return s.notifier.Run(ctx) })
	group.Go(func() error { return found.followListeners(ctx, s.notifier) })
	// Before the catalogue is complete, proxies would lose what they have from before a restart.
	group.Go(func() error {
		if err := s.settle(ctx); err != nil {
			return err
		}
		close(s.settled)
		return s.routes.run(ctx)
	})
	if s.envoy != nil {
		group.Go(func() error { return ofPort(PortEnvoy, s.envoy.Run(ctx)) })
	}
	if s.names != nil {
		group.Go(func() error { return ofPort(PortDNS, s.names.Run(ctx)) })
	}
	handler := s.handler(found.registry)
	if s.cfg.TLSListener != nil {
		defer s.cfg.TLSListener.Close()
		group.Go(func() error { return s.serveOthers(ctx, handler) })
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

// Catalog returns what this Sidecar knows, and a channel that is closed when that
// changes. It never changes itself.
func (s *Sidecar) Catalog() (*catalog.Snapshot, <-chan struct{}) { return s.owner.state.Get() }

// Members lists the cluster by name, this host and those that are gone included.
func (s *Sidecar) Members() []sidecarclient.Member { return s.gossip.Members() }

// Metrics is where those of this Sidecar are, for what runs beside it.
func (s *Sidecar) Metrics() *prometheus.Registry { return s.cfg.Metrics }

// Ours is this Sidecar for a bridge that runs in the same process.
func (s *Sidecar) Ours() bridge.Ours {
	return bridge.Local{State: s.owner.state, Peers: s.gossip.Members, Merge: s.owner.Mirror}
}

// notReady says what this Sidecar waits for, nil for nothing.
func (s *Sidecar) notReady() error {
	select {
	case <-s.owner.complete:
		return nil
	default:
		return pancake.Errorf(pancake.Unavailable, "the services of this host are not all known yet: %s", s.waitsFor())
	}
}

// waitsFor says whose answer is missing, and where to look.
func (s *Sidecar) waitsFor() string {
	hints := map[Method]string{
		ByDocker: "does docker answer?", ByStatic: fmt.Sprintf("is the file %s right? The log says what is not", s.cfg.StaticFile), ByKubernetes: "does the API of Kubernetes answer?",
	}
	var out []string
	if found := s.found.Load(); found != nil {
		for _, name := range found.waitsFor() {
			if hint := hints[Method(name)]; hint != "" {
				out = append(out, hint)
			}
		}
	}
	return cmp.Or(strings.Join(out, "; "), "it is starting")
}

// handler is the HTTP API.
func (s *Sidecar) handler(registry *discover.Registry) http.Handler {
	cfg := api.Config{
		State: s.owner.state, Routes: s.routes.out, Events: s.events, Members: s.gossip.Members, Drain: s.owner.drain,
		Ready: s.notReady, ProxyIP: s.cfg.EnvoyBindIP, Docs: s.docs, Metrics: s.cfg.Metrics, Log: s.cfg.Log,
	}
	if registry != nil {
		cfg.Registrar = registrar{registry, s.owner}
	}
	return api.Protect(s.admin(api.Handler(cfg)))
}
