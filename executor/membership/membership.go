// Package membership makes a node one of a secure cluster. It joins with a token,
// keeps the node's key, its certificate, the CAs that are trusted and the gossip keys
// in a directory, and replaces them in time and whenever the scheduler says so.
package membership

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
)

// Config says who the node is, and whom it may ask.
type Config struct {
	// Dir is where the identity is kept, for nobody else to read. Required.
	Dir string
	// Self is what the node is called. Required.
	Self     identity.Identity
	Hostname string
	// Schedulers are host:port of the schedulers' gRPC; any of them will do. Required.
	Schedulers []string
	// Token returns the text of a join token, "" when there is none. It is used only
	// when there is no stored identity that is good, so it may fail with NotFound
	// when there is. Default: there is none.
	Token func() (string, error)
	// Log takes what there is to say. Default: nothing is logged.
	Log *slog.Logger
	// Metrics takes the metrics. Default: nowhere.
	Metrics prometheus.Registerer
	// Now is the clock, for tests. Default time.Now.
	Now func() time.Time
}

// scheduler is whom a node expects at the other end.
func (c Config) scheduler() identity.Expect {
	return identity.Expect{Kinds: []identity.Kind{identity.Scheduler}, Now: c.Now}
}

// Member is a node that has an identity.
type Member struct {
	cfg     Config
	log     *slog.Logger
	files   files
	source  *identity.Source
	renewer *identity.Renewer
	fresh   bool // what the schedulers said last was said to this process
	metrics *metrics

	mu     sync.Mutex // also keeps writers of files apart
	keys   [][]byte
	onKeys func([][]byte) error
}

// Open takes up the stored identity, or joins with the token when there is none that
// is good; it then waits for a scheduler for as long as ctx lasts. It fails with Denied
// when there is no token either, or it is refused, and with Invalid when what is
// stored is damaged, readable for others or of another node.
func Open(ctx context.Context, cfg Config) (*Member, error) {
	if err := cfg.Self.Validate(); err != nil {
		return nil, err
	}
	if cfg.Dir == "" || len(cfg.Schedulers) == 0 {
		return nil, pancake.Errorf(pancake.Invalid, "an identity needs a directory to be kept in and the address of a scheduler")
	}
	if cfg.Token == nil {
		cfg.Token = func() (string, error) { return "", nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Member{
		cfg: cfg, files: files{identity.Files{Dir: cfg.Dir}},
		log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
	}
	var err error
	if m.metrics, err = newMetrics(cfg.Metrics, m); err != nil {
		return nil, err
	}
	if err := m.begin(ctx); err != nil {
		return nil, err
	}
	m.renewer, err = identity.NewRenewer(identity.RenewerConfig{
		Source: m.source, Renew: m.renew, Save: m.renewed, Done: m.metrics.renewed, Log: m.log,
	})
	return m, err
}

// begin finds or gets an identity.
func (m *Member) begin(ctx context.Context) error {
	leaf, keys, err := m.stored(m.cfg.Now())
	switch {
	case err == nil:
		if m.source, err = identity.NewSource(leaf); err != nil {
			return err
		}
		m.keys = keys
		return m.confirm(ctx)
	case pancake.KindOf(err) == pancake.NotFound, identity.ReasonOf(err) == identity.Expired:
		return m.join(ctx, err)
	}
	return m.denied(err)
}

// stored is the identity as it was kept, if it is good at now.
func (m *Member) stored(now time.Time) (identity.Leaf, [][]byte, error) {
	leaf, err := m.files.Load()
	if err != nil {
		return leaf, nil, err
	}
	if who := leaf.Identity(); who != m.cfg.Self {
		return leaf, nil, pancake.Errorf(pancake.Invalid,
			"%s holds the identity of %s, and this node is %s; correct --cluster-name or --data-dir, or remove the directory and join with a new token",
			m.cfg.Dir, who, m.cfg.Self)
	}
	if _, err := leaf.Check(now); err != nil {
		return leaf, nil, err
	}
	keys, err := m.files.loadKeys()
	return leaf, keys, err
}

// confirmTries is how often a scheduler is asked whether the stored identity is still
// good: its refusal may get lost when it hangs up while this side still writes.
const (
	confirmTries = 8
	confirmPause = 100 * time.Millisecond
)

// confirm joins anew when there is a token and the schedulers refuse the stored identity,
// as they do after a revocation. Whatever else goes wrong: the stored one is kept.
func (m *Member) confirm(ctx context.Context) error {
	token, err := m.cfg.Token()
	if token == "" && (err == nil || pancake.KindOf(err) == pancake.NotFound) {
		return nil // a token is not needed any more
	}
	if err != nil {
		return err
	}
	for range confirmTries {
		err = m.renewOnce(ctx)
		if err == nil {
			m.log.InfoContext(ctx, "the node has an identity; the join token is not used", "identity", m.cfg.Self.String())
			return nil
		}
		if identity.ReasonOf(err) == identity.Refused {
			return m.join(ctx, err)
		}
		sleep(ctx, confirmPause)
	}
	m.log.WarnContext(ctx, "no scheduler has confirmed the stored identity; the node starts with it", "identity", m.cfg.Self.String(), "err", err)
	return ctx.Err()
}

// renewOnce asks the schedulers for a new certificate, and uses it.
func (m *Member) renewOnce(ctx context.Context) error {
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return err
	}
	issued, err := m.renew(ctx, csr)
	if err != nil {
		return err
	}
	return m.adopt(key, issued)
}

// adopt makes what was issued the node's identity.
func (m *Member) adopt(key *ecdsa.PrivateKey, issued identity.Issued) error {
	leaf, err := identity.NewLeaf(key, issued, m.cfg.Now())
	if err != nil {
		return err
	}
	if who := leaf.Identity(); who != m.cfg.Self {
		return identity.Deny(identity.WrongPeer, "asked for a certificate of %s and got one of %s", m.cfg.Self, who)
	}
	if err := checkKeys(issued.GossipKeys); err != nil {
		return err
	}
	if err := m.renewed(leaf, issued); err != nil {
		return err
	}
	m.fresh = true
	if m.source == nil {
		m.source, err = identity.NewSource(leaf)
		return err
	}
	return m.source.Set(leaf)
}

// renewed keeps what was issued. The keys come first: without them an identity is of
// no use after a restart.
func (m *Member) renewed(leaf identity.Leaf, issued identity.Issued) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.setKeys(issued.GossipKeys); err != nil {
		return err
	}
	return m.files.Save(leaf)
}

