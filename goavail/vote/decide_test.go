package vote_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail/vote"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// said is an opinion of five places.
func said(up, down int) vote.Opinion {
	o := vote.Opinion{Up: up, Down: down, Unknown: 5 - up - down, Quorum: 3}
	switch {
	case up >= 3:
		o.Verdict = vote.Up
	case down >= 3:
		o.Verdict = vote.Down
	}
	return o
}

// group makes a group from a word per member: its name, and "-" before one that is out.
func group(words string) vote.Group {
	g := vote.Group{Name: "www"}
	for w := range strings.FieldsSeq(words) {
		name, out := strings.CutPrefix(w, "-")
		name, foreign := strings.CutPrefix(name, "!")
		g.Members = append(g.Members, vote.Member{Value: name, Target: name, In: !out, Foreign: foreign})
	}
	return g
}

// after shows a plan in the words of group, with the rules behind it.
func after(p vote.Plan) string {
	var out []string
	for _, c := range p.Choices {
		w := c.Value
		if !c.Want {
			w = "-" + w
		}
		out = append(out, w+":"+string(c.Rule))
	}
	return strings.Join(out, " ")
}

func TestDecide(t *testing.T) {
	up, down, unknown := said(5, 0), said(0, 3), said(2, 2)
	type opinions map[string]vote.Opinion
	out := func(v string, ago time.Duration) vote.Past {
		return vote.Past{At: noon.Add(-ago), Group: "www", Value: v, Rule: vote.RuleDown}
	}
	order := func(kind, about string) vote.Order { return vote.Order{Kind: kind, About: about, At: noon} }
	for name, tt := range map[string]struct {
		group     string
		opinions  opinions
		past      []vote.Past
		orders    []vote.Order
		penalties map[string]vote.Penalty
		rules     vote.Rules
		min       int
		serve     int
		want      string
	}{
		"nothing known":           {group: "a -b", want: "a:unknown -b:unknown"},
		"minority says down":      {group: "a b", opinions: opinions{"a": said(0, 2), "b": up}, want: "a:unknown b:up"},
		"one dies":                {group: "a b c d", opinions: opinions{"a": down, "b": up, "c": up, "d": unknown}, want: "-a:down b:up c:up d:unknown"},
		"one returns":             {group: "-a b", opinions: opinions{"a": up, "b": up}, want: "a:up b:up"},
		"last one":                {group: "a", opinions: opinions{"a": down}, want: "a:panic"},
		"last one, no panic":      {group: "a", opinions: opinions{"a": down}, rules: vote.Rules{PanicPercent: 100}, want: "a:minimum"},
		"all die":                 {group: "a b c d", opinions: opinions{"a": down, "b": down, "c": down, "d": down}, want: "a:panic b:panic c:panic d:panic"},
		"half dies":               {group: "a b c d", opinions: opinions{"a": down, "b": down, "c": up, "d": up}, want: "-a:down -b:down c:up d:up"},
		"half dies, half unknown": {group: "a b c d", opinions: opinions{"a": down, "b": down}, want: "a:panic b:panic c:unknown d:unknown"},
		"half dies, then one":     {group: "-a -b c d", opinions: opinions{"a": down, "b": down, "c": down, "d": up}, past: []vote.Past{out("a", time.Second), out("b", time.Second)}, want: "a:panic b:panic c:panic d:up"},
		"two are out, the others die": {
			group: "-a -b c d", opinions: opinions{"a": down, "b": down, "c": down, "d": down},
			past: []vote.Past{out("a", 25*time.Hour), out("b", 2*time.Hour)}, want: "-a:down -b:down c:panic d:panic",
		},
		"one by one over days": {
			group: "-a -b c d", opinions: opinions{"a": down, "b": down, "c": down, "d": up},
			past: []vote.Past{out("a", 25*time.Hour), out("b", 2*time.Hour)}, want: "-a:down -b:down -c:down d:up",
		},
		"breaker": {
			group: "-a -b c d", opinions: opinions{"a": down, "b": down, "c": down, "d": up},
			past: []vote.Past{out("a", 30*time.Minute), out("b", 20*time.Minute)}, want: "-a:down -b:down c:breaker d:up",
		},
		"minimum":            {group: "a b c d", min: 3, opinions: opinions{"a": down, "b": down, "c": up, "d": up}, want: "-a:down b:minimum c:up d:up"},
		"budget":             {group: "a b -c", rules: vote.Rules{ChangesPerHour: 1}, past: []vote.Past{out("c", time.Minute)}, opinions: opinions{"a": down, "b": up, "c": up}, want: "a:budget b:up -c:budget"},
		"budget and minimum": {group: "-a -b -c", min: 2, rules: vote.Rules{ChangesPerHour: 1}, past: []vote.Past{out("c", time.Minute)}, opinions: opinions{"a": up, "b": up, "c": up}, want: "a:up b:up -c:budget"},
		"damped":             {group: "-a b", opinions: opinions{"a": up, "b": up}, penalties: map[string]vote.Penalty{"a": {Points: 3000, At: noon, Suppressed: true}}, want: "-a:damped b:up"},
		"damped falls":       {group: "a b", opinions: opinions{"a": down, "b": up}, penalties: map[string]vote.Penalty{"a": {Points: 3000, At: noon, Suppressed: true}}, want: "-a:down b:up"},
		"foreign":            {group: "!a b -!c", opinions: opinions{"a": down, "b": down, "c": up}, want: "a:foreign b:panic -c:foreign"},
		"held":               {group: "a -b", orders: []vote.Order{order(vote.Hold, "")}, opinions: opinions{"a": down, "b": up}, want: "a:hold -b:hold"},
		"held by name":       {group: "a -b", orders: []vote.Order{order(vote.Hold, "www")}, opinions: opinions{"a": down, "b": up}, want: "a:hold -b:hold"},
		"another held":       {group: "a -b", orders: []vote.Order{order(vote.Hold, "api")}, opinions: opinions{"a": up, "b": up}, want: "a:up b:up"},
		"damped but needed":  {group: "-a b", opinions: opinions{"a": up, "b": down}, penalties: map[string]vote.Penalty{"a": {Points: 3000, At: noon, Suppressed: true}}, want: "a:up -b:down"},
		"damped, not needed": {group: "-a b", opinions: opinions{"a": up}, penalties: map[string]vote.Penalty{"a": {Points: 3000, At: noon, Suppressed: true}}, want: "-a:damped b:unknown"},
		"no budget, all down": {
			group: "-a b", rules: vote.Rules{ChangesPerHour: 1}, past: []vote.Past{out("c", time.Minute)}, opinions: opinions{"a": up, "b": down}, want: "a:up b:budget",
		},
		"last that is up drained":    {group: "a b c", orders: []vote.Order{order(vote.Out, "a")}, opinions: opinions{"a": up, "b": down, "c": down}, want: "a:minimum b:panic c:panic"},
		"drained, others not known":  {group: "a b c", orders: []vote.Order{order(vote.Out, "a")}, opinions: opinions{"a": up}, want: "a:minimum b:unknown c:unknown"},
		"drained, fewer up than min": {group: "a b c", min: 2, orders: []vote.Order{order(vote.Out, "a")}, opinions: opinions{"a": up, "b": up}, want: "a:minimum b:up c:unknown"},
		"maintenance":                {group: "a b -c", orders: []vote.Order{order(vote.Maintenance, "a"), order(vote.Maintenance, "c")}, opinions: opinions{"a": down, "b": up, "c": up}, want: "a:maintenance b:up -c:maintenance"},
		"drained":                    {group: "a b", orders: []vote.Order{order(vote.Out, "a")}, opinions: opinions{"a": up, "b": up}, want: "-a:out b:up"},
		"last one drained":           {group: "a -b", orders: []vote.Order{order(vote.Out, "a")}, opinions: opinions{"a": up, "b": down}, want: "a:minimum -b:down"},
		"drain has expired":          {group: "a b", orders: []vote.Order{{Kind: vote.Out, About: "a", Until: noon}}, opinions: opinions{"a": up, "b": up}, want: "a:up b:up"},
		"forced in":                  {group: "-a b", orders: []vote.Order{order(vote.In, "a")}, opinions: opinions{"a": down, "b": up}, want: "a:in b:up"},

		"first serves":           {group: "a -b", serve: 1, opinions: opinions{"a": up, "b": up}, want: "a:up -b:standby"},
		"backup takes over":      {group: "a -b", serve: 1, opinions: opinions{"a": down, "b": up}, want: "-a:down b:up"},
		"backup gives back":      {group: "-a b", serve: 1, opinions: opinions{"a": up, "b": up}, want: "a:up -b:standby"},
		"first unknown":          {group: "a -b", serve: 1, opinions: opinions{"a": unknown, "b": up}, want: "a:unknown -b:standby"},
		"backup unknown serves":  {group: "-a b", serve: 1, opinions: opinions{"a": down, "b": unknown}, want: "-a:down b:unknown"},
		"both dead":              {group: "-a b", serve: 1, opinions: opinions{"a": down, "b": down}, past: []vote.Past{out("a", time.Second)}, want: "-a:standby b:panic"},
		"two of three":           {group: "a b -c", serve: 2, opinions: opinions{"a": up, "b": down, "c": up}, want: "a:up -b:down c:up"},
		"too many, none known":   {group: "a b", serve: 1, want: "a:unknown b:unknown"},
		"forced before first":    {group: "a -b", serve: 1, orders: []vote.Order{order(vote.In, "b")}, opinions: opinions{"a": up, "b": up}, want: "-a:standby b:in"},
		"backup in maintenance":  {group: "-a b", serve: 1, orders: []vote.Order{order(vote.Maintenance, "b")}, opinions: opinions{"a": up, "b": up}, want: "-a:standby b:maintenance"},
		"swap in one budget":     {group: "a -b", serve: 1, rules: vote.Rules{ChangesPerHour: 1}, opinions: opinions{"a": down, "b": up}, want: "-a:down b:up"},
		"swap without a budget":  {group: "a -b", serve: 1, rules: vote.Rules{ChangesPerHour: 1}, past: []vote.Past{{At: noon}}, opinions: opinions{"a": down, "b": up}, want: "a:minimum -b:budget"},
		"swap despite a breaker": {group: "a -b -c", serve: 1, rules: vote.Rules{BreakerPercent: 30, PanicPercent: 100}, past: []vote.Past{out("c", time.Minute)}, opinions: opinions{"a": down, "b": up, "c": down}, want: "-a:down b:up -c:down"},
	} {
		t.Run(name, func(t *testing.T) {
			g, book := group(tt.group), &vote.Book{}
			g.MinHealthy, g.Serve = tt.min, tt.serve
			for _, o := range tt.orders {
				book.Give(o)
			}
			plans := vote.Decide(tt.rules, vote.Input{Groups: []vote.Group{g}, Opinions: tt.opinions, Past: tt.past, Orders: book, Penalties: tt.penalties}, noon)
			if got := after(plans[0]); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			for _, c := range plans[0].Choices {
				if c.Reason == "" {
					t.Errorf("%s: no reason", c.Value)
				}
			}
		})
	}
}

