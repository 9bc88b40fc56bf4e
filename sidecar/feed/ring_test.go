package feed_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// TestRingReaders: a reader that comes back now and then sees each value once and
// in order, or is told that it missed some.
func TestRingReaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 5).Draw(t, "size")
		r := feed.NewRing[int](size)
		var written int
		positions := make([]uint64, 3)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			page := r.After(uint64(written))
			var more []int
			for range rapid.IntRange(0, 3).Draw(t, "values") {
				written++
				more = append(more, written)
			}
			r.Add(more...)
			select {
			case <-page.Changed:
				if len(more) == 0 {
					t.Fatal("woken for nothing")
				}
			default:
				if len(more) > 0 {
					t.Fatal("not woken")
				}
			}
			reader := rapid.IntRange(0, 2).Draw(t, "reader")
			at := positions[reader]
			page = r.After(at)
			if lost := written-int(at) > size; lost != page.Lost || lost && len(page.Values) > 0 {
				t.Fatalf("at %d of %d with room for %d: %+v", at, written, size, page)
			}
			for _, v := range page.Values {
				if at++; v != int(at) {
					t.Fatalf("got %d, want %d", v, at)
				}
			}
			if page.Last != uint64(written) || r.Last() != page.Last || !page.Lost && at != page.Last {
				t.Fatalf("at %d: %+v of %d", at, page, written)
			}
			positions[reader] = page.Last
		}
		if page := r.After(uint64(written) + 1); !page.Lost {
			t.Fatal("a position of the future is no position")
		}
	})
}

func TestEvents(t *testing.T) {
	e, other := feed.NewEvents(), feed.NewEvents()
	svc := &pancake.Service{ID: "a"}
	e.Add([]catalog.Change{
		{Service: svc, New: true, Before: pancake.Unknown},
		{Service: svc, Refresh: true},
		{Service: svc, Local: true},
		{Service: svc, Removed: true},
		{Service: svc, Before: pancake.Alive}, // its description changed
	})
	if e.Last() != 2 {
		t.Errorf("%d events", e.Last())
	}
	id := e.ID(2)
	if at, ok := e.Position(id); at != 2 || !ok {
		t.Errorf("%s is %d, %t", id, at, ok)
	}
	if _, ok := other.Position(id); ok {
		t.Errorf("%s means something to others", id)
	}
	for _, bad := range []string{"", "2", id + "x", id[:len(id)-1] + "-1"} {
		if _, ok := e.Position(bad); ok {
			t.Errorf("%q is a position", bad)
		}
	}
	one := e.After(0).Values[0]
	a, err := one.JSON()
	b, _ := one.JSON()
	if err != nil || &a[0] != &b[0] {
		t.Errorf("encoded twice, or %v", err)
	}
}
