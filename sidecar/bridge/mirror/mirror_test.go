package mirror

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

var t0 = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// bench is two catalogues and a Mirror between them.
type bench struct {
	ours, theirs *catalog.Catalog
	view         View
	mirror       *Mirror
	now          time.Time
}

func newBench() *bench {
	b := &bench{
		ours: catalog.New("p0", "new"), theirs: catalog.New("bridge", "old"), now: t0,
		view: View{
			OurHosts:   map[string]Presence{"p0": Present, "p1": Present},
			TheirHosts: map[string]Presence{"o1": Present},
		},
		mirror: New(func(s *pancake.Service) (pancake.Service, bool) {
			out := *s
			out.Labels = nil
			return out, s.Name != "unfit"
		}, refresh),
	}
	b.ours.HostJoined("p1")
	return b
}

const refresh = 45 * time.Second

// step returns what went each way, and lets it arrive.
func (b *bench) step() Plan {
	b.view.Ours, b.view.Theirs = b.ours.Snapshot(), b.theirs.Snapshot()
	plan := b.mirror.Step(b.view, b.now)
	b.ours.Mirror(plan.ToOurs, b.now)
	b.theirs.Merge(plan.ToTheirs, b.now)
	return plan
}

func (b *bench) wait(d time.Duration) { b.now = b.now.Add(d) }

func record(host, id string, status pancake.ServiceStatus, updated time.Time) pancake.Service {
	return pancake.Service{Hostname: host, ID: id, Name: "svc", Status: status, Updated: updated, Ports: []pancake.ServicePort{}}
}

func status(c *catalog.Catalog, host, id string) string {
	if h := c.Snapshot().Hosts[host]; h != nil && h.Services[id] != nil {
		return h.Services[id].Status.String()
	}
	return "none"
}

func put(c *catalog.Catalog, now time.Time, records ...pancake.Service) { c.Merge(records, now) }

func TestRecordsGoFromTheirHome(t *testing.T) {
	for _, s := range []pancake.ServiceStatus{pancake.Alive, pancake.Sick, pancake.Unknown, pancake.Draining} {
		b := newBench()
		put(b.ours, b.now, record("p1", "b", s, t0))
		put(b.theirs, b.now, record("o1", "a", s, t0))
		plan := b.step()
		if len(plan.ToOurs) != 1 || len(plan.ToTheirs) != 1 || !plan.ToOurs[0].Updated.Equal(t0) || !plan.ToTheirs[0].Updated.Equal(t0) {
			t.Errorf("%s: %+v", s, plan)
		}
		if again := b.step(); len(again.ToOurs)+len(again.ToTheirs) > 0 {
			t.Errorf("%s: sent again: %+v", s, again)
		}
	}
}

// Theirs repeat what lives; ours do not, and the bridge does it for them.
func TestRepetitionsKeepRecordsAlive(t *testing.T) {
	b := newBench()
	put(b.ours, b.now, record("p1", "b", pancake.Alive, t0))
	repeated := 0
	for range 10 {
		put(b.theirs, b.now, record("o1", "a", pancake.Alive, b.now))
		for range 60 {
			plan := b.step()
			repeated += len(plan.ToTheirs)
			for _, s := range plan.ToTheirs {
				if age := b.now.Sub(s.Updated); age >= refresh {
					t.Errorf("sent with an Updated of %s ago", age)
				}
			}
			b.wait(time.Second)
			b.ours.Sweep(b.now)
			b.theirs.Sweep(b.now)
			if status(b.ours, "o1", "a") != "Alive" || status(b.theirs, "p1", "b") != "Alive" {
				t.Fatal("a record that was repeated has ended")
			}
		}
	}
	if repeated < 10 || repeated > 15 {
		t.Errorf("repeated %d times in 10 minutes", repeated)
	}
	b.wait(2 * time.Minute) // then they fall silent
	b.ours.Sweep(b.now)
	if status(b.ours, "o1", "a") != "Tombstone" {
		t.Error("what was not heard of any more lives on")
	}
}

// A service of ours may have been the same for days. They would end it at once.
func TestOldRecordsAreSentAsOfNow(t *testing.T) {
	b := newBench()
	put(b.ours, b.now, record("p1", "b", pancake.Alive, t0.Add(-48*time.Hour)))
	plan := b.step()
	if len(plan.ToTheirs) != 1 || !plan.ToTheirs[0].Updated.Equal(b.now) {
		t.Errorf("%+v", plan)
	}
}

func TestUnknownTombstonesAreNotSent(t *testing.T) {
	b := newBench()
	put(b.ours, b.now, record("p1", "b", pancake.Tombstone, t0))
	if plan := b.step(); len(plan.ToTheirs) > 0 {
		t.Errorf("%+v", plan)
	}
}

