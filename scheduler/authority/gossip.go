package authority

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
)

// gossipBytes makes memberlist use AES-256.
const gossipBytes = 32

// gossipState is the gossip keys as etcd holds them.
type gossipState struct{ ring[gossipRecord] }

type gossipRecord struct {
	ID  string `json:"id"`  // says nothing about the key
	Key []byte `json:"key"` // sealed
}

// gossipView is the gossip keys as this scheduler uses them.
type gossipView struct {
	revision int64
	ids      []string
	keys     [][]byte // the one that encrypts first
	rotation Rotation
}

func (a *Authority) createGossip(ctx context.Context) error {
	d, err := get[gossipState](ctx, a, gossipKey)
	if err != nil || d.exists() {
		return err
	}
	first, err := a.newGossip(ctx)
	if err != nil {
		return err
	}
	put, err := d.put(gossipState{newRing(first, a.now())})
	if err != nil {
		return err
	}
	_, err = a.commit(ctx, []clientv3.Cmp{d.unchanged()}, put) // if another scheduler was faster, its key is the one
	return err
}

func (a *Authority) newGossip(ctx context.Context) (gossipRecord, error) {
	key, id := make([]byte, gossipBytes), make([]byte, 8)
	_, _ = rand.Read(key) // never fails
	_, _ = rand.Read(id)
	r := gossipRecord{ID: hex.EncodeToString(id)}
	var err error
	if r.Key, err = a.sealer.Seal(ctx, key, a.gossipContext(r.ID)); err != nil {
		return r, pancake.Errorf(pancake.KindOf(err), "seal a gossip key: %w", err)
	}
	return r, nil
}

func (a *Authority) gossipContext(id string) []byte {
	return []byte("pancake gossip key of " + a.cluster + " " + id)
}

func (a *Authority) viewGossip(ctx context.Context, d document[gossipState]) (gossipView, error) {
	v := gossipView{revision: d.revision, rotation: d.value.Rotation}
	if !d.exists() {
		return v, pancake.Errorf(pancake.Conflict, "the gossip keys are gone from etcd (%s); restore etcd from its backup", gossipKey)
	}
	for _, r := range d.value.all() {
		key, err := a.sealer.Open(ctx, r.Key, a.gossipContext(r.ID))
		if err != nil {
			return v, pancake.Errorf(pancake.KindOf(err), "open gossip key %s: %w", r.ID, err)
		}
		v.ids, v.keys = append(v.ids, r.ID), append(v.keys, key)
	}
	return v, nil
}

func (a *Authority) gossipView() gossipView {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.gossip
}

// GossipKeys are the keys for memberlist now, 32 bytes each: encrypt with the
// first, decrypt with all.
func (a *Authority) GossipKeys() [][]byte {
	var out [][]byte
	for _, k := range a.gossipView().keys {
		out = append(out, slices.Clone(k))
	}
	return out
}

// GossipStatus describes the gossip keys and their rotation.
func (a *Authority) GossipStatus() GossipStatus {
	v := a.gossipView()
	return GossipStatus{KeyIDs: slices.Clone(v.ids), Rotation: v.rotation}
}

// RotateGossipKey begins to replace the gossip key: the new one is handed out
// first, after overlap it encrypts, and after another overlap the old one is
// forgotten. The default overlap is that of RotateCA; when all members have
// confirmed the keys, AdvanceGossipKey need not wait for it. It fails with Conflict
// while a replacement is under way.
func (a *Authority) RotateGossipKey(ctx context.Context, overlap time.Duration) error {
	overlap, err := a.overlap(overlap)
	if err != nil {
		return err
	}
	next, err := a.newGossip(ctx)
	if err != nil {
		return err
	}
	return a.changeGossip(ctx, func(s gossipState) (gossipState, error) {
		r, err := s.begin(next, overlap, a.now())
		return gossipState{r}, err
	})
}

// AdvanceGossipKey ends the phase from at once. Members that lack the new key are
// then not understood. It fails with Conflict when the rotation is not in that phase.
func (a *Authority) AdvanceGossipKey(ctx context.Context, from Phase) error {
	return a.changeGossip(ctx, func(s gossipState) (gossipState, error) {
		r, err := s.advance(from, a.now())
		return gossipState{r}, err
	})
}

func (a *Authority) changeGossip(ctx context.Context, change func(gossipState) (gossipState, error)) error {
	err := update(ctx, a, gossipKey, func(d document[gossipState]) (gossipState, error) {
		if !d.exists() {
			return gossipState{}, pancake.Errorf(pancake.Conflict, "the gossip keys are gone from etcd (%s); restore etcd from its backup", gossipKey)
		}
		return change(d.value)
	})
	if err != nil {
		return err
	}
	return a.refresh(ctx)
}

// Reseal seals all that is sealed anew, with the sealer's current key. After it the
// key before is not needed any more, except for old backups of etcd.
func (a *Authority) Reseal(ctx context.Context) error {
	err := a.changeCA(ctx, func(s caState) (caState, error) {
		for _, r := range []*caRecord{&s.Current, s.Next} {
			if r == nil {
				continue
			}
			f := fingerprintOfDER(r.Cert)
			var err error
			if r.Key, err = a.reseal(ctx, r.Key, a.caContext(f)); err != nil {
				return s, err
			}
		}
		return s, nil
	})
	if err != nil {
		return err
	}
	return a.changeGossip(ctx, func(s gossipState) (gossipState, error) {
		for _, r := range []*gossipRecord{&s.Current, s.Next, s.Previous} {
			if r == nil {
				continue
			}
			var err error
			if r.Key, err = a.reseal(ctx, r.Key, a.gossipContext(r.ID)); err != nil {
				return s, err
			}
		}
		return s, nil
	})
}

func (a *Authority) reseal(ctx context.Context, sealed, context []byte) ([]byte, error) {
	plain, err := a.sealer.Open(ctx, sealed, context)
	if err != nil {
		return nil, pancake.Errorf(pancake.KindOf(err), "open what is to be sealed anew: %w", err)
	}
	again, err := a.sealer.Seal(ctx, plain, context)
	if err != nil {
		return nil, pancake.Errorf(pancake.KindOf(err), "seal anew: %w", err)
	}
	return again, nil
}
