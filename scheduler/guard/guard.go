// Package guard makes a scheduler secure: it has the scheduler's certificate, gives
// agents theirs, tells who calls the API and what they may do, and keeps the audit log.
package guard

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/authority"
)

// TokenFile is the file below DataDir that the first operator's token is written to.
const TokenFile = "operator.token"

// Config says how a Guard works.
type Config struct {
	// Client is of the etcd that holds the scheduler's state, Sealer encrypts what is
	// secret there. Required.
	Client *clientv3.Client
	Sealer identity.Sealer
	// Cluster is the name of the cluster. Default authority.DefaultCluster.
	Cluster string
	// ID is the scheduler's. What cannot be part of an identity is replaced by "-". Required.
	ID string
	// Hosts are names and addresses for the certificate, for programs that check those.
	Hosts []string
	// DataDir gets operator.token when nobody has a token of an operator. Required.
	DataDir string
	// LeafLife is how long certificates are valid. Default 24 h.
	LeafLife time.Duration
	// Rate is how many calls a second a client may make, after Burst at once; below 0
	// as many as it likes. A client is an address and, once it is known, whoever has a token
	// or certificate. Default 200 and 1,000.
	Rate  float64
	Burst int
	// Now is the clock, for tests. Default time.Now.
	Now func() time.Time
	// Log defaults to slog.Default.
	Log *slog.Logger

	write func(path string, content []byte) error // of the token's file; identity.WritePrivate but in tests
}

// Guard is safe for concurrent use.
type Guard struct {
	authority *authority.Authority
	source    *identity.Source
	renewer   *identity.Renewer
	log       *slog.Logger
	now       func() time.Time
	refused   *prometheus.CounterVec
	limited   *prometheus.CounterVec
	clients   clients
	limits    *limits
	token     string // where the first operator's token was written to; "" if there was one
	watcher   atomic.Pointer[Watcher]
	open      atomic.Bool
}

// Watcher hears what the agents that are connected have to learn.
type Watcher struct {
	Changed func()             // trusted CAs or gossip keys have
	Revoked func(agent string) // the certificates of an agent were
}

// Open loads the authority of the cluster, or makes it, and gets the scheduler its
// certificate. It fails as authority.Open does.
func Open(ctx context.Context, cfg Config) (*Guard, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g := &Guard{log: cmp.Or(cfg.Log, slog.Default()), now: cfg.Now, clients: clients{busy: map[string]int{}}, refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pancake_scheduler_refused_total", Help: "Credentials and rights that were refused, by the check that failed.",
	}, []string{"reason"}), limited: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pancake_scheduler_limited_total", Help: "Calls that were not taken because their client had made too many, by what they were counted by.",
	}, []string{"by"}), limits: newLimits(cmp.Or(cfg.Rate, defaultRate), cmp.Or(cfg.Burst, defaultBurst))}
	var err error
	g.authority, err = authority.Open(ctx, authority.Config{
		Client: cfg.Client, Sealer: cfg.Sealer, Cluster: cfg.Cluster, LeafLife: cfg.LeafLife, Now: cfg.Now, Log: g.log,
		Changed: g.changed,
	})
	if err != nil {
		return nil, err
	}
	who := identity.Identity{Cluster: g.authority.Cluster(), Kind: identity.Scheduler, ID: validID(cfg.ID)}
	issue := func(ctx context.Context, csr []byte) (identity.Issued, error) {
		return g.authority.Issue(ctx, csr, who, identity.IssueOptions{Hosts: cfg.Hosts})
	}
	if g.source, err = firstLeaf(ctx, issue, cfg.Now()); err != nil {
		return nil, err
	}
	if g.renewer, err = identity.NewRenewer(identity.RenewerConfig{Source: g.source, Renew: issue, Log: g.log}); err != nil {
		return nil, err
	}
	g.open.Store(true)
	if cfg.write == nil {
		cfg.write = identity.WritePrivate
	}
	return g, g.firstOperator(ctx, filepath.Join(cfg.DataDir, TokenFile), cfg.write)
}

func firstLeaf(ctx context.Context, issue func(context.Context, []byte) (identity.Issued, error), now time.Time) (*identity.Source, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return nil, err
	}
	issued, err := issue(ctx, csr)
	if err != nil {
		return nil, err
	}
	leaf, err := identity.NewLeaf(key, issued, now)
	if err != nil {
		return nil, err
	}
	return identity.NewSource(leaf)
}

