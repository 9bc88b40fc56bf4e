// Package authority is the scheduler's side of identity: the CA, tokens, gossip
// keys, revocations and the audit log, kept in etcd and shared by all schedulers
// of a cluster. Nothing secret is in etcd in clear: private keys and gossip keys
// are sealed, of tokens only a hash is kept.
//
// Every scheduler may do everything here, leading or not: each decision is one
// transaction that fails when another scheduler was faster, and is then made anew.
package authority

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// DefaultCluster names a cluster that was given no name.
const DefaultCluster = "pancake"

// Config says where an Authority keeps things and how long they live.
type Config struct {
	// Client is of the etcd that holds the scheduler's state. Required.
	Client *clientv3.Client
	// Sealer encrypts what is secret in etcd. Required.
	Sealer identity.Sealer
	// Cluster is the name in every identity. Default DefaultCluster. It cannot change later.
	Cluster string
	// LeafLife is how long certificates are valid. Default identity.LeafLife.
	LeafLife time.Duration
	// Changed, if set, is called after the trusted CAs or the gossip keys have
	// changed, by Run and by whoever called the method that changed them: hand Bundle
	// and GossipKeys on. It must not block.
	Changed func()
	// AuditMax and AuditAge bound the audit log. Default 10,000 entries and 90 days.
	AuditMax int
	AuditAge time.Duration
	// Now is the clock, for tests. Default time.Now.
	Now func() time.Time
	// Log defaults to slog.Default.
	Log *slog.Logger
}

// Authority issues certificates and tokens, checks tokens and keeps the audit log.
// Its methods may be called from many goroutines.
type Authority struct {
	client   *clientv3.Client
	sealer   identity.Sealer
	cluster  string
	leafLife time.Duration
	changed  func()
	auditMax int
	auditAge time.Duration
	now      func() time.Time
	log      *slog.Logger

	mu      sync.RWMutex
	ca      caView
	gossip  gossipView
	revoked map[string]revocation // by kind/id

	flood flood
}

// Open loads the authority of a cluster, and makes its CA and its first gossip
// key when etcd holds none; of several schedulers that begin at once, one makes
// them and the others load. It fails with Conflict when etcd holds the CA of
// another cluster, with Invalid when the sealer cannot open what is stored, and
// with Unavailable when etcd does not answer.
func Open(ctx context.Context, cfg Config) (*Authority, error) {
	a, _, err := Init(ctx, cfg)
	return a, err
}

// Init is Open. It reports whether it was this call that made the CA.
func Init(ctx context.Context, cfg Config) (a *Authority, created bool, err error) {
	if a, err = newAuthority(cfg); err != nil {
		return nil, false, err
	}
	if created, err = a.bootstrap(ctx); err != nil {
		return nil, false, err
	}
	return a, created, nil
}

func newAuthority(cfg Config) (*Authority, error) {
	if cfg.Client == nil || cfg.Sealer == nil {
		return nil, pancake.Errorf(pancake.Invalid, "an authority needs etcd and a sealer")
	}
	a := &Authority{
		client: cfg.Client, sealer: cfg.Sealer, cluster: cmp.Or(cfg.Cluster, DefaultCluster),
		leafLife: cmp.Or(cfg.LeafLife, identity.LeafLife), changed: cfg.Changed,
		auditMax: cmp.Or(cfg.AuditMax, 10_000), auditAge: cmp.Or(cfg.AuditAge, 90*24*time.Hour),
		now: cfg.Now, log: cmp.Or(cfg.Log, slog.Default()), revoked: map[string]revocation{},
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.changed == nil {
		a.changed = func() {}
	}
	if a.leafLife < identity.MinLife || a.leafLife > identity.MaxLife {
		return nil, pancake.Errorf(pancake.Invalid, "certificates live %s to %s, not %s", identity.MinLife, identity.MaxLife, a.leafLife)
	}
	return a, identity.ValidCluster(a.cluster)
}

// Cluster is the cluster's name.
func (a *Authority) Cluster() string { return a.cluster }
