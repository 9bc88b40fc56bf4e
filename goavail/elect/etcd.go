package elect

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
)

// EtcdConfig says how a writer is elected through etcd. Place, Client and Key are required.
type EtcdConfig struct {
	Place    string
	Client   *clientv3.Client
	Key      string        // what the writer holds. Required
	Lease    time.Duration // default 10 s; etcd counts whole seconds
	Eligible func() bool   // default: always
	Log      *slog.Logger  // default: none
}

// Etcd elects a writer by a key with a lease. The key's revision is the epoch.
type Etcd struct {
	cfg EtcdConfig
	ttl int64

	mu     sync.Mutex
	lease  clientv3.LeaseID
	epoch  uint64
	until  time.Time
	wait   time.Time
	leader Leader
}

// callLimit bounds one call of etcd.
const callLimit = 2 * time.Second

// NewEtcd makes an Etcd. Run starts it.
func NewEtcd(cfg EtcdConfig) *Etcd {
	cfg.Lease = max(cmp.Or(cfg.Lease, 10*time.Second), 5*time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Eligible == nil {
		cfg.Eligible = func() bool { return true }
	}
	return &Etcd{cfg: cfg, ttl: int64((cfg.Lease + time.Second - 1) / time.Second)}
}

// Run campaigns, and prolongs what it won, until ctx ends; then it steps down. While etcd
// does not answer nobody becomes the writer, and who is stops in time.
func (e *Etcd) Run(ctx context.Context) error {
	tick := e.cfg.Lease / 10
	failing := false
	for {
		err := e.step(ctx)
		switch {
		case err == nil:
			failing = false
		case !failing && ctx.Err() == nil:
			failing = true // once: the rest is the same
			e.cfg.Log.WarnContext(ctx, "etcd does not answer; there is no writer until it does", "err", err)
		}
		select {
		case <-ctx.Done():
			e.Resign(0)
			return ctx.Err()
		case <-time.After(tick + rand.N(tick/2+1)):
		}
	}
}

func (e *Etcd) step(ctx context.Context) error {
	e.mu.Lock()
	leads, may := lasts(e.until, time.Now()), time.Now().After(e.wait)
	e.mu.Unlock()
	switch {
	case leads && !e.cfg.Eligible():
		e.cfg.Log.WarnContext(ctx, "this agent steps down as the writer: another one can do more")
		e.Resign(0)
		return e.look(ctx)
	case leads:
		_, err := e.prolong(ctx)
		return err
	case may && e.cfg.Eligible():
		return e.campaign(ctx)
	}
	return e.look(ctx)
}

// look reads who the writer is.
func (e *Etcd) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := e.cfg.Client.Get(ctx, e.cfg.Key)
	if err != nil {
		return unavailable(err)
	}
	e.note(resp.Kvs)
	return nil
}

func (e *Etcd) note(kvs []*mvccpb.KeyValue) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leader = Leader{}
	for _, kv := range kvs {
		e.leader = Leader{Place: string(kv.Value), Epoch: uint64(kv.CreateRevision)}
	}
}

// campaign takes the key if nobody has it.
func (e *Etcd) campaign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := e.look(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	taken := e.leader.Place != "" && e.leader.Place != e.cfg.Place
	e.mu.Unlock()
	if taken {
		return nil
	}
	began := time.Now() // the lease may run from here on
	granted, err := e.cfg.Client.Grant(ctx, e.ttl)
	if err != nil {
		return unavailable(err)
	}
	// A key with our name is from before a restart: places have one agent each.
	put := clientv3.OpPut(e.cfg.Key, e.cfg.Place, clientv3.WithLease(granted.ID))
	txn, err := e.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(e.cfg.Key), "=", 0)).Then(put).
		Else(clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Value(e.cfg.Key), "=", e.cfg.Place)}, []clientv3.Op{clientv3.OpDelete(e.cfg.Key)}, nil)).Commit()
	if err != nil {
		return unavailable(err)
	}
	if !txn.Succeeded {
		e.revoke(ctx, granted.ID)
		return nil
	}
	e.mu.Lock()
	e.lease, e.epoch, e.until = granted.ID, uint64(txn.Header.Revision), e.end(began)
	e.mu.Unlock()
	e.cfg.Log.InfoContext(ctx, "this agent is the writer now", "epoch", txn.Header.Revision)
	return nil
}

// end is when a lease that was prolonged at a time is taken to end: a fifth early.
func (e *Etcd) end(began time.Time) time.Time {
	lease := time.Duration(e.ttl) * time.Second
	return began.Add(lease - lease/5)
}

// prolong keeps the lease alive and sees to it that the key is still ours.
func (e *Etcd) prolong(ctx context.Context) (Leader, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	e.mu.Lock()
	lease, epoch := e.lease, e.epoch
	e.mu.Unlock()
	began := time.Now()
	if _, err := e.cfg.Client.KeepAliveOnce(ctx, lease); err != nil {
		return Leader{}, unavailable(err)
	}
	resp, err := e.cfg.Client.Get(ctx, e.cfg.Key)
	if err != nil {
		return Leader{}, unavailable(err)
	}
	if len(resp.Kvs) != 1 || uint64(resp.Kvs[0].CreateRevision) != epoch {
		e.mu.Lock()
		e.until = time.Time{}
		e.mu.Unlock()
		return Leader{}, pancake.Errorf(pancake.Conflict, "this agent is not the writer any more")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.until.IsZero() { // it has not resigned meanwhile
		e.until = e.end(began)
	}
	return Leader{Place: e.cfg.Place, Epoch: e.epoch, Until: e.until}, nil
}

// Leader returns who writes. Until is set if it is this agent.
func (e *Etcd) Leader() Leader {
	e.mu.Lock()
	defer e.mu.Unlock()
	if lasts(e.until, time.Now()) {
		return Leader{Place: e.cfg.Place, Epoch: e.epoch, Until: e.until}
	}
	if e.leader.Place == e.cfg.Place {
		return Leader{Epoch: e.leader.Epoch}
	}
	return e.leader
}

// Confirm asks etcd once more and returns this agent's lease from then on. It fails with
// Conflict when it is not the writer, with Unavailable when etcd does not answer.
func (e *Etcd) Confirm(ctx context.Context) (Leader, error) {
	if l := e.Leader(); l.Until.IsZero() {
		return Leader{}, pancake.Errorf(pancake.Conflict, "this agent is not the writer")
	}
	return e.prolong(ctx)
}

// Resign steps down and does not want to write for a while.
func (e *Etcd) Resign(rest time.Duration) {
	e.mu.Lock()
	lease := e.lease
	e.lease, e.until, e.wait = 0, time.Time{}, time.Now().Add(rest)
	e.mu.Unlock()
	if lease != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		e.revoke(ctx, lease)
	}
}

// revoke gives a lease back. If that fails it expires by itself.
func (e *Etcd) revoke(ctx context.Context, lease clientv3.LeaseID) {
	if _, err := e.cfg.Client.Revoke(ctx, lease); err != nil {
		e.cfg.Log.DebugContext(ctx, "a lease was not given back; it expires", "err", err)
	}
}

func unavailable(err error) error {
	return pancake.Errorf(pancake.Unavailable, "etcd: %w", err)
}
