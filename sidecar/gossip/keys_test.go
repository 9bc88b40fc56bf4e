package gossip

import (
	"bytes"
	"slices"
	"testing"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"
)

// Whatever the keys were: afterwards they are the wanted ones, the first one encrypts, and
// a slice that a reader holds of the ones before has not changed under its eyes.
func TestSetKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string) [][]byte {
			ids := rapid.SliceOfNDistinct(rapid.ByteRange(0, 6), 1, 5, rapid.ID).Draw(t, label)
			var keys [][]byte
			for _, id := range ids {
				keys = append(keys, bytes.Repeat([]byte{id}, 16))
			}
			return keys
		}
		has := some("has")
		ring, err := memberlist.NewKeyring(has, has[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			wants := some("wants")
			held := ring.GetKeys()
			before := slices.Clone(held)
			if err := setKeys(ring, wants); err != nil {
				t.Fatal(err)
			}
			got := slices.Clone(ring.GetKeys())
			if !bytes.Equal(got[0], wants[0]) {
				t.Fatalf("%x encrypts, not %x", got[0], wants[0])
			}
			slices.SortFunc(got, bytes.Compare)
			slices.SortFunc(wants, bytes.Compare)
			if !slices.EqualFunc(got, wants, slices.Equal) {
				t.Fatalf("got %x, want %x", got, wants)
			}
			if !slices.EqualFunc(held, before, slices.Equal) {
				t.Fatalf("a reader's %x became %x", before, held)
			}
		}
	})
}
