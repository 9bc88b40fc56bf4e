package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// sessionTTL is how long a leader that vanished stays leader, in seconds.
const sessionTTL = 10

// Lead waits until me leads, calls fn with the term, and steps down when fn
// returns. The context that fn gets ends with ctx only: the term's Lost says
// when leading is over. A key that an earlier process of the same id left
// behind is removed first, so that a restart need not wait for it to expire;
// ids must therefore differ between schedulers that run at the same time.
func (s *Store) Lead(ctx context.Context, me state.Leader, fn func(context.Context, state.Term) error) error {
	value, err := json.Marshal(me)
	if err != nil {
		return fmt.Errorf("encode leader %s: %w", me.ID, err)
	}
	if err := s.evict(ctx, me.ID); err != nil {
		return err
	}
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(sessionTTL), concurrency.WithContext(ctx))
	if err != nil {
		return pancake.Errorf(pancake.Unavailable, "open a session in etcd: %w", err)
	}
	// Without a lead there is nothing to keep alive: a lease that cannot be
	// revoked must expire, or nobody could lead again.
	defer session.Orphan()
	election := concurrency.NewElection(session, leader)
	campaign, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-session.Done():
			cancel() // without a session the campaign waits in vain
		case <-campaign.Done():
		}
	}()
	err = election.Campaign(campaign, string(value))
	cancel()
	if err != nil {
		s.revoke(ctx, session.Lease())
		return pancake.Errorf(pancake.Unavailable, "campaign in etcd: %w", err)
	}
	err = fn(ctx, state.Term{Key: election.Key(), Revision: election.Rev(), Lost: session.Done()})
	s.revoke(ctx, session.Lease())
	return err
}

// revoke ends a lease, and with it the leadership, even when ctx has ended. If
// it cannot, the lease expires by itself.
func (s *Store) revoke(ctx context.Context, lease clientv3.LeaseID) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = s.client.Revoke(call, lease)
}

// evict ends the sessions that an earlier process of the same id left behind.
func (s *Store) evict(ctx context.Context, id string) error {
	call, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := s.client.Get(call, leader+"/", clientv3.WithPrefix())
	if err != nil {
		return pancake.Errorf(pancake.Unavailable, "read the leader from etcd: %w", err)
	}
	for _, kv := range resp.Kvs {
		var l state.Leader
		if json.Unmarshal(kv.Value, &l) == nil && l.ID == id {
			s.revoke(ctx, clientv3.LeaseID(kv.Lease))
		}
	}
	return nil
}

// Observe calls fn with the leader now and whenever it changes; with the zero
// Leader while there is none. It returns when ctx ends or etcd does not answer.
func (s *Store) Observe(ctx context.Context, fn func(state.Leader)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last, known := state.Leader{}, false
	changes := s.client.Watch(clientv3.WithRequireLeader(ctx), leader+"/", clientv3.WithPrefix())
	for {
		call, cancel := context.WithTimeout(ctx, callLimit)
		resp, err := s.client.Get(call, leader+"/", clientv3.WithFirstCreate()...)
		cancel()
		if err != nil {
			return pancake.Errorf(pancake.Unavailable, "read the leader from etcd: %w", err)
		}
		var now state.Leader
		for _, kv := range resp.Kvs {
			if err := json.Unmarshal(kv.Value, &now); err != nil {
				return fmt.Errorf("decode %s: %w", kv.Key, err)
			}
		}
		if !known || now != last {
			fn(now)
			last, known = now, true
		}
		w, ok := <-changes
		err = w.Err()
		if err == nil && !ok {
			err = cmp.Or(context.Cause(ctx), io.EOF)
		}
		if err != nil {
			return pancake.Errorf(pancake.Unavailable, "watch the leader in etcd: %w", err)
		}
	}
}
