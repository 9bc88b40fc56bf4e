package authority

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
)

// The schema. Values are JSON.
//
//	/pancake/v1/ca/state               caState: certificates in clear, private keys sealed
//	/pancake/v1/ca/issued/<kind>/<id>  issuedRecord, the newest certificate of an identity
//	/pancake/v1/ca/revoked/<kind>/<id> revocation
//	/pancake/v1/gossip-keys/state      gossipState: keys sealed
//	/pancake/v1/tokens/<id>            tokenRecord: a hash of the secret
//	/pancake/v1/audit/<order>          Entry; <order> sorts the newest first
const (
	root      = "/pancake/v1/"
	caKey     = root + "ca/state"
	issued    = root + "ca/issued/"
	revoked   = root + "ca/revoked/"
	gossipKey = root + "gossip-keys/state"
	tokens    = root + "tokens/"
	audit     = root + "audit/"
)

const (
	callLimit = 5 * time.Second // for one call to etcd
	page      = 500             // keys read at a time
	attempts  = 20              // of a transaction that others get ahead of
)

// document is a value in etcd and the revision it was read at, 0 when there is none.
type document[T any] struct {
	key      string
	value    T
	revision int64
}

func (d document[T]) exists() bool { return d.revision != 0 }

// unchanged holds while nobody has written the document since it was read.
func (d document[T]) unchanged() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(d.key), "=", d.revision)
}

// put writes a new value in the document's place.
func (d document[T]) put(value T) (clientv3.Op, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("encode %s: %w", d.key, err)
	}
	return clientv3.OpPut(d.key, string(b)), nil
}

// get reads one document.
func get[T any](ctx context.Context, a *Authority, key string) (document[T], error) {
	d := document[T]{key: key}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := a.client.Get(ctx, key)
	if err != nil {
		return d, unavailable("read", key, err)
	}
	for _, kv := range resp.Kvs {
		if err := decode(kv, &d.value); err != nil {
			return d, err
		}
		d.revision = kv.ModRevision
	}
	return d, nil
}

// list calls fn with each document below a prefix, in the order of their keys,
// until fn returns false.
func list[T any](ctx context.Context, a *Authority, from, end string, fn func(document[T]) bool) error {
	for {
		call, cancel := context.WithTimeout(ctx, callLimit)
		resp, err := a.client.Get(call, from, clientv3.WithRange(end), clientv3.WithLimit(page))
		cancel()
		if err != nil {
			return unavailable("read", from, err)
		}
		for _, kv := range resp.Kvs {
			d := document[T]{key: string(kv.Key), revision: kv.ModRevision}
			if err := decode(kv, &d.value); err != nil {
				return err
			}
			if !fn(d) {
				return nil
			}
		}
		if !resp.More {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// all calls fn with every document below a prefix.
func all[T any](ctx context.Context, a *Authority, prefix string, fn func(document[T])) error {
	return list(ctx, a, prefix, clientv3.GetPrefixRangeEnd(prefix), func(d document[T]) bool { fn(d); return true })
}

// commit makes writes if all conditions hold, and reports whether they did.
func (a *Authority) commit(ctx context.Context, conditions []clientv3.Cmp, writes ...clientv3.Op) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := a.client.Txn(ctx).If(conditions...).Then(writes...).Commit()
	if err != nil {
		return false, unavailable("write", "to "+root, err)
	}
	return resp.Succeeded, nil
}

// settle repeats a decision until it was made on what is still true when it is
// stored. Once reads, decides and commits; false says that others were faster.
func settle(ctx context.Context, what string, once func() (bool, error)) error {
	for n := range attempts {
		done, err := once()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(n+1) * 2 * time.Millisecond)):
		}
	}
	return pancake.Errorf(pancake.Unavailable, "%s: others changed the same %d times; try again", what, attempts)
}

// update replaces a document by what change makes of it.
func update[T any](ctx context.Context, a *Authority, key string, change func(document[T]) (T, error)) error {
	return settle(ctx, "change "+key, func() (bool, error) {
		d, err := get[T](ctx, a, key)
		if err != nil {
			return false, err
		}
		value, err := change(d)
		if err != nil {
			return false, err
		}
		put, err := d.put(value)
		if err != nil {
			return false, err
		}
		return a.commit(ctx, []clientv3.Cmp{d.unchanged()}, put)
	})
}

func decode(kv *mvccpb.KeyValue, into any) error {
	if err := json.Unmarshal(kv.Value, into); err != nil {
		return fmt.Errorf("decode %s: %w", kv.Key, err)
	}
	return nil
}

func unavailable(verb, key string, err error) error {
	return pancake.Errorf(pancake.Unavailable, "%s %s in etcd: %w", verb, key, err)
}