func TestWrongBeliefIsPutRight(t *testing.T) {
	b := newBench()
	put(b.ours, b.now, record("p1", "b", pancake.Alive, t0))
	b.step()
	put(b.theirs, b.now, record("p1", "b", pancake.Tombstone, t0.Add(time.Second)))
	b.wait(6 * time.Second)
	plan := b.step()
	if len(plan.ToTheirs) != 1 || len(plan.ToOurs) != 0 || status(b.theirs, "p1", "b") != "Alive" {
		t.Errorf("%+v", plan)
	}
}

// A record of theirs from the future keeps out the truth, unless that is sent
// as newer still, as often as it is repeated.
func TestRecordFromTheFuture(t *testing.T) {
	b := newBench()
	lie := record("p1", "b", pancake.Tombstone, t0.Add(5*time.Minute))
	put(b.theirs, b.now, lie)
	for range 8 {
		put(b.ours, b.now, record("p1", "b", pancake.Alive, b.now))
		for range 6 {
			b.step()
			b.wait(10 * time.Second)
			b.theirs.Sweep(b.now)
			if got := status(b.theirs, "p1", "b"); got != "Alive" {
				t.Fatalf("after %s it is %s", b.now.Sub(t0), got)
			}
		}
	}
}

func TestGhosts(t *testing.T) {
	b := newBench()
	put(b.ours, b.now, record("p1", "b", pancake.Alive, t0))
	put(b.theirs, b.now, record("p1", "ghost", pancake.Alive, t0), record("o1", "a", pancake.Alive, t0))
	put(b.ours, b.now, record("o1", "ghost", pancake.Alive, t0))
	b.step()
	b.wait(patience - time.Second)
	b.step()
	if status(b.theirs, "p1", "ghost") != "Alive" || status(b.ours, "o1", "ghost") != "Alive" {
		t.Error("a record was ended before its host could have told of it")
	}
	b.wait(2 * time.Second)
	b.step()
	if status(b.theirs, "p1", "ghost") != "Tombstone" || status(b.ours, "o1", "ghost") != "Tombstone" {
		t.Error("a record that its host does not know lives on")
	}
	if status(b.theirs, "p1", "b") != "Alive" || status(b.ours, "o1", "a") != "Alive" {
		t.Error("a living service was ended")
	}
}

func TestHostsThatAreGone(t *testing.T) {
	setUp := func() *bench {
		b := newBench()
		put(b.ours, b.now, record("p1", "b", pancake.Alive, t0))
		put(b.theirs, b.now, record("o1", "a", pancake.Alive, t0))
		b.step()
		b.ours.HostGone("p1", b.now)
		put(b.theirs, b.now, record("o1", "a", pancake.Tombstone, t0.Add(time.Second)))
		return b
	}
	t.Run("departed", func(t *testing.T) {
		b := setUp()
		b.view.OurHosts["p1"], b.view.TheirHosts["o1"] = Gone, Gone
		b.step()
		if status(b.ours, "o1", "a") != "Tombstone" || status(b.theirs, "p1", "b") != "Tombstone" {
			t.Error("the services of a dead host live on")
		}
	})
	t.Run("strangers", func(t *testing.T) { // after a restart of the bridge
		b := setUp()
		delete(b.view.OurHosts, "p1")
		delete(b.view.TheirHosts, "o1")
		b.step()
		if status(b.ours, "o1", "a") != "Alive" {
			t.Error("ended before the host could be heard of")
		}
		b.wait(patience)
		b.step()
		if status(b.ours, "o1", "a") != "Tombstone" || status(b.theirs, "p1", "b") != "Tombstone" {
			t.Error("the services of a dead host live on")
		}
	})
	t.Run("cut off", func(t *testing.T) {
		b := setUp()
		b.view.OurHosts["p1"], b.view.TheirHosts["o1"], b.view.Alone = Gone, Gone, true
		b.step()
		if status(b.theirs, "p1", "b") != "Alive" {
			t.Error("a host that is cut off ended the services of others")
		}
		b.view.Alone = false
		b.step()
		if status(b.theirs, "p1", "b") != "Tombstone" {
			t.Error("the services of a dead host live on")
		}
	})
}

func TestHostOfBothSides(t *testing.T) {
	b := newBench()
	b.view.TheirHosts["p1"] = Present
	put(b.ours, b.now, record("p1", "b", pancake.Alive, t0))
	put(b.theirs, b.now, record("p1", "a", pancake.Alive, t0))
	plan := b.step()
	if len(plan.ToOurs)+len(plan.ToTheirs) > 0 || len(plan.Both) != 1 || plan.Both[0] != "p1" {
		t.Errorf("%+v", plan)
	}
	b.view.TheirHosts["p1"] = Gone // the machine has moved over
	if plan := b.step(); len(plan.ToTheirs) != 1 || len(plan.ToOurs) > 0 {
		t.Errorf("%+v", plan)
	}
	b = newBench()
	b.view.OneWay, b.view.TheirHosts["p1"] = true, Present // what they know of p1 may have come from us
	put(b.theirs, b.now, record("p1", "a", pancake.Alive, t0))
	if plan := b.step(); len(plan.ToOurs)+len(plan.ToTheirs)+len(plan.Both) > 0 {
		t.Errorf("%+v", plan)
	}
}

