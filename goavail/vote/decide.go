package vote

import (
	"cmp"
	"fmt"
	"time"
)

// Member is one value of a group: an address in a set of records, say.
type Member struct {
	Value   string
	Target  string // whose health decides
	In      bool   // it is in service now
	Foreign bool   // it is there, but not ours: it is left alone
	Gone    bool   // it is ours, but not listed any more: it is to go
	Drain   bool   // the platform is about to take the target away: it is to go first
}

// Group is a set of which goavail decides what is in service.
type Group struct {
	Name string
	// Family is what groups have in common that stand in for each other, such as
	// Route 53's sets of one name. "" is a family of its own.
	Family  string
	Members []Member // in the order of preference
	// MinHealthy is how many members we leave in service, come what may. At least 1.
	MinHealthy int
	// Serve is how many members are in service at a time: the first that are up.
	// 0 is all.
	Serve int
	// MayEmpty allows to take out all members while another group of the family has
	// enough that are up.
	MayEmpty bool
}

// Rules bound what is done. Zeros are the defaults.
type Rules struct {
	// PanicPercent: when more than this share of the members of a family, as far as
	// anything is known of them, is down, or was taken out for being down within
	// PanicWindow, everything stays in or comes back: that many do not die at once, rather
	// the checks are wrong. So it is when none is up. Default 50; 100 is never.
	PanicPercent int
	PanicWindow  time.Duration // default 5 min
	// ChangesPerHour is how many members may be put in or taken out. Default 60.
	ChangesPerHour int
	// BreakerPercent is the share of all members of all groups that may be taken out
	// within an hour and be still out. One always may. Default 50; 100 is no breaker.
	BreakerPercent int
	Damping        Damping
}

func (r Rules) withDefaults() Rules {
	r.PanicPercent = cmp.Or(r.PanicPercent, 50)
	r.PanicWindow = cmp.Or(r.PanicWindow, 5*time.Minute)
	r.ChangesPerHour = cmp.Or(r.ChangesPerHour, 60)
	r.BreakerPercent = cmp.Or(r.BreakerPercent, 50)
	return r
}

// Past is a change that was made.
type Past struct {
	At    time.Time
	Group string
	Value string
	In    bool
	Rule  Rule
}

// Input is what a decision is made from.
type Input struct {
	Groups    []Group
	Opinions  map[string]Opinion // by target
	Penalties map[string]Penalty // by target
	Orders    *Book
	Past      []Past // of the last hour at least
}

// Rule names what decided about a member.
type Rule string

// The rules.
const (
	RuleUp          Rule = "up"          // the majority says so
	RuleDown        Rule = "down"        // the majority says so
	RuleUnknown     Rule = "unknown"     // no majority: it stays as it is
	RuleHold        Rule = "hold"        // a person wants no change of the group
	RuleMaintenance Rule = "maintenance" // a person wants no change of the target
	RuleOut         Rule = "out"         // a person wants it out
	RuleIn          Rule = "in"          // a person wants it in
	RuleForeign     Rule = "foreign"     // the record is not ours
	RuleDamped      Rule = "damped"      // it fell too often of late
	RuleGone        Rule = "gone"        // it is not listed any more
	RuleStandby     Rule = "standby"     // enough others before it are up
	RulePanic       Rule = "panic"       // too many are down at once to be believed
	RuleMinimum     Rule = "minimum"     // too few would be left
	RuleBudget      Rule = "budget"      // too many changes of late
	RuleBreaker     Rule = "breaker"     // too large a share was taken out of late
)

// Choice is what was decided about one member.
type Choice struct {
	Member
	Want   bool   // in service from now on
	Rule   Rule   // what decided
	Reason string // the same for people, with the figures
}

// Changes says whether there is something to do.
func (c Choice) Changes() bool { return c.Want != c.In }

// Plan is what was decided about one group.
type Plan struct {
	Group   string
	Choices []Choice // in the order of the group's members
	Panic   bool
	Held    bool
}

// Changes says whether there is something to do.
func (p Plan) Changes() bool {
	for _, c := range p.Choices {
		if c.Changes() {
			return true
		}
	}
	return false
}

