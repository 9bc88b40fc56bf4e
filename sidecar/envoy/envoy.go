// Package envoy is the control plane of Envoy proxies: it serves the catalogue as
// clusters, endpoints and listeners over xDS version 3, aggregated on one gRPC
// stream, and pushes each change.
//
// The names and the shape of the resources are NinesStack Sidecar's, so that an
// Envoy which was configured for that works here. A change of one service's
// instances is one resource on the wire, and a proxy that refuses a resource is
// not sent it again until it changes.
package envoy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/envoy/export"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// Config says what is served, and where. State is required.
type Config struct {
	State *feed.Feed[*catalog.Snapshot]
	// Addr is where proxies connect. Default 127.0.0.1:7776. Listener, if set, is
	// used instead; Run closes it.
	Addr     string
	Listener net.Listener
	// TLS, if set, is what proxies need to talk.
	TLS *tls.Config
	// BindIP is where proxies listen. Default 192.168.168.168, NinesStack Sidecar's.
	BindIP string
	// UseHostnames has proxies connect to the address that a host's name resolves
	// to here, instead of the one that it announces. It is for development.
	UseHostnames bool
	// Ready, if set, is closed when the catalogue is complete enough for proxies: until then
	// they wait for their first answer.
	Ready <-chan struct{}
	// Zone says where a host is, for proxies that route by locality. Default: none says.
	Zone    func(host string) string
	Log     *slog.Logger          // default: none
	Metrics prometheus.Registerer // default: none
}

// Server is a control plane.
type Server struct {
	cfg     Config
	caches  *caches
	names   *names // nil unless hostnames are used
	known   map[export.Problem]bool
	watcher *watcher
}

// New makes a Server. Run starts it. It fails with Invalid for a BindIP that is
// no address.
func New(cfg Config) (*Server, error) {
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:7776")
	cfg.BindIP = cmp.Or(cfg.BindIP, "192.168.168.168")
	if _, err := netip.ParseAddr(cfg.BindIP); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "envoy: %q, where proxies are to listen, is no IP address", cfg.BindIP)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, caches: newCaches(), known: map[export.Problem]bool{}, watcher: newWatcher(cfg.Log)}
	if cfg.UseHostnames {
		s.names = newNames(net.DefaultResolver)
	}
	for _, c := range []prometheus.Collector{s.watcher.rejected, s.watcher.proxies} {
		if cfg.Metrics == nil {
			break
		}
		if err := cfg.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of envoy: %w", err)
		}
	}
	return s, nil
}

// Run serves until ctx ends. It fails at once if it cannot listen.
func (s *Server) Run(ctx context.Context) error {
	ln := s.cfg.Listener
	if ln == nil {
		var err error
		if ln, err = serve.Listen(ctx, s.cfg.Addr); err != nil {
			return fmt.Errorf("envoy: %w", err)
		}
	}
	defer ln.Close() // the server closes it, too, once it runs
	if s.cfg.Ready != nil {
		select {
		case <-s.cfg.Ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	server := grpc.NewServer(s.options()...)
	discovery.RegisterAggregatedDiscoveryServiceServer(server, newADS(ctx, s.caches, s.watcher))
	group.Go(func() error { return s.push(ctx) })
	group.Go(func() error {
		if err := server.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("envoy: serve on %s: %w", ln.Addr(), err)
		}
		return ctx.Err()
	})
	group.Go(func() error {
		<-ctx.Done()
		server.Stop() // streams have no end of their own
		return ctx.Err()
	})
	return group.Wait()
}

// options bound what a client may cost: its requests are lists of names.
func (s *Server) options() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(4 << 20), grpc.MaxConcurrentStreams(100), grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
	if s.cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.cfg.TLS)))
	}
	return options
}

// zonesFresh is how long the zones of hosts are used. They become known, and change,
// without a change of the catalogue.
const zonesFresh = 30 * time.Second

// push hands each change of the catalogue to the proxies.
func (s *Server) push(ctx context.Context) error {
	for {
		start := time.Now()
		snap, changed := s.cfg.State.Get()
		clusters, problems := export.Clusters(snap.Services())
		again := s.names.resolve(ctx, clusters)
		more, err := s.caches.set(clusters, s.cfg.BindIP, s.cfg.Zone)
		if err != nil {
			return err
		}
		s.tell(ctx, append(problems, more...))
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
		case <-again:
		case <-time.After(zonesFresh):
		}
	}
}

// tell logs the problems that were not there the last time.
func (s *Server) tell(ctx context.Context, problems []export.Problem) {
	known := make(map[export.Problem]bool, len(problems))
	for _, p := range problems {
		known[p] = true
		if !s.known[p] {
			s.cfg.Log.WarnContext(ctx, "something is not exported to proxies", "service", p.Service, "service_port", p.Port, "problem", p.Message)
		}
	}
	s.known = known
}
