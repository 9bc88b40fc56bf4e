package vote_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake/goavail/vote"
)

const (
	ttl    = 10 * time.Second
	moment = 2 * time.Second // between two rounds
)

// world is places that watch targets, and records that any of them may change: even
// one that should not be the writer must do no harm.
type world struct {
	t      *rapid.T
	now    time.Time
	places []*place
	dead   map[string]bool // targets
	groups []vote.Group    // with what is in service now
	past   []vote.Past
	book   vote.Book
	rules  vote.Rules
}

type place struct {
	name   string
	side   int // of the partition
	blind  bool
	stamp  vote.Stamp
	board  *vote.Board
	meters map[string]*vote.Meter
	canary vote.Canary
	damp   map[string]vote.Penalty
	heard  map[[2]string]heard // by place and target: kept apart from the board, to check it
}

func (p *place) String() string { return p.name }

type heard struct {
	verdict vote.Verdict
	at      time.Time
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: noon, dead: map[string]bool{}}
	for i := range rapid.SampledFrom([]int{1, 2, 3, 4, 5, 7}).Draw(t, "places") {
		w.places = append(w.places, &place{name: fmt.Sprint("p", i)})
	}
	for _, p := range w.places {
		w.restart(p)
	}
	targets := rapid.IntRange(1, 6).Draw(t, "targets")
	for i := range rapid.IntRange(1, 2).Draw(t, "groups") {
		g := vote.Group{Name: fmt.Sprint("g", i), MinHealthy: rapid.IntRange(0, 2).Draw(t, "min"), Serve: rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "serve")}
		for j := range targets {
			g.Members = append(g.Members, vote.Member{Value: fmt.Sprint("v", j), Target: fmt.Sprint("t", j), In: rapid.Bool().Draw(t, "in")})
		}
		w.groups = append(w.groups, g)
	}
	w.rules = vote.Rules{
		PanicPercent: rapid.SampledFrom([]int{0, 30, 100}).Draw(t, "panic"), BreakerPercent: rapid.SampledFrom([]int{0, 100}).Draw(t, "breaker"),
		ChangesPerHour: rapid.SampledFrom([]int{0, 3}).Draw(t, "budget"),
	}
	return w
}

func (w *world) restart(p *place) {
	names := []string{}
	for _, q := range w.places {
		names = append(names, q.name)
	}
	p.stamp = vote.Stamp{Incarnation: p.stamp.Incarnation + 1}
	p.board, p.meters, p.canary = vote.NewBoard(names, ttl), map[string]*vote.Meter{}, vote.Canary{}
	p.damp, p.heard = map[string]vote.Penalty{}, map[[2]string]heard{}
}

func (w *world) targets() []string {
	var out []string
	for _, m := range w.groups[0].Members {
		out = append(out, m.Target)
	}
	return out
}

// round lets every place probe everything once, and tell those on its side.
func (w *world) round() {
	w.now = w.now.Add(moment)
	for _, p := range w.places {
		p.stamp.Seq++
		p.canary.Observe("c", !p.blind, w.now)
		for _, target := range w.targets() {
			m := p.meters[target]
			if m == nil {
				m = &vote.Meter{Fall: 2, Rise: 2}
				p.meters[target] = m
			}
			m.Observe(!w.dead[target] && !p.blind, w.now)
			b := vote.Ballot{Verdict: m.Verdict()}
			if _, _, began := m.Streak(); b.Verdict == vote.Down {
				if ok, _ := p.canary.Vouches(1, began); !ok {
					b.Verdict = vote.Unknown
				}
			}
			for _, q := range w.places {
				if q.side == p.side && q.board.Cast(p.name, target, p.stamp, b, w.now) {
					q.heard[[2]string{p.name, target}] = heard{b.Verdict, w.now}
				}
			}
		}
	}
	for _, p := range w.places {
		for _, target := range w.targets() {
			p.damp[target] = w.rules.Damping.Note(p.damp[target], p.board.Opinion(target, w.now).Verdict, w.now)
		}
	}
}

// agree counts the places of which p heard this verdict of late.
func (w *world) agree(p *place, target string, v vote.Verdict) (n int) {
	for _, q := range w.places {
		if h := p.heard[[2]string{q.name, target}]; h.verdict == v && w.now.Sub(h.at) <= ttl {
			n++
		}
	}
	return n
}

