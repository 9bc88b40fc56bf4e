// Package etcd keeps the scheduler's state in etcd. Each transaction compares
// the leader's key, so a scheduler that no longer leads cannot write.
package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/state"
)

const (
	callLimit = 5 * time.Second // for one call to etcd
	page      = 1000            // keys read at a time
)

// Store is the state in one etcd cluster.
type Store struct {
	client *clientv3.Client
}

// Open checks that the state in etcd is of a schema that this version knows,
// and begins one where there is none. It fails with Conflict when a newer
// version has written it.
func Open(ctx context.Context, client *clientv3.Client) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(versionKey), "=", 0)).
		Then(clientv3.OpPut(versionKey, strconv.Itoa(schema))).
		Else(clientv3.OpGet(versionKey)).Commit()
	if err != nil {
		return nil, pancake.Errorf(pancake.Unavailable, "etcd does not answer: %w", err)
	}
	if resp.Succeeded {
		return &Store{client}, nil
	}
	text := string(resp.Responses[0].GetResponseRange().Kvs[0].Value)
	found, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return nil, pancake.Errorf(pancake.Conflict, "%s in etcd holds %q; it is not the state of a Pancake scheduler", versionKey, text)
	case found > schema:
		return nil, pancake.Errorf(pancake.Conflict, "the state in etcd has schema version %d, this program knows versions up to %d; start a newer one", found, schema)
	}
	return &Store{client}, nil
}

// Load reads the whole state, as of one revision.
func (s *Store) Load(ctx context.Context) (*state.State, error) {
	st := state.New()
	var revision int64
	load := func(prefix string, decode func(value []byte) error) error {
		return s.scan(ctx, prefix, &revision, func(kv *mvccpb.KeyValue) error {
			if err := decode(kv.Value); err != nil {
				return fmt.Errorf("decode %s: %w", kv.Key, err)
			}
			return nil
		})
	}
	for prefix, decode := range map[string]func([]byte) error{
		requests: into(func(r *pancake.Request) { st.Apply(state.Change{Requests: []*pancake.Request{r}}) }),
		deploys:  into(func(d *pancake.Deploy) { st.Apply(state.Change{Deploys: []*pancake.Deploy{d}}) }),
		agents:   into(func(a *pancake.Agent) { st.Apply(state.Change{Agents: []*pancake.Agent{a}}) }),
		tasks:    into(func(t *pancake.Task) { st.Apply(state.Change{Tasks: []*pancake.Task{t}}) }),
		ended:    into(func(t *pancake.Task) { st.Apply(state.Change{Ended: []*pancake.Task{t}}) }),
	} {
		if err := load(prefix, decode); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func into[T any](apply func(*T)) func([]byte) error {
	return func(b []byte) error {
		v := new(T)
		if err := json.Unmarshal(b, v); err != nil {
			return err
		}
		apply(v)
		return nil
	}
}

// scan calls fn with each key below prefix, in order. The first answer sets
// the revision that the rest is read at.
func (s *Store) scan(ctx context.Context, prefix string, revision *int64, fn func(*mvccpb.KeyValue) error) error {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		call, cancel := context.WithTimeout(ctx, callLimit)
		resp, err := s.client.Get(call, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(*revision))
		cancel()
		if err != nil {
			return pancake.Errorf(pancake.Unavailable, "read %s from etcd: %w", prefix, err)
		}
		*revision = resp.Header.Revision
		for _, kv := range resp.Kvs {
			if err := fn(kv); err != nil {
				return err
			}
		}
		if !resp.More {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Commit stores changes in order, each as a whole, many per transaction. It
// may be repeated after a failure that leaves open what was stored. It fails
// with state.ErrDeposed once the term is over, and then stores nothing more.
func (s *Store) Commit(ctx context.Context, term state.Term, changes []state.Change) error {
	txns, err := batch(changes)
	if err != nil {
		return err
	}
	for _, txn := range txns {
		ops := make([]clientv3.Op, len(txn))
		for i, w := range txn {
			ops[i] = w.op()
		}
		call, cancel := context.WithTimeout(ctx, callLimit)
		resp, err := s.client.Txn(call).
			If(clientv3.Compare(clientv3.CreateRevision(term.Key), "=", term.Revision)).
			Then(ops...).Commit()
		cancel()
		if err != nil {
			return pancake.Errorf(pancake.Unavailable, "store %d keys in etcd, %s first: %w", len(txn), strings.TrimPrefix(txn[0].key, root), err)
		}
		if !resp.Succeeded {
			return fmt.Errorf("store %d keys in etcd: %w", len(txn), state.ErrDeposed)
		}
	}
	return nil
}
