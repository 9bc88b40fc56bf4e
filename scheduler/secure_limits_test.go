package scheduler_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/guard"
)

func TestTooManyCalls(t *testing.T) {
	// Nothing is given back while the test runs.
	c := newCluster(t, func(cfg *guard.Config) { cfg.Rate, cfg.Burst = 0.001, 40 })
	var refused error
	for range 60 {
		if _, refused = c.operator.Agents(t.Context()); refused != nil {
			break
		}
	}
	if pancake.KindOf(refused) != pancake.Unavailable || !strings.Contains(refused.Error(), "too many calls by this") {
		t.Fatalf("got %v", refused)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+"/v1/agents/a/freeze", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.operator.Token)
	resp, err := c.operator.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}

	var header metadata.MD
	_, csr := keyAndCSR(t)
	conn := c.dial(credentials.NewTLS(identity.JoinTLS(identity.FingerprintOf(c.trust[0]))))
	_, err = agentlink.NewIdentityClient(conn).Join(t.Context(), &agentlink.JoinRequest{Token: "pkj_guess", AgentId: "a1", Csr: csr}, grpc.Header(&header))
	if status.Code(err) != codes.ResourceExhausted || len(header.Get("retry-after")) != 1 {
		t.Errorf("join: %v, header %v", err, header)
	}
}

func TestACredentialIsLimitedWhereverItCallsFrom(t *testing.T) {
	c := newCluster(t, func(cfg *guard.Config) { cfg.Rate, cfg.Burst = 0.001, 40 })
	from := func(ip string) *client.Client {
		who := c.as(c.operator.Token)
		who.HTTP.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext
		return who
	}
	one, two := from("127.40.3.1"), from("127.40.3.2")
	for range 25 {
		if _, err := one.Agents(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var refused error
	for range 25 {
		if _, refused = two.Agents(t.Context()); refused != nil {
			break
		}
	}
	if refused == nil || !strings.Contains(refused.Error(), "too many calls by this credential") {
		t.Errorf("from another address: %v", refused)
	}
	stranger := from("127.40.3.2")
	stranger.Token = ""
	if _, err := stranger.Agents(t.Context()); pancake.KindOf(err) != pancake.Unauthenticated {
		t.Errorf("who has another credential, or none, from there: %v", err)
	}
}

func TestCallsThatAreHandedOnAreCountedOnce(t *testing.T) {
	c := newCluster(t, func(cfg *guard.Config) { cfg.Rate, cfg.Burst = 0.001, 40 })
	two, _ := startSecure(t, c.etcd, c.sealer, "two:2", func(cfg *guard.Config) { cfg.Rate = -1 })
	follower := c.as(c.operator.Token)
	follower.URL = two.URL
	eventually(t, "the follower knows the leader", func() bool {
		l, err := follower.Leader(t.Context())
		return err == nil && !l.Self
	})
	for range 60 { // counted by the follower, which has no limit, and not by the leader
		if _, err := follower.Agents(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if text := c.metrics(); !strings.Contains(text, "pancake_scheduler_limit_clients 2") {
		t.Errorf("clients are not counted: %s", text)
	}
}

// heard keeps what is logged.
type heard struct {
	mu sync.Mutex
	bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Buffer.Write(b)
}

func (h *heard) has(words ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range words {
		if !strings.Contains(h.String(), w) {
			return false
		}
	}
	return true
}

// A scheduler whose clock is an hour off refuses agents and users, says in its log
// why, counts it, and changes nothing.
func TestClockOfTheScheduler(t *testing.T) {
	var off atomic.Int64
	var log heard
	c := newCluster(t, func(cfg *guard.Config) {
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	short := identity.IssueOptions{Life: 30 * time.Minute, Grant: identity.Grant{Role: identity.Operator}}
	alice := c.leaf(c.authority(), identity.User, "alice", short)
	create := func() error {
		who := &client.Client{URL: c.URL, HTTP: client.NewHTTP(alice.ClientTLS(identity.Expect{}))}
		_, err := who.CreateToken(t.Context(), client.TokenBody{Type: client.JoinToken})
		return err
	}
	for _, test := range []struct {
		off    time.Duration
		reason identity.Reason
		words  []string
	}{
		{-time.Hour, identity.NotYetValid, []string{"/user/alice is valid from", "/agent/id-node-a is valid from", "check the clocks of both machines"}},
		{time.Hour, identity.Expired, []string{"/user/alice expired at", "check the clocks"}},
	} {
		off.Store(int64(test.off))
		if err := create(); err == nil {
			t.Fatalf("a clock %s off: a user was let in", test.off)
		}
		a := newAgent(t, "node-a", 1)
		a.creds = credentials.NewTLS(c.leaf(c.authority(), identity.Agent, a.info.ID, identity.IssueOptions{}).ClientTLS(identity.Expect{}))
		if test.off < 0 { // certificates of agents live longer than an hour: a scheduler that is ahead takes them
			a.start(c.grpc)
		}
		eventually(t, "the log says which check failed", func() bool { return log.has(test.words...) })
		eventually(t, "it is counted", func() bool { return c.counts(test.reason) })
		if test.off < 0 {
			a.halt()
		}
	}
	off.Store(0)
	if agents, err := c.operator.Agents(t.Context()); err != nil || len(agents) != 0 {
		t.Errorf("agents %v, %v", agents, err)
	}
	if all, err := c.operator.Tokens(t.Context(), client.JoinToken); err != nil || len(all) != 0 {
		t.Errorf("tokens %v, %v", all, err)
	}
	if err := create(); err != nil {
		t.Errorf("with the right time: %v", err)
	}
}