// write lets a place decide and change the records, and checks what it does.
func (w *world) write(p *place) []vote.Plan {
	opinions := map[string]vote.Opinion{}
	for _, target := range w.targets() {
		opinions[target] = p.board.Opinion(target, w.now)
	}
	plans := vote.Decide(w.rules, vote.Input{Groups: w.groups, Opinions: opinions, Penalties: p.damp, Orders: &w.book, Past: w.past}, w.now)
	for i, plan := range plans {
		g := &w.groups[i]
		before, left := 0, 0
		for j, c := range plan.Choices {
			if c.In {
				before++
			}
			if c.Want {
				left++
			}
			if !c.Changes() {
				continue
			}
			w.justified(p, g, c)
			w.past = append(w.past, vote.Past{At: w.now, Group: g.Name, Value: c.Value, In: c.Want, Rule: c.Rule})
			g.Members[j].In = c.Want
		}
		if least := least(*g); left < before && left < least {
			w.t.Fatalf("%s has %d of at least %d in service: %s", g.Name, left, least, after(plan))
		}
		if g.Serve == 1 && before <= 1 && left > 1 {
			w.t.Fatalf("%s may have one and has %d", g.Name, left)
		}
	}
	return plans
}

func least(g vote.Group) int {
	if g.Serve > 0 {
		return min(max(g.MinHealthy, 1), g.Serve)
	}
	return max(g.MinHealthy, 1)
}

// justified checks that one change has the votes that it needs.
func (w *world) justified(p *place, g *vote.Group, c vote.Choice) {
	quorum := len(w.places)/2 + 1
	order, ordered := w.book.Target(c.Target, w.now)
	switch {
	case w.held():
		w.t.Fatalf("%s %s changes though everything is held", g.Name, c.Value)
	case ordered && order.Kind == vote.Maintenance:
		w.t.Fatalf("%s %s changes though it is in maintenance", g.Name, c.Value)
	case c.Rule == vote.RuleOut || c.Rule == vote.RuleIn:
		if !ordered {
			w.t.Fatalf("%s %s: %s without an order", g.Name, c.Value, c.Rule)
		}
	case c.Rule == vote.RuleDown || c.Rule == vote.RulePanic:
		if n := w.agree(p, c.Target, vote.Down); n < quorum {
			w.t.Fatalf("%s %s: %s with %d of %d places", g.Name, c.Value, c.Rule, n, len(w.places))
		}
	case c.Rule == vote.RuleUp:
		if n := w.agree(p, c.Target, vote.Up); n < quorum {
			w.t.Fatalf("%s %s: up with %d of %d places", g.Name, c.Value, n, len(w.places))
		}
	case c.Rule == vote.RuleStandby && !c.Want:
		sure := 0
		for _, m := range g.Members {
			if o, ok := w.book.Target(m.Target, w.now); w.agree(p, m.Target, vote.Up) >= quorum || ok && o.Kind == vote.In {
				sure++
			}
		}
		if sure < g.Serve {
			w.t.Fatalf("%s %s goes on standby though only %d are up", g.Name, c.Value, sure)
		}
	default:
		w.t.Fatalf("%s %s changes because of %s", g.Name, c.Value, c.Rule)
	}
}

func (w *world) held() bool {
	_, held := w.book.Of(vote.Hold, "", w.now)
	return held
}

// disturb does something to the world.
func (w *world) disturb() {
	t := w.t
	p := rapid.SampledFrom(w.places).Draw(t, "place")
	target := rapid.SampledFrom(w.targets()).Draw(t, "target")
	switch rapid.SampledFrom([]string{"target", "target", "side", "blind", "restart", "all restart", "order", "by hand", "wait", "heal"}).Draw(t, "what") {
	case "target":
		w.dead[target] = !w.dead[target]
	case "side":
		p.side = rapid.IntRange(0, 2).Draw(t, "side")
	case "blind":
		p.blind = !p.blind
	case "restart":
		w.restart(p)
	case "all restart":
		for _, q := range w.places {
			w.restart(q)
		}
	case "order":
		o := vote.Order{Kind: rapid.SampledFrom([]string{vote.Hold, vote.Maintenance, vote.Out, vote.In}).Draw(t, "order"), About: target, At: w.now, Until: w.now.Add(30 * time.Second)}
		if o.Kind == vote.Hold {
			o.About = ""
		}
		w.book.Give(o)
	case "by hand": // somebody changes a record
		g := rapid.SampledFrom(w.groups).Draw(t, "group")
		m := &g.Members[rapid.IntRange(0, len(g.Members)-1).Draw(t, "member")]
		if g.Serve == 0 {
			m.In = !m.In
		}
	case "wait":
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "seconds")) * time.Second)
	case "heal":
		w.heal()
	}
}

