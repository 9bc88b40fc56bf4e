package authority

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit"
)

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

// rig is schedulers of one cluster, with one etcd and one clock.
type rig struct {
	t      *testing.T
	client *clientv3.Client
	key    identity.Secret
	clock  *clock
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, client: testkit.Etcd(t), key: identity.NewSealKey(), clock: &clock{t: time.Now()}}
}

func (r *rig) config() Config {
	s, err := identity.ParseKeySealer(r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return Config{Client: r.client, Sealer: s, Now: r.clock.now, Log: slog.New(slog.DiscardHandler)}
}

func (r *rig) open() *Authority {
	r.t.Helper()
	a, err := Open(r.t.Context(), r.config())
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// run runs a until the test ends.
func (r *rig) run(a *Authority) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run ended with %v", err)
		}
	})
}

func (r *rig) token(a *Authority, spec TokenSpec) identity.Token {
	r.t.Helper()
	tok, _, err := a.CreateToken(r.t.Context(), spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return tok
}

// join asks with a new key.
func (r *rig) join(a *Authority, tok identity.Token, id string) (identity.Leaf, error) {
	r.t.Helper()
	key, csr := newKey(r.t)
	_, issued, err := a.Join(r.t.Context(), identity.JoinRequest{Token: tok.Reveal(), ID: id, CSR: csr})
	if err != nil {
		return identity.Leaf{}, err
	}
	return identity.NewLeaf(key, issued, r.clock.now())
}

func (r *rig) peer(l identity.Leaf) identity.Peer {
	r.t.Helper()
	p, err := l.Check(r.clock.now())
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func wantReason(t *testing.T, what string, err error, want identity.Reason) {
	t.Helper()
	if err == nil || identity.ReasonOf(err) != want {
		t.Errorf("%s: %v, want reason %q", what, err, want)
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}
