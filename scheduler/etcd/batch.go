package etcd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pancake-stack/pancake/scheduler/state"
)

// What one transaction may hold. etcd's defaults are 128 operations and 1.5 MiB.
const (
	maxOps   = 128
	maxBytes = 1 << 20
)

// batch packs changes into transactions, in order and without splitting one.
// A key may be written once per transaction, so changes of the same keys are
// merged: the later value takes the place of the earlier.
func batch(changes []state.Change) ([][]write, error) {
	b := batcher{at: map[string]int{}}
	for _, c := range changes {
		ws, err := writes(c)
		if err != nil {
			return nil, err
		}
		b.add(ws)
	}
	return pack(b.groups)
}

// batcher collects groups of writes that belong together.
type batcher struct {
	groups [][]write
	at     map[string]int // the group that writes a key
}

func (b *batcher) add(ws []write) {
	into := len(b.groups)
	for _, w := range ws {
		if w.prefix {
			b.forget(w.key)
		}
		if g, ok := b.at[w.key]; ok {
			into = min(into, g)
		}
	}
	if into == len(b.groups) {
		b.groups = append(b.groups, nil)
	}
	for _, w := range ws {
		if g, ok := b.at[w.key]; ok {
			b.merge(into, g)
			b.remove(into, w.key)
		}
		b.groups[into] = append(b.groups[into], w)
		b.at[w.key] = into
	}
}

// merge moves what group from writes to group into.
func (b *batcher) merge(into, from int) {
	if into == from {
		return
	}
	for _, w := range b.groups[from] {
		b.at[w.key] = into
	}
	b.groups[into] = append(b.groups[into], b.groups[from]...)
	b.groups[from] = nil
}

// forget drops the writes below a prefix that is about to be deleted.
func (b *batcher) forget(prefix string) {
	for key, g := range b.at {
		if strings.HasPrefix(key, prefix) {
			b.remove(g, key)
			delete(b.at, key)
		}
	}
}

func (b *batcher) remove(group int, key string) {
	b.groups[group] = slices.DeleteFunc(b.groups[group], func(w write) bool { return w.key == key })
}

func pack(groups [][]write) ([][]write, error) {
	var txns [][]write
	var txn []write
	size := 0
	for _, g := range groups {
		bytes := 0
		for _, w := range g {
			bytes += len(w.key) + len(w.value)
		}
		if len(g) > maxOps || bytes > maxBytes {
			return nil, fmt.Errorf("one decision of %d writes and %d bytes is too large for a transaction (%d and %d)", len(g), bytes, maxOps, maxBytes)
		}
		if len(txn)+len(g) > maxOps || size+bytes > maxBytes {
			txns, txn, size = append(txns, txn), nil, 0
		}
		txn, size = append(txn, g...), size+bytes
	}
	if len(txn) > 0 {
		txns = append(txns, txn)
	}
	return txns, nil
}
