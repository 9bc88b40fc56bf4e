package main

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
	"github.com/pancake-stack/pancake/scheduler/authority"
)

// identityServer is the real authority on a real etcd behind the agent link; its
// sessions only take agents in.
type identityServer struct {
	agentlink.UnimplementedIdentityServer
	agentlink.UnimplementedAgentLinkServer
	authority *authority.Authority
	source    *identity.Source
}

func newIdentityServer(t *testing.T) *identityServer {
	t.Helper()
	sealer, err := identity.ParseKeySealer(identity.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	a, err := authority.Open(t.Context(), authority.Config{Client: testkit.Etcd(t), Sealer: sealer, Cluster: "default"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(t.Context(), csr, identity.Identity{Cluster: "default", Kind: identity.Scheduler, ID: "s1"}, identity.IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := identity.NewLeaf(key, issued, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &identityServer{authority: a}
	if s.source, err = identity.NewSource(leaf); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve listens until stop or the end of the test.
func (s *identityServer) serve(t *testing.T, addr string) (stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(append(agentlink.ServerOptions(), grpc.Creds(grpccredentials.NewTLS(s.source.ServerTLS(identity.ServerOptions{
		Optional: true, Allow: s.authority.Allow,
	}))))...)
	agentlink.RegisterIdentityServer(srv, s)
	agentlink.RegisterAgentLinkServer(srv, s)
	go srv.Serve(ln)
	t.Cleanup(srv.Stop)
	return srv.Stop
}

func (s *identityServer) token(t *testing.T) string {
	t.Helper()
	token, _, err := s.authority.CreateToken(t.Context(), authority.TokenSpec{Type: identity.JoinToken})
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func (s *identityServer) Join(ctx context.Context, r *agentlink.JoinRequest) (*agentlink.Credentials, error) {
	_, issued, err := s.authority.Join(ctx, identity.JoinRequest{Token: r.GetToken(), ID: r.GetAgentId(), CSR: r.GetCsr()})
	return answer(issued, err)
}

func (s *identityServer) Renew(ctx context.Context, r *agentlink.RenewRequest) (*agentlink.Credentials, error) {
	who, ok := caller(ctx)
	if !ok {
		return nil, grpcstatus.Error(codes.Unauthenticated, "no certificate")
	}
	issued, err := s.authority.Renew(ctx, who, r.GetCsr())
	return answer(issued, err)
}

func answer(issued identity.Issued, err error) (*agentlink.Credentials, error) {
	if err != nil {
		return nil, grpcstatus.Error(codes.Unauthenticated, err.Error())
	}
	return &agentlink.Credentials{Certificate: [][]byte{issued.Cert}, Trust: issued.CAs, GossipKeys: issued.GossipKeys}, nil
}

func (s *identityServer) Session(stream grpc.BidiStreamingServer[agentlink.AgentMessage, agentlink.SchedulerMessage]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	who, ok := caller(stream.Context())
	if !ok || who.ID != first.GetRegister().GetAgentId() || who.Kind != identity.Agent {
		return grpcstatus.Errorf(codes.PermissionDenied, "%s registers as %q", who.Identity, first.GetRegister().GetAgentId())
	}
	if err := stream.Send(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Registered{Registered: &agentlink.Registered{}}}); err != nil {
		return err
	}
	for err == nil {
		_, err = stream.Recv()
	}
	return nil
}

func caller(ctx context.Context) (identity.Peer, bool) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(grpccredentials.TLSInfo)
	if !ok {
		return identity.Peer{}, false
	}
	return identity.PeerOf(&info.State)
}

// agentRun is "pancake agent" in this process.
type agentRun struct {
	out, errs logbuf.Buffer
	stop      func() (code int)
}

func startAgent(t *testing.T, args ...string) *agentRun {
	t.Helper()
	a := &agentRun{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"agent"}, args...), func(string) string { return "" }, &bytes.Buffer{}, &a.out, &a.errs)
	}()
	code, stopped := 0, false
	a.stop = func() int {
		cancel()
		if !stopped {
			code, stopped = <-done, true
		}
		return code
	}
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *agentRun) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); !strings.Contains(a.out.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q within %s:\n%s%s", text, startLimit, a.out.String(), a.errs.String())
		}
	}
}

// An agent joins with a token that is used up by that, keeps its identity, and starts
// with it while its scheduler is away; with --insecure it does not get in.
func TestSecureAgent(t *testing.T) {
	testkit.Docker(t)
	s := newIdentityServer(t)
	addr, dir := testkit.FreeAddr(t), t.TempDir()
	stop := s.serve(t, addr)
	args := func(more ...string) []string {
		return append([]string{
			"--scheduler", addr, "--data-dir", dir, "--hostname", "secure-agent", "--foreign-containers=false",
			"--http", testkit.FreeAddr(t), "--gossip", testkit.FreeAddr(t),
		}, more...)
	}
	token := s.token(t)
	first := startAgent(t, args("--join", token)...)
	first.waitFor(t, "Pancake is ready")
	if code := first.stop(); code != exitOK {
		t.Fatalf("exit code %d:\n%s", code, first.errs.String())
	}
	if strings.Contains(first.out.String()+first.errs.String(), token) {
		t.Error("the token was printed")
	}

	other := startAgent(t, args("--join", token, "--data-dir", t.TempDir())...)
	eventuallyIn(t, &other.errs, "has been used 1 of 1 times")
	if code := other.stop(); code != exitDenied {
		t.Errorf("a used token: exit code %d", code)
	}

	stop()
	away := startAgent(t, args()...)
	away.waitFor(t, "sidecar    ready")
	if strings.Contains(away.out.String(), "Pancake is ready") {
		t.Error("it is ready without a scheduler")
	}
	s.serve(t, addr)
	away.waitFor(t, "Pancake is ready")
	away.stop()

	plain := startAgent(t, args("--insecure", "--data-dir", filepath.Join(dir, "plain"))...)
	eventuallyIn(t, &plain.errs, "no link to the scheduler")
	if strings.Contains(plain.out.String(), "Pancake is ready") {
		t.Error("it got in without an identity")
	}
}

func eventuallyIn(t *testing.T, b *logbuf.Buffer, text string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); !strings.Contains(b.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q within %s:\n%s", text, startLimit, b.String())
		}
	}
}
