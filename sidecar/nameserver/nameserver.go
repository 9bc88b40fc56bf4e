// Package nameserver answers DNS queries from the catalogue, over UDP and TCP: A,
// AAAA and SRV for the services of which an instance is alive.
//
// Below the domain there are
//
//	<service>.service             the main port of each instance
//	<port>.<service>.service      a ServicePort, or else a port of the container
//	_<service>._tcp.service       as RFC 2782 has it; _udp as well
//	_<port>._tcp.<service>.service
//	<address>.addr                what SRV records point to
//	ns                            the name server itself
//
// A label stands for a service whose name is the same when both are normalised;
// see Normalise. Instances in this host's zone come first, with SRV's better
// priority, and otherwise in random order.
package nameserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

const (
	// patience is how long a client on TCP may take to send a query or to read the
	// answer, and idle how long it may be quiet between two.
	patience = 5 * time.Second
	idle     = 10 * time.Second
	// maxConns bounds the connections over TCP. More wait.
	maxConns = 256
	// acceptAgain is the pause behind a connection that could not be accepted, such as for
	// want of file descriptors: the server tries again at once.
	acceptAgain = 10 * time.Millisecond
	// zonesFresh is how long the zones of hosts are used. They become known, and change,
	// without a change of the catalogue.
	zonesFresh = 30 * time.Second
)

// Config says what is answered. State is required.
type Config struct {
	State *feed.Feed[*catalog.Snapshot]
	// Addr is where UDP and TCP are served. Default 127.0.0.1:7753. Listener and
	// Packets, if both are set, are used instead; Run closes them.
	Addr     string
	Listener net.Listener
	Packets  net.PacketConn
	// Domain is what the names end in. Default pancake.internal.
	Domain string
	// TTL is how long an answer, and that there is none, may be kept. Default 1 s.
	TTL time.Duration
	// Advertise are the addresses of this name server, for its NS record. Default: none.
	Advertise []netip.Addr
	// Ready, if set, is closed when the catalogue is complete enough to answer from: until
	// then clients are told to ask elsewhere or again (SERVFAIL).
	Ready <-chan struct{}
	// Zone says where a host is. Default: all are in the same.
	Zone    func(host string) string
	Log     *slog.Logger          // default: none
	Metrics prometheus.Registerer // default: none
}

// Server is a name server.
type Server struct {
	cfg     Config
	zone    zone
	index   atomic.Pointer[index]
	queries *prometheus.CounterVec
}

// New makes a Server. Run starts it. It fails with Invalid for a domain that is none.
func New(cfg Config) (*Server, error) {
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:7753")
	domain := dns.CanonicalName(cmp.Or(cfg.Domain, "pancake.internal"))
	if _, ok := dns.IsDomainName(domain); !ok || domain == "." || len(domain) > 128 {
		return nil, pancake.Errorf(pancake.Invalid, "nameserver: %q is no domain of at most 127 characters", cfg.Domain)
	}
	ttl := cmp.Or(cfg.TTL, time.Second)
	if ttl < time.Second || ttl > time.Hour {
		return nil, pancake.Errorf(pancake.Invalid, "nameserver: answers cannot be kept for %s; 1s to 1h is possible", ttl)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, zone: zone{domain: domain, ttl: uint32(ttl / time.Second), addrs: cfg.Advertise},
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sidecar_dns_queries_total", Help: "DNS queries by the code of the answer."}, []string{"rcode"}),
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.queries); err != nil {
			return nil, fmt.Errorf("register the metrics of the name server: %w", err)
		}
	}
	s.refresh()
	return s, nil
}

// refresh makes the index of the catalogue as it is, and returns when it is old.
func (s *Server) refresh() <-chan struct{} {
	snap, changed := s.cfg.State.Get()
	s.index.Store(newIndex(snap.Services(), snap.Self, s.cfg.Zone))
	return changed
}

// Run serves until ctx ends. It fails at once if it cannot listen.
func (s *Server) Run(ctx context.Context) error {
	ln, packets, err := s.listen(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.follow(ctx) })
	for _, server := range []*dns.Server{
		{Listener: &limited{Listener: ln, free: make(chan struct{}, maxConns)}, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: func() time.Duration { return idle }},
		{PacketConn: packets, UDPSize: dns.DefaultMsgSize},
	} {
		_, tcp := server.Listener.(*limited)
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) { s.serve(w, req, !tcp) })
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		group.Go(func() error {
			defer close(ended)
			if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return pancake.Errorf(pancake.Unavailable, "nameserver: serve: %w", err)
			}
			return ctx.Err()
		})
		group.Go(func() error {
			<-ctx.Done()
			select {
			case <-started: // before that it cannot be stopped
			case <-ended:
				return ctx.Err()
			}
			grace, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer stop()
			_ = server.ShutdownContext(grace) // it has ended already, or clients are cut off
			return ctx.Err()
		})
	}
	return group.Wait()
}

// listen opens UDP and TCP on the same port.
func (s *Server) listen(ctx context.Context) (net.Listener, net.PacketConn, error) {
	if s.cfg.Listener != nil && s.cfg.Packets != nil {
		return s.cfg.Listener, s.cfg.Packets, nil
	}
	ln, err := serve.Listen(ctx, s.cfg.Addr)
	if err != nil {
		return nil, nil, fmt.Errorf("dns: %w", err)
	}
	packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", ln.Addr().String())
	if err == nil {
		return ln, packets, nil
	}
	_ = ln.Close() // it was not used yet
	kind := pancake.Invalid
	if errors.Is(err, syscall.EADDRINUSE) {
		kind = pancake.Conflict
	}
	return nil, nil, pancake.Errorf(kind, "dns: cannot listen on %s over UDP; stop the program that does or choose another address: %w", s.cfg.Addr, err)
}

// follow keeps the index up to date.
func (s *Server) follow(ctx context.Context) error {
	for {
		start := time.Now()
		changed := s.refresh()
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
		case <-time.After(zonesFresh):
		}
	}
}

func (s *Server) serve(w dns.ResponseWriter, req *dns.Msg, udp bool) {
	m := s.answer(req, udp)
	code := dns.RcodeToString[m.Rcode]
	if err := w.WriteMsg(m); err != nil {
		code = "unsent"
		s.cfg.Log.Debug("a DNS answer was not sent", "client", w.RemoteAddr().String(), "err", err)
	}
	s.queries.WithLabelValues(code).Inc()
}

func (s *Server) answer(req *dns.Msg, udp bool) *dns.Msg {
	if s.cfg.Ready != nil {
		select {
		case <-s.cfg.Ready:
		default:
			return new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
		}
	}
	return s.zone.answer(s.index.Load(), req, byChance, udp)
}

// limited is a listener with a bound on how many connections are open.
type limited struct {
	net.Listener
	free chan struct{}
}

// Accept is net.Listener's.
func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		if !errors.Is(err, net.ErrClosed) {
			time.Sleep(acceptAgain)
		}
		return nil, err
	}
	return &limitedConn{Conn: c, free: l.free}, nil
}

type limitedConn struct {
	net.Conn
	free   chan struct{}
	closed atomic.Bool
}

// Close is net.Conn's.
func (c *limitedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		<-c.free
	}
	return c.Conn.Close()
}
