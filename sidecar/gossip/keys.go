package gossip

import (
	"bytes"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake"
)

// newKeyring makes memberlist's keyring, nil without keys.
func newKeyring(keys [][]byte) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "gossip keys: %w", err)
	}
	return ring, nil
}

func checkKeys(keys [][]byte) error {
	for _, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return pancake.Errorf(pancake.Invalid, "gossip key: %d bytes long; an AES key has 16, 24 or 32", len(k))
		}
	}
	return nil
}

// SetKeys replaces the keys, also while Run works: the first encrypts, all decrypt.
// It fails with Invalid for what is no key, and with Conflict when this Gossip was made
// without: one that begins in clear stays so.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if g.keys == nil {
		return pancake.Errorf(pancake.Conflict, "gossip is not encrypted here; it has to be from its start")
	}
	if len(keys) == 0 {
		return pancake.Errorf(pancake.Invalid, "gossip is encrypted, and needs a key")
	}
	if err := checkKeys(keys); err != nil {
		return err
	}
	g.keysMu.Lock()
	defer g.keysMu.Unlock()
	return setKeys(g.keys, keys)
}

// setKeys makes the keys of a ring equal to keys.
func setKeys(ring *memberlist.Keyring, keys [][]byte) error {
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil {
			return pancake.Errorf(pancake.Invalid, "gossip key: %w", err)
		}
	}
	obsolete := func(k []byte) bool {
		return !slices.ContainsFunc(keys, func(w []byte) bool { return bytes.Equal(k, w) })
	}
	if slices.ContainsFunc(ring.GetKeys(), obsolete) {
		// RemoveKey moves what follows in place, under the eyes of those who decrypt. UseKey
		// brings to the front, so what is to go ends up last, and nothing is moved.
		for _, k := range slices.Backward(keys[1:]) {
			if err := ring.UseKey(k); err != nil {
				return pancake.Errorf(pancake.Internal, "gossip key: %w", err)
			}
		}
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return pancake.Errorf(pancake.Internal, "gossip key: %w", err)
	}
	for _, k := range slices.Backward(slices.Clone(ring.GetKeys())) {
		if !obsolete(k) {
			break
		}
		if err := ring.RemoveKey(k); err != nil {
			return pancake.Errorf(pancake.Internal, "gossip key: %w", err)
		}
	}
	return nil
}