func TestOneWay(t *testing.T) {
	b := newBench()
	b.view.OneWay = true
	put(b.ours, b.now, record("p1", "b", pancake.Alive, t0), record("o2", "x", pancake.Tombstone, t0.Add(time.Second)))
	put(b.theirs, b.now, record("o1", "a", pancake.Alive, t0), record("o2", "x", pancake.Alive, t0))
	b.step()
	b.wait(time.Minute)
	plan := b.step()
	if len(plan.ToTheirs) > 0 || status(b.ours, "o1", "a") != "Alive" {
		t.Errorf("%+v", plan)
	}
}

func TestRecordsThatDoNotFit(t *testing.T) {
	b := newBench()
	big := record("p1", "b", pancake.Alive, t0)
	big.Name = "unfit"
	labelled := record("p1", "c", pancake.Alive, t0)
	labelled.Labels = map[string]string{"traefik.enable": "true"}
	put(b.ours, b.now, big, labelled)
	plan := b.step()
	if len(plan.Unfit) != 1 || len(plan.ToTheirs) != 1 || plan.ToTheirs[0].Labels != nil {
		t.Errorf("%+v", plan)
	}
	if again := b.step(); len(again.ToTheirs) > 0 {
		t.Errorf("what lost its labels on the way is sent again: %+v", again)
	}
}

// A side that does not take what it is sent is not flooded.
func TestSilenceOfTheOtherSide(t *testing.T) {
	b := newBench()
	put(b.theirs, b.now, record("o1", "a", pancake.Alive, t0))
	b.view.Ours, b.view.Theirs = b.ours.Snapshot(), b.theirs.Snapshot()
	n := 0
	for range 100 {
		n += len(b.mirror.Step(b.view, b.now).ToOurs)
		b.wait(100 * time.Millisecond)
	}
	if n != 2 {
		t.Errorf("sent %d times in 10 s", n)
	}
}

// Whatever happened on both sides, a few rounds of two bridges make them agree
// on the services of every living host, as that host has them, and then it is quiet.
func TestBothSidesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		b.view.OurHosts["p2"], b.view.TheirHosts["o2"] = Present, Present
		b.mirror = New(b.mirror.shape, time.Hour) // without repetitions: they would not look settled
		other := New(b.mirror.shape, time.Hour)
		b.ours.HostJoined("p2")
		change := func(side *catalog.Catalog, hosts ...string) {
			r := record(rapid.SampledFrom(hosts).Draw(t, "host"), fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "id")),
				pancake.ServiceStatus(rapid.IntRange(0, 4).Draw(t, "status")), b.now.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "skew"))*time.Second))
			put(side, b.now, r)
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				change(b.ours, "p1", "p2")
			case 1:
				change(b.theirs, "o1", "o2")
			case 2: // what a side should not believe
				change(b.theirs, "p1", "p2")
			case 3:
				change(b.ours, "o1", "o2")
			case 4:
				b.step()
			case 5:
				b.mirror, other = other, b.mirror
			}
			b.wait(time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second)
		}
		truth := map[string]string{}
		remember := func(c *catalog.Catalog, hosts ...string) {
			for _, h := range hosts {
				for i := range 3 {
					truth[h+fmt.Sprint(i)] = status(c, h, fmt.Sprint(i))
				}
			}
		}
		remember(b.ours, "p1", "p2")
		remember(b.theirs, "o1", "o2")
		for range 6 {
			b.step()
			b.mirror, other = other, b.mirror
			b.wait(4 * time.Second)
		}
		for range 2 {
			if plan := b.step(); len(plan.ToOurs)+len(plan.ToTheirs) > 0 {
				t.Fatalf("it does not settle: %+v", plan)
			}
			b.mirror, other = other, b.mirror
		}
		for name, want := range truth {
			host, id := name[:2], name[2:]
			home, away := b.ours, b.theirs
			if host[0] == 'o' {
				home, away = b.theirs, b.ours
			}
			if got := status(home, host, id); got != want {
				t.Fatalf("the bridge changed %s/%s at home from %s to %s", host, id, want, got)
			}
			got := status(away, host, id)
			if (want == "none" || want == "Tombstone") && (got == "none" || got == "Tombstone") {
				continue
			}
			if got != want {
				t.Fatalf("%s/%s is %s at home and %s on the other side", host, id, want, got)
			}
		}
	})
}