func (w *world) heal() {
	for _, p := range w.places {
		p.side, p.blind = 0, false
	}
}

// settled checks that in the end everything that is confirmed was acted on.
func (w *world) settled(plans []vote.Plan) {
	for i, g := range w.groups {
		up, in := 0, 0
		for _, m := range g.Members {
			if !w.dead[m.Target] {
				up++
			}
			if m.In {
				in++
			}
		}
		for j, m := range g.Members {
			c := plans[i].Choices[j]
			switch {
			case g.Serve > 0 && up > 0:
				if want := min(g.Serve, up); in < want {
					w.t.Fatalf("%s has %d in service, %d could be: %s", g.Name, in, want, after(plans[i]))
				}
			case !w.dead[m.Target] && !m.In && g.Serve == 0:
				w.t.Fatalf("%s is up and out: %s", m.Target, after(plans[i]))
			case w.dead[m.Target] && m.In && g.Serve == 0 && c.Rule != vote.RulePanic && (c.Rule != vote.RuleMinimum || in > least(g)):
				w.t.Fatalf("%s is down and in: %s", m.Target, after(plans[i]))
			}
		}
	}
}

// TestHistories plays 10,000 random histories of probes, partitions, restarts, orders
// and hands in the records.
func TestHistories(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	old := checks.Value.String()
	defer func() { _ = checks.Value.Set(old) }()
	if err := checks.Value.Set("10000"); err != nil {
		t.Fatal(err)
	}
	writes := 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			w.disturb()
			for range rapid.IntRange(0, 4).Draw(t, "rounds") {
				w.round()
				w.write(rapid.SampledFrom(w.places).Draw(t, "writer"))
			}
		}
		// A restart of all changes nothing until the votes are in.
		for _, p := range w.places {
			w.restart(p)
		}
		w.now = w.now.Add(time.Minute)
		was := fmt.Sprint(w.groups)
		w.write(w.places[0])
		if got := fmt.Sprint(w.groups); got != was {
			t.Fatalf("changed without a vote\nfrom %s\nto   %s", was, got)
		}
		w.heal()
		var plans []vote.Plan
		for range 6 {
			w.now = w.now.Add(2 * time.Hour)
			for range 3 {
				w.round()
				plans = w.write(w.places[0])
			}
		}
		w.settled(plans)
		writes += len(w.past)
	})
	if writes == 0 {
		t.Error("nothing was ever written: the histories show nothing")
	}
	t.Logf("%d changes", writes)
}

// The smaller side of a partition does nothing once the votes of the others have expired.
func TestTheMinorityIsIdle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range 3 {
			w.round()
		}
		alone := len(w.places) / 2
		for _, p := range w.places[:alone] {
			p.side = 1
		}
		for _, target := range w.targets() {
			w.dead[target] = rapid.Bool().Draw(t, "dead")
		}
		for range int(ttl/moment) + 1 {
			w.round()
		}
		was := fmt.Sprint(w.groups)
		for _, p := range w.places[:alone] {
			w.round()
			w.write(p)
		}
		if got := fmt.Sprint(w.groups); got != was {
			t.Fatalf("%d of %d places changed\nfrom %s\nto   %s", alone, len(w.places), was, got)
		}
	})
}

func TestBooksConverge(t *testing.T) {
	order := rapid.Custom(func(t *rapid.T) vote.Order {
		return vote.Order{
			Kind: rapid.SampledFrom([]string{vote.Hold, vote.Out, vote.In}).Draw(t, "kind"), About: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "about"),
			At: noon.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "at")) * time.Second), Version: rapid.Uint64Range(1, 3).Draw(t, "version"),
			Origin: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "origin"), Over: rapid.Bool().Draw(t, "over"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		orders := rapid.SliceOf(order).Draw(t, "orders")
		var a, b vote.Book
		for _, o := range orders {
			a.Merge(o)
		}
		for _, o := range rapid.Permutation(slices.Concat(orders, orders)).Draw(t, "shuffled") {
			b.Merge(o)
		}
		if fmt.Sprint(a.All()) != fmt.Sprint(b.All()) {
			t.Fatalf("%v\n%v", a.All(), b.All())
		}
		for _, o := range orders {
			given := a.Give(vote.Order{Kind: o.Kind, About: o.About, At: noon, Why: "newest"})
			if got := a.All(); !slices.Contains(got, given) {
				t.Fatalf("%v is not in %v", given, got)
			}
		}
	})
}
