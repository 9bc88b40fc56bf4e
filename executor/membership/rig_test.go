package membership

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
)

const cluster = "c1"

var self = identity.Identity{Cluster: cluster, Kind: identity.Agent, ID: "agent-1"}

// scheduler answers Join and Renew over real TLS with a CA of its own, and keeps an
// echo session open for those who have a certificate.
type scheduler struct {
	agentlink.UnimplementedIdentityServer
	agentlink.UnimplementedAgentLinkServer
	t      *testing.T
	addr   string
	source *identity.Source

	mu      sync.Mutex
	ca      *identity.CA
	trust   identity.Bundle
	token   identity.Token
	used    []byte // the CSR's key that the token was used with
	revoked time.Time
	keys    [][]byte
	life    time.Duration
	issueAt func() time.Time
	joins   int
	renewed int
	serials []string // of the certificates that sessions were opened with
}

func newScheduler(t *testing.T, kind identity.Kind) *scheduler {
	t.Helper()
	ca, err := identity.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &scheduler{
		t: t, ca: ca, trust: identity.Bundle{ca.Cert}, token: identity.NewToken(identity.JoinToken, ca.Fingerprint()),
		keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, issueAt: time.Now,
	}
	s.source = source(t, ca, identity.Identity{Cluster: cluster, Kind: kind, ID: "s1"}, time.Now())
	s.addr = s.listen("127.0.0.1:0")
	return s
}

// listen serves until the end of the test.
func (s *scheduler) listen(addr string) string {
	s.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	opts := append(agentlink.ServerOptions(), grpc.Creds(credentials.NewTLS(s.source.ServerTLS(identity.ServerOptions{
		Optional: true, Expect: identity.Expect{Kinds: []identity.Kind{identity.Agent}}, Allow: s.allow,
	}))))
	srv := grpc.NewServer(opts...)
	agentlink.RegisterIdentityServer(srv, s)
	agentlink.RegisterAgentLinkServer(srv, s)
	go srv.Serve(ln)
	s.t.Cleanup(srv.Stop)
	return ln.Addr().String()
}

func (s *scheduler) allow(p identity.Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.revoked.IsZero() && !p.Issued.After(s.revoked) {
		return identity.Deny(identity.Revoked, "revoked")
	}
	return nil
}

func (s *scheduler) change(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// Join takes one token, once, or again with the same key.
func (s *scheduler) Join(_ context.Context, r *agentlink.JoinRequest) (*agentlink.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joins++
	t, err := identity.ParseToken(identity.JoinToken, r.GetToken())
	hash := s.token.Hash()
	switch {
	case err != nil || t.ID != s.token.ID || !t.Matches(hash[:]):
		return nil, status.Error(codes.Unauthenticated, "this token is not known here")
	case s.used != nil && !bytes.Equal(s.used, csrKey(s.t, r.GetCsr())):
		return nil, status.Error(codes.Unauthenticated, "token "+t.ID+" has been used 1 of 1 times; make a new one")
	}
	s.used = csrKey(s.t, r.GetCsr())
	return s.issue(r.GetCsr(), r.GetAgentId())
}

func (s *scheduler) Renew(ctx context.Context, r *agentlink.RenewRequest) (*agentlink.Credentials, error) {
	who, ok := peerOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no certificate")
	}
	s.renewed++
	return s.issue(r.GetCsr(), who.ID)
}

func (s *scheduler) issue(csr []byte, id string) (*agentlink.Credentials, error) {
	cert, err := s.ca.Issue(csr, identity.Identity{Cluster: cluster, Kind: identity.Agent, ID: id}, identity.IssueOptions{Life: s.life}, s.issueAt())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &agentlink.Credentials{Certificate: [][]byte{cert.Raw}, Trust: s.trust.DER(), GossipKeys: s.keys}, nil
}

// Session answers each message with one, until the agent ends it.
func (s *scheduler) Session(stream grpc.BidiStreamingServer[agentlink.AgentMessage, agentlink.SchedulerMessage]) error {
	who, ok := peerOf(stream.Context())
	if !ok {
		return status.Error(codes.Unauthenticated, "no certificate")
	}
	s.change(func() { s.serials = append(s.serials, who.Serial) })
	for {
		if _, err := stream.Recv(); err != nil {
			return nil
		}
		if err := stream.Send(&agentlink.SchedulerMessage{}); err != nil {
			return err
		}
	}
}

func peerOf(ctx context.Context) (identity.Peer, bool) {
	p, _ := peer.FromContext(ctx)
	info, _ := p.AuthInfo.(credentials.TLSInfo)
	return identity.PeerOf(&info.State)
}

// away is an address where nobody listens.
func away(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func source(t *testing.T, ca *identity.CA, who identity.Identity, at time.Time) *identity.Source {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(csr, who, identity.IssueOptions{}, at)
	if err != nil {
		t.Fatal(err)
	}
	src, err := identity.NewSource(identity.Leaf{Key: key, Cert: cert, Bundle: identity.Bundle{ca.Cert}})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// config is a node's that knows the schedulers, with a token or "".
func config(t *testing.T, dir, token string, schedulers ...string) Config {
	return Config{
		Dir: dir, Self: self, Schedulers: schedulers, Hostname: "node-1",
		Token: func() (string, error) { return token, nil },
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func open(t *testing.T, cfg Config) (*Member, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return Open(ctx, cfg)
}

func mustOpen(t *testing.T, cfg Config) *Member {
	t.Helper()
	m, err := open(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// run has the member renew until the end of the test.
func run(t *testing.T, m *Member) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
