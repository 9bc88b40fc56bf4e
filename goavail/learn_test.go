package goavail

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/gossip"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// nothing is a provider that holds nothing.
type nothing struct{}

func (nothing) Read(_ context.Context, keys []dns.Key) ([]dns.Set, error) {
	return make([]dns.Set, len(keys)), nil
}
func (nothing) Apply(context.Context, []dns.Change) error { return nil }
func (nothing) Check(context.Context, []dns.Key) error    { return nil }
func (nothing) Capabilities() dns.Capabilities {
	return dns.Capabilities{Name: "nothing", Types: []string{dns.A}}
}

// FuzzReceive feeds an agent with what a member of the cluster could send: whatever it
// is, the agent goes on and decides on nothing because of it alone.
func FuzzReceive(f *testing.F) {
	a, err := New(Config{
		Place: "p0", Places: []Place{{Name: "p0"}, {Name: "p1"}, {Name: "p2"}}, GossipKeys: [][]byte{make([]byte, 16)}, Provider: nothing{}, DataDir: f.TempDir(),
		Targets: []Target{{Name: "a", Check: probe.Check{Address: "192.0.2.1", Port: 1}}},
		Records: []Record{{Key: dns.Key{Name: "www.example.org", Type: dns.A}, Members: []Member{{Target: "a"}}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byte(gossip.Records), []byte(`{"orders":[{"kind":"hold","version":1,"origin":"p1","at":"2026-11-21T12:00:00Z"}],"history":[{"id":"x","at":"2026-11-21T12:00:00Z","kind":"change"}]}`))
	f.Add(byte(gossip.Ballots), gossip.Tables(gossip.Table{Lines: []gossip.Line{{Target: 1}}})[0])
	f.Add(byte(gossip.Lease), []byte(`{"ask":{"Term":1}}`))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		a.receive(gossip.Message{From: "p1", Kind: gossip.Kind(kind), Body: body})
		s := a.Status(t.Context(), false)
		if s.Targets[0].Verdict != "unknown" || s.Writer.Me {
			t.Fatalf("%+v", s)
		}
	})
}

func TestHistoryIsBoundedAndInOrder(t *testing.T) {
	a := &Agent{knowledge: knowledge{ids: map[string]bool{}}}
	at := time.Unix(1_800_000_000, 0)
	for i := range 3 * keepHistory / 2 {
		e := client.Entry{ID: string(rune('a' + i)), At: at.Add(time.Duration(i*7919%1500) * time.Second)}
		if a.record(e); a.record(e) {
			t.Fatal("an entry is new once")
		}
	}
	if len(a.history) != keepHistory || len(a.ids) != keepHistory {
		t.Errorf("%d entries, %d ids", len(a.history), len(a.ids))
	}
	for i := range a.history[1:] {
		if a.history[i+1].At.Before(a.history[i].At) {
			t.Fatal("not in order")
		}
	}
}

// An outage of the provider in which the same change is tried again and again uses up no
// more of the budget than the change does.
func TestWhatIsTriedAgainCountsOnce(t *testing.T) {
	a := &Agent{knowledge: knowledge{ids: map[string]bool{}}}
	now := time.Now()
	for i := range 100 {
		a.record(client.Entry{
			ID: strconv.Itoa(i), At: now.Add(time.Duration(i-100) * time.Second), Kind: client.KindChange, Set: "www", Error: "no answer", Unsure: true,
			Moves: []client.Move{{Value: "a", In: i < 50}, {Value: "b"}},
		})
	}
	if got := a.past(now); len(got) != 3 { // a in, a out, b out
		t.Errorf("%d changes: %+v", len(got), got)
	}
}

func TestEntriesOfTheFutureAreOfNow(t *testing.T) {
	a := &Agent{cfg: Config{VoteEvery: time.Second}, knowledge: knowledge{ids: map[string]bool{}}}
	text, err := json.Marshal(spread{History: []client.Entry{{ID: "x", At: time.Now().Add(24 * time.Hour), Kind: client.KindChange, Moves: []client.Move{{Value: "a"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.learn(gossip.Message{Body: text}); err != nil {
		t.Fatal(err)
	}
	if got := a.past(time.Now().Add(2 * time.Hour)); len(got) != 0 {
		t.Errorf("counts after two hours: %+v", got)
	}
}

// What one place says another one must take, however much happens.
func TestEverythingCanBeTaken(t *testing.T) {
	a := &Agent{knowledge: knowledge{hash: "1", ids: map[string]bool{}}}
	b := &Agent{kick: make(chan struct{}, 1), knowledge: knowledge{ids: map[string]bool{}}}
	a.book.Give(vote.Order{Kind: vote.Hold, At: time.Now()})
	for i := range tellHistory {
		e := client.Entry{ID: strconv.Itoa(i), At: time.Now(), Text: clip(strings.Repeat("é", maxText)), Error: clip(strings.Repeat("x", maxText))}
		for range 60 {
			e.Moves = append(e.Moves, client.Move{Value: "192.0.2.1", Target: "web", Rule: "down", Reason: strings.Repeat("x", 120)})
		}
		a.record(e)
	}
	for _, part := range a.everything() {
		if len(part.Body) > 1<<20 {
			t.Errorf("a message of %d bytes", len(part.Body))
		}
		if part.Kind == gossip.Records {
			if err := b.learn(gossip.Message{Body: part.Body}); err != nil {
				t.Error(err)
			}
		}
	}
	if len(b.history) != tellHistory || b.book.Len() != 1 {
		t.Errorf("%d entries and %d orders arrived", len(b.history), b.book.Len())
	}
}

// A verdict that no probe has confirmed for long is none.
func TestOldVerdictsAbstain(t *testing.T) {
	now := time.Now()
	w := &watched{meter: vote.Meter{Fall: 1, Rise: 1}, started: now}
	w.Check.Interval, w.Check.Timeout = time.Second, time.Second
	w.meter.Observe(true, now)
	a := &Agent{cfg: Config{VoteTTL: 10 * time.Second}}
	for after, want := range map[time.Duration]vote.Verdict{10 * time.Second: vote.Up, 20 * time.Second: vote.Unknown} {
		if b := a.ballot(w, now.Add(after)); b.Verdict != want {
			t.Errorf("after %s: %+v", after, b)
		}
	}
}

// A record that comes back is proxied if the others are, whatever the configuration leaves open.
func TestWhatComesIsProxiedLikeTheRest(t *testing.T) {
	r := Record{Key: dns.Key{Name: "www.example.org", Type: dns.A}}
	live := dns.Set{Key: r.Key, Members: []dns.Member{{Value: "192.0.2.1", On: true, Owner: "us", Proxied: true}}}
	plan := vote.Plan{Choices: []vote.Choice{{Member: vote.Member{Value: "192.0.2.2"}, Want: true}}}
	c, _ := change(r, live, plan, "us")
	if m, ok := c.After.Find("192.0.2.2"); !ok || !m.Proxied {
		t.Errorf("%+v", c.After)
	}
}

// counting counts how often it is read.
type counting struct {
	nothing
	reads *atomic.Int32
}

func (c counting) Read(ctx context.Context, keys []dns.Key) ([]dns.Set, error) {
	c.reads.Add(1)
	return c.nothing.Read(ctx, keys)
}

func TestPlansDoNotUseUpTheRateLimit(t *testing.T) {
	p := counting{reads: &atomic.Int32{}}
	a, err := New(Config{
		Place: "p0", Provider: p, DataDir: t.TempDir(),
		Targets: []Target{{Name: "a", Check: probe.Check{Address: "192.0.2.1", Port: 1}}},
		Records: []Record{{Key: dns.Key{Name: "www.example.org", Type: dns.A}, Members: []Member{{Target: "a"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for range 20 {
		group.Go(func() error { _, err := a.Plan(t.Context()); return err })
	}
	if err := group.Wait(); err != nil || p.reads.Load() != 1 {
		t.Errorf("%d reads, %v", p.reads.Load(), err)
	}
}

// TestRepetitions: new votes are repeated at once, old ones in turns, each often enough not to expire.
func TestRepetitions(t *testing.T) {
	a := &Agent{cfg: Config{VoteEvery: time.Second, VoteTTL: 12 * time.Second}}
	if a.rarely() != 3 {
		t.Fatalf("every %d beats", a.rarely())
	}
	for id := range uint64(3) {
		var due []uint64
		for beat := uint64(11); beat < 20; beat++ {
			if (told{since: 10}).due(beat, id, a.rarely()) {
				due = append(due, beat)
			}
		}
		if want := map[uint64][]uint64{0: {11, 12, 13, 15, 18}, 1: {11, 12, 13, 14, 17}, 2: {11, 12, 13, 16, 19}}[id]; !slices.Equal(due, want) {
			t.Errorf("target %d: %v, want %v", id, due, want)
		}
	}
	a.cfg.VoteTTL = 2 * time.Second
	if a.rarely() != 1 {
		t.Errorf("votes that expire soon are repeated every %d beats", a.rarely())
	}
}
