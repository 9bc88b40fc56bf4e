package gossip

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// converse has a compare with b until neither has anything to say, through the wire.
func converse(t interface{ Fatal(args ...any) }, a, b *catalog.Catalog, whole comparison) (bytes int) {
	type step struct {
		to, from *catalog.Catalog
		c        comparison
	}
	open1 := func(message []byte) comparison {
		_, body, err := open(message, maxMessage)
		if err != nil {
			t.Fatal(err)
		}
		c, err := readComparison(body)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	todo := []step{{b, a, whole}}
	for rounds := 0; len(todo) > 0; rounds++ {
		if rounds > 100 {
			t.Fatal("it does not end")
		}
		s := todo[0]
		todo = todo[1:]
		if s.c.empty() {
			continue
		}
		for _, message := range s.c.encode() {
			bytes += len(message)
			reply, merge := answer(s.to.Snapshot(), open1(message))
			s.to.Merge(merge, noon)
			todo = append(todo, step{s.from, s.to, reply})
		}
	}
	return bytes
}

// TestComparisonMakesEqual lets two nodes hear different things of the same living
// hosts, and of each other; after two comparisons they hold the same.
func TestComparisonMakesEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := catalog.New("a", "c"), catalog.New("b", "c")
		for _, c := range []*catalog.Catalog{a, b} {
			for _, h := range []string{"a", "b", "h", "i"} {
				c.HostJoined(h)
			}
			c.Settle(noon)
			for range rapid.IntRange(0, 10).Draw(t, "records") {
				c.Merge([]pancake.Service{{
					Hostname: rapid.SampledFrom([]string{"a", "b", "h", "i", "never"}).Draw(t, "host"), ID: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "id"),
					Name: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name"), Status: pancake.ServiceStatus(rapid.IntRange(0, 4).Draw(t, "status")),
					Updated: noon.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "age")) * time.Minute), Created: noon,
				}}, noon)
			}
		}
		a.Discover(pancake.Service{ID: "1", Name: "own"}, noon)
		if rapid.Bool().Draw(t, "gone and back") {
			b.HostGone("h", noon)
			b.HostJoined("h")
		}
		for range 2 { // the second carries what a host has answered in the first
			converse(t, a, b, begin(a.Snapshot()))
			converse(t, b, a, begin(b.Snapshot()))
		}
		if x, y := a.Snapshot(), b.Snapshot(); x.Digest != y.Digest {
			t.Fatalf("%v\n%v", x.Services(), y.Services())
		}
		if n := converse(t, a, b, begin(a.Snapshot())); n > 200 {
			t.Fatalf("%d bytes between two that are equal", n)
		}
	})
}

// A comparison costs what is different, not what there is.
func TestComparisonCostsTheDifference(t *testing.T) {
	a, b := catalog.New("a", "c"), catalog.New("b", "c")
	var all []pancake.Service
	for i := range 2000 {
		all = append(all, pancake.Service{Hostname: fmt.Sprintf("node-%d", i%200), ID: fmt.Sprintf("%012x", i), Name: "x", Updated: noon, Created: noon})
	}
	for _, c := range []*catalog.Catalog{a, b} {
		c.Merge(all, noon)
	}
	all[0].Updated = noon.Add(1)
	b.Merge(all[:1], noon)
	some := converse(t, a, b, begin(a.Snapshot(), "node-0"))
	b.Merge([]pancake.Service{{Hostname: "node-1", ID: "new", Updated: noon, Created: noon}}, noon)
	whole := converse(t, a, b, begin(a.Snapshot()))
	t.Logf("one record of 2,000 on 200 hosts: %d bytes if the host is known, %d if not", some, whole)
	if some > 600 || whole > 6000 || a.Snapshot().Digest != b.Snapshot().Digest {
		t.Error("too much")
	}
}

// Nobody speaks for a host that is gone, and an expired record does not come back by comparing.
func TestComparisonsLeaveTheGoneAlone(t *testing.T) {
	a, b := catalog.New("a", "c"), catalog.New("b", "c")
	records := []pancake.Service{{Hostname: "h", ID: "1", Updated: noon, Created: noon}, {Hostname: "never", ID: "1", Updated: noon, Created: noon}}
	for _, c := range []*catalog.Catalog{a, b} {
		c.HostJoined("h")
		c.Merge(records, noon)
	}
	a.HostGone("h", noon)
	a.Sweep(noon.Add(catalog.AliveFor + 1))
	converse(t, a, b, begin(a.Snapshot()))
	converse(t, b, a, begin(b.Snapshot()))
	if x, y := a.Snapshot(), b.Snapshot(); x.Digest != 0 || y.Digest == 0 {
		t.Fatalf("%v\n%v", x.Services(), y.Services())
	}
}

