package executor_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/membership"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
)

// authority signs whatever a node asks it to.
type authority struct {
	agentlink.UnimplementedIdentityServer
	ca  *identity.CA
	who identity.Identity

	mu   sync.Mutex
	keys [][]byte
}

func newAuthority(t *testing.T, agent string) *authority {
	t.Helper()
	ca, err := identity.NewCA("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &authority{ca: ca, keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, who: identity.Identity{Cluster: "c1", Kind: identity.Agent, ID: agent}}
}

func (a *authority) Join(_ context.Context, r *agentlink.JoinRequest) (*agentlink.Credentials, error) {
	return a.issue(r.GetCsr())
}

func (a *authority) Renew(_ context.Context, r *agentlink.RenewRequest) (*agentlink.Credentials, error) {
	return a.issue(r.GetCsr())
}

func (a *authority) issue(csr []byte) (*agentlink.Credentials, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	cert, err := a.ca.Issue(csr, a.who, identity.IssueOptions{}, time.Now())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &agentlink.Credentials{Certificate: [][]byte{cert.Raw}, Trust: identity.Bundle{a.ca.Cert}.DER(), GossipKeys: a.keys}, nil
}

// scheduler runs a scripted scheduler that takes only agents of the authority.
func (a *authority) scheduler(t *testing.T, allow func(identity.Peer) error) *scheduler {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.ca.Issue(csr, identity.Identity{Cluster: "c1", Kind: identity.Scheduler, ID: "s1"}, identity.IssueOptions{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	source, err := identity.NewSource(identity.Leaf{Key: key, Cert: cert, Bundle: identity.Bundle{a.ca.Cert}})
	if err != nil {
		t.Fatal(err)
	}
	creds := grpc.Creds(credentials.NewTLS(source.ServerTLS(identity.ServerOptions{Optional: true, Allow: allow})))
	return serveScheduler(t, creds, func(srv *grpc.Server) { agentlink.RegisterIdentityServer(srv, a) })
}

// secure gives the rig's executor an identity and a scheduler that asks for it.
func (r *rig) secure(a *authority, allow func(identity.Peer) error) *membership.Member {
	r.t.Helper()
	r.scheduler = a.scheduler(r.t, allow)
	m, err := membership.Open(r.t.Context(), membership.Config{
		Dir: filepath.Join(r.cfg.DataDir, "identity"), Self: a.who, Hostname: "node-1", Schedulers: []string{r.scheduler.addr},
		Token: func() (string, error) {
			return identity.NewToken(identity.JoinToken, a.ca.Fingerprint()).Reveal(), nil
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.cfg.SchedulerAddrs = []string{r.scheduler.addr}
	r.cfg.Credentials, r.cfg.TakeCredentials = m.Credentials(), m.Take
	return m
}

// The session over mutual TLS goes on, with all that it carries, while the node's
// certificate is replaced and new gossip keys come over it.
func TestSecureSession(t *testing.T) {
	r := newRig(t)
	a := newAuthority(t, r.agent)
	m := r.secure(a, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	var mu sync.Mutex
	var keys [][]byte
	if err := m.OnGossipKeys(func(k [][]byte) error {
		mu.Lock()
		defer mu.Unlock()
		keys = k
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r.start()
	first := m.Source().Leaf().Cert
	task := r.launch("secure", nil)
	r.scheduler.awaitState(task.ID, pancake.TaskRunning)

	next := [][]byte{bytes.Repeat([]byte{2}, 32), a.keys[0]}
	a.mu.Lock()
	a.keys = next
	a.mu.Unlock()
	r.scheduler.tell(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Credentials{
		Credentials: &agentlink.Credentials{GossipKeys: next, Renew: true},
	}})
	eventually(t, "a new certificate", func() bool { return !m.Source().Leaf().Cert.Equal(first) })
	eventually(t, "new gossip keys", func() bool { mu.Lock(); defer mu.Unlock(); return len(keys) == 2 && bytes.Equal(keys[0], next[0]) })
	r.scheduler.kill(task.ID, true)
	r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	r.scheduler.mu.Lock()
	defer r.scheduler.mu.Unlock()
	if r.scheduler.sessions != 1 {
		t.Errorf("%d sessions", r.scheduler.sessions)
	}
}

// A node that the scheduler refuses says so, and what to do.
func TestSecureSessionRefused(t *testing.T) {
	r := newRig(t)
	var log logbuf.Buffer
	r.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	r.secure(newAuthority(t, r.agent), func(identity.Peer) error { return identity.Deny(identity.Revoked, "revoked") })
	r.start()
	eventually(t, "the refusal in the log", func() bool {
		return strings.Contains(log.String(), "the scheduler refuses this node's certificate")
	}, func() any { return log.String() })
	r.scheduler.mu.Lock()
	defer r.scheduler.mu.Unlock()
	if r.scheduler.sessions != 0 {
		t.Error("it has a session")
	}
}

// A plain node gets nowhere with a secure scheduler, and a secure one does not talk
// in clear.
func TestSecureAndPlainStayApart(t *testing.T) {
	r := newRig(t)
	a := newAuthority(t, r.agent)
	plain := r.scheduler
	r.secure(a, nil)
	secure := r.scheduler
	var log logbuf.Buffer
	r.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	r.cfg.SchedulerAddrs = []string{plain.addr}
	r.start()
	eventually(t, "the reason", func() bool { return strings.Contains(log.String(), "does not speak TLS") }, func() any { return log.String() })
	r.stop()
	r.cfg.SchedulerAddrs, r.cfg.Credentials = []string{secure.addr}, nil
	r.start()
	eventually(t, "a warning", func() bool { return strings.Count(log.String(), "no link to the scheduler") > 1 }, func() any { return log.String() })
	for _, s := range []*scheduler{plain, secure} {
		s.mu.Lock()
		if s.sessions != 0 {
			t.Error("there was a session")
		}
		s.mu.Unlock()
	}
}