// Run renews the certificate at two thirds of its life, and when Take is told to,
// until ctx ends. No connection is dropped for that.
func (m *Member) Run(ctx context.Context) error {
	if !m.fresh {
		m.renewer.Now() // trust and keys may have changed while the node was away
	}
	return m.renewer.Run(ctx)
}

// Credentials secure connections to schedulers, and to nobody else. Each new
// connection shows the certificate of its time.
func (m *Member) Credentials() credentials.TransportCredentials {
	return credentials.NewTLS(m.source.ClientTLS(m.cfg.scheduler()))
}

// Source is the node's certificate and the CAs that it trusts.
func (m *Member) Source() *identity.Source { return m.source }

// GossipKeys are the keys to encrypt gossip with: the first encrypts, all decrypt.
func (m *Member) GossipKeys() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.keys)
}

// OnGossipKeys has fn told of the keys now, and whenever they change.
func (m *Member) OnGossipKeys(fn func([][]byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onKeys = fn
	return fn(m.keys)
}

// Take takes what a scheduler sends over a session: the CAs to be trusted, gossip
// keys, and the wish that the certificate be renewed now. What is missing stays as it
// is. It fails with Invalid for what cannot be, and then has changed nothing of that part.
func (m *Member) Take(ctx context.Context, c *agentlink.Credentials) error {
	if len(c.GetTrust()) > 0 {
		if err := m.trust(ctx, c.GetTrust()); err != nil {
			return err
		}
	}
	if len(c.GetGossipKeys()) > 0 {
		m.mu.Lock()
		err := m.setKeys(c.GetGossipKeys())
		m.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if c.GetRenew() {
		m.renewer.Now()
	}
	return nil
}

// trust replaces the CAs, unless the own certificate would not be good any more: it
// is renewed then, and the new CAs come with the new one.
func (m *Member) trust(ctx context.Context, ders [][]byte) error {
	bundle, err := identity.ParseBundle(ders)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	leaf := m.source.Leaf()
	if bundle.Equal(leaf.Bundle) {
		return nil
	}
	leaf.Bundle = bundle
	if _, err := leaf.Check(m.cfg.Now()); identity.ReasonOf(err) == identity.WrongCA {
		m.log.WarnContext(ctx, "the CA of the own certificate is no longer trusted; renewing", "err", err)
		m.renewer.Now()
		return nil
	}
	if err := m.files.SaveBundle(bundle); err != nil {
		return err
	}
	m.log.InfoContext(ctx, "trusted CAs changed", "cas", len(bundle))
	return m.source.SetBundle(bundle)
}

// setKeys uses and keeps gossip keys. The lock must be held.
func (m *Member) setKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	if slices.EqualFunc(keys, m.keys, slices.Equal) {
		return nil
	}
	if err := m.files.saveKeys(keys); err != nil {
		return err
	}
	m.keys = slices.Clone(keys)
	if m.onKeys == nil {
		return nil
	}
	m.log.Info("gossip keys changed", "keys", len(keys))
	return m.onKeys(m.keys)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