func TestJudge(t *testing.T) {
	c := catalog.New("a", "c")
	c.HostJoined("h")
	c.Merge([]pancake.Service{{Hostname: "h", ID: "1", Updated: noon, Created: noon}}, noon)
	snap := c.Snapshot()
	same := standing{own: snap.Hosts["h"].Digest, whole: snap.Digest, ownFor: time.Minute, wholeFor: time.Minute, members: 1}
	with := func(change func(*standing)) standing { s := same; change(&s); return s }
	for name, tt := range map[string]struct {
		theirs standing
		mine   time.Duration // for how long our digest has been so
		last   time.Duration // since when the last comparison was
		want   verdict
	}{
		"equal":                  {same, time.Minute, time.Hour, verdict{}},
		"own":                    {with(func(s *standing) { s.own++; s.whole++ }), time.Minute, time.Hour, verdict{own: true}},
		"own, under way":         {with(func(s *standing) { s.own++; s.ownFor = time.Second }), time.Minute, time.Hour, verdict{}},
		"whole":                  {with(func(s *standing) { s.whole++ }), time.Minute, time.Hour, verdict{whole: true}},
		"whole, under way there": {with(func(s *standing) { s.whole++; s.wholeFor = time.Second }), time.Minute, 10 * time.Second, verdict{}},
		"whole, under way here":  {with(func(s *standing) { s.whole++ }), time.Second, 10 * time.Second, verdict{}},
		"whole, never quiet":     {with(func(s *standing) { s.whole++; s.wholeFor = 0 }), 0, 2 * busyGap, verdict{whole: true}},
		"too soon":               {with(func(s *standing) { s.own++; s.whole++ }), time.Minute, 100 * time.Millisecond, verdict{}},
		"members":                {with(func(s *standing) { s.members++ }), time.Minute, time.Hour, verdict{members: true}},
	} {
		j := judge{lastOwn: noon.Add(-tt.last), lastWhole: noon.Add(-tt.last), lastMembers: noon.Add(-tt.last)}
		mine := standing{whole: snap.Digest, wholeFor: tt.mine, members: 1}
		if got := j.judge(noon, snap, mine, time.Minute, "h", tt.theirs); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
		if got := j.judge(noon.Add(5*time.Second), snap, mine, time.Minute, "h", tt.theirs); tt.want.own && got.own || tt.want.whole && got.whole {
			t.Errorf("%s: the same difference to the same node, again: %+v", name, got)
		}
	}
}

func TestTiming(t *testing.T) {
	for _, tt := range []struct {
		n         int
		idle      float64 // bytes a second
		encrypted float64
		noticed   time.Duration
	}{
		{3, 1000, 1000, 4 * time.Second},
		{50, 1000, 1000, 4 * time.Second},
		{200, 1000, 1000, 4 * time.Second},
		{1000, 1000, 1100, 5 * time.Second},
	} {
		if got := IdleBytes(tt.n, false); got > tt.idle {
			t.Errorf("%d nodes: %.0f bytes a second", tt.n, got)
		}
		if got := IdleBytes(tt.n, true); got > tt.encrypted {
			t.Errorf("%d nodes, encrypted: %.0f bytes a second", tt.n, got)
		}
		if got := Noticed(tt.n); got > tt.noticed || got < time.Second {
			t.Errorf("%d nodes: a dead one is noticed after %s", tt.n, got)
		}
	}
	for _, tt := range []struct{ n, news, urgent int }{{2, 3, 4}, {3, 3, 4}, {50, 6, 8}, {200, 9, 12}, {1000, 12, 16}} {
		if times(news, tt.n) != tt.news || times(urgent, tt.n) != tt.urgent {
			t.Errorf("%d nodes: %d and %d times", tt.n, times(news, tt.n), times(urgent, tt.n))
		}
	}
}

func TestComplaintsAreMadeOnce(t *testing.T) {
	var c complaints
	for i := range 3 * maxComplaints {
		cause := fmt.Sprint(i)
		if !c.first(cause, noon) || c.first(cause, noon.Add(complainEvery-1)) || len(c.made) > maxComplaints {
			t.Fatalf("cause %d, %d remembered", i, len(c.made))
		}
	}
	if !c.first("old", noon) || !c.first("old", noon.Add(complainEvery)) {
		t.Error("never again")
	}
}

// TestJudgeOfMany: after a partition the records of many hosts differ, and comparing them
// one by one would take as long as it takes to probe them all.
func TestJudgeOfMany(t *testing.T) {
	snap := catalog.New("a", "c").Snapshot()
	theirs := standing{own: 1, whole: 2, ownFor: time.Minute, wholeFor: time.Minute}
	var j judge
	for i, want := range []struct {
		at   time.Duration
		node string
		verdict
	}{
		{0, "x", verdict{own: true}},
		{time.Second, "y", verdict{whole: true}},
		{1500 * time.Millisecond, "z", verdict{own: true}}, // the one of all is under way
		{2 * time.Second, "v", verdict{whole: true}},
		{8 * time.Second, "w", verdict{own: true}},
	} {
		if got := j.judge(noon.Add(want.at), snap, standing{}, 0, want.node, theirs); got != want.verdict {
			t.Errorf("%d: %+v, want %+v", i, got, want.verdict)
		}
	}
}