// validID makes an identity's id of a scheduler's, which as a rule is its address.
func validID(id string) string {
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@", r) {
			return r
		}
		return '-'
	}, id), "._-@")
}

// firstOperator makes a token for the first operator when nobody has one that is good.
func (g *Guard) firstOperator(ctx context.Context, path string, write func(string, []byte) error) error {
	known, err := g.authority.Tokens(ctx, identity.APIToken)
	if err != nil {
		return err
	}
	for _, t := range known {
		if t.Revoked == nil && t.Grant.Role == identity.Operator && g.now().Before(t.Expires) {
			return nil
		}
	}
	_, _, err = g.authority.CreateToken(ctx, authority.TokenSpec{
		Type: identity.APIToken, Name: "first operator", CreatedBy: g.source.Identity().String(), Grant: identity.Grant{Role: identity.Operator},
		// The file comes first: after a crash in between it holds a token that is good for
		// nothing, and the next start replaces it. The other way round nobody would get in.
		Keep: func(t identity.Token) error { return write(path, []byte(t.Reveal()+"\n")) },
	})
	if err == nil {
		g.token = path
	}
	return err
}

// FirstToken is the file that the first operator's token was written to, "" when there is one already.
func (g *Guard) FirstToken() string { return g.token }

// Fingerprint is that of the CA that issues.
func (g *Guard) Fingerprint() string { return identity.FingerprintOf(g.authority.Bundle()[0]).String() }

// Metrics are to be registered with the scheduler's.
func (g *Guard) Metrics() []prometheus.Collector {
	return []prometheus.Collector{g.refused, g.limited, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pancake_scheduler_limit_clients", Help: "Clients whose calls are counted now.",
	}, func() float64 { return float64(g.limits.size()) })}
}

// Watch replaces whom to tell of changes.
func (g *Guard) Watch(w Watcher) { g.watcher.Store(&w) }

// Run keeps the authority and the own certificate in order until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.authority.Run(ctx) })
	group.Go(func() error { return g.renewer.Run(ctx) })
	return group.Wait()
}

// changed uses what changed, and tells agents.
func (g *Guard) changed() {
	if !g.open.Load() {
		return // there is no certificate yet
	}
	if err := g.source.SetBundle(g.authority.Bundle()); err != nil {
		g.log.Error("trusted CAs not replaced", "err", err)
		return
	}
	if g.outdated(g.source.Leaf().Cert) {
		g.renewer.Now()
	}
	if w := g.watcher.Load(); w != nil {
		w.Changed()
	}
}

// ServerTLS is for what the scheduler listens with. Who has no certificate gets in,
// and is asked for something else.
func (g *Guard) ServerTLS() *tls.Config {
	return g.source.ServerTLS(identity.ServerOptions{Optional: true, Expect: identity.Expect{Now: g.now}, Allow: g.authority.Allow, Denied: func(from net.Addr, err error) {
		g.count(err)
		g.log.Warn("connection refused", "from", from.String(), "reason", string(identity.ReasonOf(err)), "err", err)
	}})
}

// PeerTLS is for calls of other schedulers.
func (g *Guard) PeerTLS() *tls.Config {
	return g.source.ClientTLS(identity.Expect{Kinds: []identity.Kind{identity.Scheduler}, Now: g.now})
}

func (g *Guard) count(err error) {
	if reason := identity.ReasonOf(err); reason != "" {
		g.refused.WithLabelValues(string(reason)).Inc()
	}
}

// good checks a certificate again that was good when its connection began.
func (g *Guard) good(p identity.Peer) error {
	if err := g.authority.Allow(p); err != nil {
		return err
	}
	if g.now().After(p.NotAfter) {
		return identity.Deny(identity.Expired, "the certificate of %s expired at %s; connect again with a new one", p.Identity, p.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// record keeps an entry of the audit log, whether its caller is still there or not.
func (g *Guard) record(ctx context.Context, e authority.Entry, err error) {
	e.Result = authority.ResultOK
	if err != nil {
		e.Result, e.Reason, e.Message = authority.ResultFailed, identity.ReasonOf(err), err.Error()
		if e.Reason != "" {
			e.Result = authority.ResultDenied
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := g.authority.Record(ctx, e); err != nil {
		g.log.ErrorContext(ctx, "audit entry not kept", "err", err)
	}
}