// Decide says of every member whether it is to be in service, and why.
func Decide(rules Rules, in Input, now time.Time) []Plan {
	d := decision{rules: rules.withDefaults(), in: in, now: now}
	if d.in.Orders == nil {
		d.in.Orders = &Book{}
	}
	d.count()
	for _, g := range in.Groups {
		d.plans = append(d.plans, d.wish(g))
	}
	panics := d.panics()
	for i, g := range in.Groups {
		if t, ok := panics[family(g)]; ok && !d.plans[i].Held {
			d.failOpen(&d.plans[i], t)
		}
		d.relent(g, &d.plans[i])
		standby(g, &d.plans[i], in.Opinions)
	}
	for i, g := range in.Groups {
		d.admit(g, &d.plans[i])
	}
	for i, g := range in.Groups {
		d.guard(g, &d.plans[i])
	}
	return d.plans
}

type decision struct {
	rules Rules
	in    Input
	now   time.Time
	plans []Plan

	members int                // of all groups
	changes int                // of the last hour, and planned
	gone    map[[2]string]bool // taken out of late for being down and still out, or about to be: group, value
	recent  map[[2]string]bool // those of gone within the panic window
}

func family(g Group) string { return cmp.Or(g.Family, "\x00"+g.Name) }

// count looks at what was done of late.
func (d *decision) count() {
	out := map[[2]string]bool{}
	for _, g := range d.in.Groups {
		for _, m := range g.Members {
			d.members++
			out[[2]string{g.Name, m.Value}] = !m.In
		}
	}
	d.gone, d.recent = map[[2]string]bool{}, map[[2]string]bool{}
	for _, p := range d.in.Past {
		age := d.now.Sub(p.At)
		if age > time.Hour {
			continue
		}
		d.changes++
		key := [2]string{p.Group, p.Value}
		if p.In || p.Rule != RuleDown || !out[key] {
			continue
		}
		d.gone[key] = true
		if age <= d.rules.PanicWindow {
			d.recent[key] = true
		}
	}
}

// wish says what the votes and the orders want, member by member.
func (d *decision) wish(g Group) Plan {
	p := Plan{Group: g.Name}
	hold, held := d.in.Orders.Of(Hold, g.Name, d.now)
	if !held {
		hold, held = d.in.Orders.Of(Hold, "", d.now)
	}
	p.Held = held
	for _, m := range g.Members {
		c := Choice{Member: m}
		if held {
			c.Want, c.Rule, c.Reason = m.In, RuleHold, "kept: "+ordered("held", hold)
		} else {
			c.Want, c.Rule, c.Reason = d.wishOf(m)
		}
		p.Choices = append(p.Choices, c)
	}
	return p
}

func (d *decision) wishOf(m Member) (want bool, rule Rule, reason string) {
	if m.Foreign {
		return m.In, RuleForeign, "kept: the record is not marked as ours; adopt it to have it managed"
	}
	if m.Gone {
		return false, RuleGone, "not listed in the configuration any more"
	}
	if o, ok := d.in.Orders.Target(m.Target, d.now); ok {
		switch o.Kind {
		case Maintenance:
			return m.In, RuleMaintenance, "kept: " + ordered("in maintenance", o)
		case Out:
			return false, RuleOut, ordered("taken out by hand", o)
		case In:
			return true, RuleIn, ordered("put in by hand", o)
		}
	}
	o := d.in.Opinions[m.Target]
	switch {
	case m.Drain:
		return false, RuleOut, "the platform drains it"
	case o.Verdict == Down:
		return false, RuleDown, o.says(Down)
	case o.Verdict == Unknown:
		return m.In, RuleUnknown, d.undecided(o)
	case !m.In && d.in.Penalties[m.Target].Suppressed:
		return false, RuleDamped, fmt.Sprintf("kept out: it fell too often; back after %s without another fall",
			d.rules.Damping.Until(d.in.Penalties[m.Target]).Sub(d.now).Round(time.Second))
	}
	return true, RuleUp, o.says(Up)
}

func (d *decision) undecided(o Opinion) string {
	if o.Up+o.Down == 0 {
		return "kept: no place has an opinion yet"
	}
	v := Down
	if o.Up > o.Down {
		v = Up
	}
	return fmt.Sprintf("kept: only %s, %d have to", o.says(v), o.Quorum)
}

func ordered(what string, o Order) string {
	if o.By != "" {
		what += " by " + o.By
	}
	if !o.Until.IsZero() {
		what += " until " + o.Until.UTC().Format(time.RFC3339)
	}
	if o.Why != "" {
		what += ": " + o.Why
	}
	return what
}