// A list of members that came empty, or new ones that nobody has seen up yet, must not
// take out those that serve.
func TestWhatIsNotListedStaysUntilOthersAreUp(t *testing.T) {
	for want, verdict := range map[string]vote.Verdict{"old1:minimum old2:minimum -new:unknown": vote.Unknown, "-old1:gone -old2:gone new:up": vote.Up} {
		g := group("old1 old2 -new")
		g.Members[0].Gone, g.Members[1].Gone = true, true
		plans := vote.Decide(vote.Rules{}, vote.Input{Groups: []vote.Group{g}, Opinions: map[string]vote.Opinion{"new": {Verdict: verdict}}}, noon)
		if got := after(plans[0]); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Route 53 has a set per region: one may go altogether while the other serves.
func TestAGroupMayBeEmptiedWhileAnotherStandsIn(t *testing.T) {
	eu, us := group("a b"), group("c d")
	eu.Name, us.Name = "eu", "us"
	for _, g := range []*vote.Group{&eu, &us} {
		g.Family, g.MayEmpty = "www A", true
	}
	decide := func(opinions map[string]vote.Opinion) string {
		plans := vote.Decide(vote.Rules{}, vote.Input{Groups: []vote.Group{eu, us}, Opinions: opinions}, noon)
		return after(plans[0]) + " | " + after(plans[1])
	}
	up, down := said(4, 1), said(1, 4)
	for want, opinions := range map[string]map[string]vote.Opinion{
		"-a:down -b:down | c:up d:up":           {"a": down, "b": down, "c": up, "d": up},
		"a:panic b:panic | c:unknown d:unknown": {"a": down, "b": down},
		"a:panic b:panic | c:panic d:up":        {"a": down, "b": down, "c": down, "d": up},
		"-a:down b:up | -c:down d:up":           {"a": down, "b": up, "c": down, "d": up},
	} {
		if got := decide(opinions); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestReasonsSayHowManyPlaces(t *testing.T) {
	g := group("a b c d")
	plans := vote.Decide(vote.Rules{}, vote.Input{Groups: []vote.Group{g}, Opinions: map[string]vote.Opinion{
		"a": said(3, 2), "b": said(0, 2), "c": said(1, 4), "d": said(1, 0),
	}}, noon)
	want := []string{"3 of 5 places say up", "kept: only 2 of 5 places say down, 3 have to", "4 of 5 places say down", "kept: only 1 of 5 places says up, 3 have to"}
	for i, c := range plans[0].Choices {
		if c.Reason != want[i] {
			t.Errorf("%s: %q, want %q", c.Value, c.Reason, want[i])
		}
	}
}

func TestBoard(t *testing.T) {
	b := vote.NewBoard([]string{"p3", "p1", "p2"}, 10*time.Second)
	cast := func(place string, seq uint64, v vote.Verdict, at time.Duration) bool {
		return b.Cast(place, "t", vote.Stamp{Incarnation: 1, Seq: seq}, vote.Ballot{Verdict: v}, noon.Add(at))
	}
	verdict := func(at time.Duration) string {
		o := b.Opinion("t", noon.Add(at))
		return fmt.Sprint(o.Verdict, o.Up, o.Down, o.Unknown)
	}
	if cast("rogue", 1, vote.Down, 0) || cast("p1", 1, 9, 0) {
		t.Error("took a ballot of a place that is not configured, or one that means nothing")
	}
	cast("p1", 1, vote.Down, 0)
	if got := verdict(0); got != "unknown 0 1 2" {
		t.Error(got)
	}
	cast("p2", 1, vote.Down, 5*time.Second)
	if got := verdict(5 * time.Second); got != "down 0 2 1" {
		t.Error(got)
	}
	if cast("p1", 1, vote.Down, 9*time.Second) {
		t.Error("a ballot that was sent again counted")
	}
	if got := verdict(11 * time.Second); got != "unknown 0 1 2" {
		t.Error("expired: ", got)
	}
	if got := b.Ballot("p1", "t", noon.Add(11*time.Second)).Why; got != "silent for 11s" {
		t.Error(got)
	}
	if !cast("p1", 2, vote.Up, 12*time.Second) || !b.Cast("p1", "t", vote.Stamp{Incarnation: 2}, vote.Ballot{Verdict: vote.Down}, noon.Add(12*time.Second)) {
		t.Error("newer ballots were refused")
	}
	if cast("p1", 99, vote.Up, 12*time.Second) {
		t.Error("took a ballot from before the restart")
	}
	b.Keep(func(string) bool { return false })
	if got := verdict(12 * time.Second); got != "unknown 0 0 3" {
		t.Error(got)
	}
}

func TestMeterHasRiseAndFall(t *testing.T) {
	m := vote.Meter{Fall: 3, Rise: 2}
	var got strings.Builder
	for i, r := range "++--+----++-+" {
		m.Observe(r == '+', noon.Add(time.Duration(i)*time.Second))
		got.WriteByte("?ud"[m.Verdict()])
	}
	if want := "?uuuuuuddduuu"; got.String() != want {
		t.Errorf("got  %s\nwant %s", got.String(), want)
	}
}

func TestCanariesVouch(t *testing.T) {
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	c := vote.Canary{}
	check := func(canaries, began int, want bool) {
		t.Helper()
		if ok, why := c.Vouches(canaries, at(began)); ok != want || ok == (why != "") {
			t.Errorf("%v %q, want %v", ok, why, want)
		}
	}
	check(0, 0, true)
	check(3, 0, false)
	c.Observe("x", true, at(1))
	check(3, 0, false)
	c.Observe("y", true, at(2))
	check(3, 0, true)
	check(3, 1, true)
	check(3, 2, false) // only one of three since
	c.Observe("x", true, at(3))
	check(3, 2, true)
	c.Observe("x", false, at(4))
	check(3, 2, false)
}

func TestDampingHoldsBackWhatFlaps(t *testing.T) {
	d, p := vote.Damping{}, vote.Penalty{}
	now := noon
	step := func(v vote.Verdict, after time.Duration) bool {
		now = now.Add(after)
		p = d.Note(p, v, now)
		return p.Suppressed
	}
	step(vote.Down, 0) // it was never up: that is no fall
	for range 2 {
		step(vote.Up, time.Minute)
		if step(vote.Unknown, time.Second) || step(vote.Down, time.Minute) {
			t.Error("suppressed after two falls")
		}
	}
	step(vote.Up, 30*time.Second)
	if !step(vote.Down, 30*time.Second) {
		t.Errorf("not suppressed after three falls: %+v", p)
	}
	until := d.Until(p)
	if wait := until.Sub(now); wait < 10*time.Minute || wait > 20*time.Minute {
		t.Errorf("held back for %s", wait)
	}
	step(vote.Up, time.Minute)
	if !step(vote.Up, until.Sub(now)-time.Second) || step(vote.Up, 2*time.Second) {
		t.Errorf("not released at %s: %+v", until, p)
	}
	if p := (vote.Damping{HalfLife: -1}).Note(vote.Penalty{Points: 5000, Last: vote.Up}, vote.Down, now); p.Suppressed || p.Points != 0 {
		t.Errorf("switched off, and yet %+v", p)
	}
}
