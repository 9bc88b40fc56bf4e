package vote

import (
	"fmt"
	"maps"
)

// toll is how many members of a family are down, of those of which anything is known.
type toll struct{ dead, known, up int }

// panics finds the families of which too many are down at once. Members that nothing
// is known of do not speak for those that are left being well, so they do not count. That
// the rest die while none is up is too many as well: it gains nothing to take them out.
func (d *decision) panics() map[string]toll {
	tolls := map[string]toll{}
	for i, g := range d.in.Groups {
		for _, c := range d.plans[i].Choices {
			if c.Foreign || c.Gone || d.in.Opinions[c.Target].Verdict == Unknown {
				continue
			}
			t := tolls[family(g)]
			t.known++
			if d.in.Opinions[c.Target].Verdict == Up {
				t.up++
			}
			if c.Rule == RuleDown && (c.In || d.recent[[2]string{g.Name, c.Value}]) {
				t.dead++
			}
			tolls[family(g)] = t
		}
	}
	maps.DeleteFunc(tolls, func(_ string, t toll) bool {
		return t.dead*100 <= t.known*d.rules.PanicPercent && (t.up > 0 || t.dead == 0 || d.rules.PanicPercent == 100)
	})
	return tolls
}

// failOpen keeps in service what is down, and puts back what was taken out
// shortly before for the same reason.
func (d *decision) failOpen(p *Plan, t toll) {
	p.Panic = true
	why := fmt.Sprintf(": %d of %d that anything is known of are down at once, which is not believed; ", t.dead, t.known)
	for i := range p.Choices {
		c := &p.Choices[i]
		switch {
		case c.Rule != RuleDown:
		case c.In:
			c.Want, c.Rule, c.Reason = true, RulePanic, "kept"+why+c.Reason
		case d.recent[[2]string{p.Group, c.Value}]:
			c.Want, c.Rule, c.Reason = true, RulePanic, "put back"+why+c.Reason
		}
	}
}

// relent puts in what is up but held back for its falls where too few others would serve
// that are not known to be down: better one that flaps than none.
func (d *decision) relent(g Group, p *Plan) {
	good := serving(p, func(c Choice) bool { return c.Want && (c.Rule == RuleIn || d.in.Opinions[c.Target].Verdict != Down) })
	for i := range p.Choices {
		c := &p.Choices[i]
		if c.Rule != RuleDamped || good >= minimum(g) {
			continue
		}
		c.Want, c.Rule, c.Reason = true, RuleUp, d.in.Opinions[c.Target].says(Up)+"; it fell too often, but too few others are up"
		good++
	}
}

// standby leaves in service only the first so many members. A person's word comes
// first, then the order of preference. As long as it is not known that those with a
// seat are up, nobody else has to go.
func standby(g Group, p *Plan, opinions map[string]Opinion) {
	if g.Serve <= 0 || p.Held {
		return
	}
	up := func(c *Choice) bool { return c.Rule == RuleIn || opinions[c.Target].Verdict == Up }
	seated, sure := map[int]bool{}, 0
	for _, first := range []func(*Choice) bool{
		func(c *Choice) bool { return c.In && c.Rule == RuleMaintenance },
		func(c *Choice) bool { return c.Rule == RuleIn },
		func(c *Choice) bool { return c.In || up(c) },
		func(*Choice) bool { return true }, // put back in a panic
	} {
		for i := range p.Choices {
			c := &p.Choices[i]
			if !c.Want || c.Foreign || seated[i] || len(seated) == g.Serve || !first(c) {
				continue
			}
			seated[i] = true
			if up(c) {
				sure++
			}
		}
	}
	for i := range p.Choices {
		c := &p.Choices[i]
		if !c.Want || c.Foreign || seated[i] || c.In && (sure < g.Serve || c.Rule == RuleMaintenance) {
			continue
		}
		c.Want, c.Rule, c.Reason = false, RuleStandby, fmt.Sprintf("on standby: no more than %d serve, and others come first", g.Serve)
	}
}

// admit allows what is to be put in service, within the budget. What is needed to
// reach the minimum, or to undo our own removals in a panic, needs no budget. What is down
// does not count for the minimum, unless what comes would take its place: members that
// replace each other for ever are what the budget is for.
func (d *decision) admit(g Group, p *Plan) {
	in := serving(p, func(c Choice) bool { return c.In && (g.Serve > 0 || d.in.Opinions[c.Target].Verdict != Down) })
	for i := range p.Choices {
		c := &p.Choices[i]
		if !c.Want || c.In {
			continue
		}
		if d.changes >= d.rules.ChangesPerHour && c.Rule != RulePanic && in >= minimum(g) {
			c.refuse(RuleBudget, d.exhausted())
			continue
		}
		d.changes++
		in++
	}
}

// guard keeps in service what must not be taken out.
func (d *decision) guard(g Group, p *Plan) {
	left := serving(p, func(c Choice) bool { return c.In || c.Want })
	least := minimum(g)
	if g.MayEmpty && d.standIn(g) {
		least = 0
	}
	// Those that are down go before those that are merely not needed.
	for _, rule := range []Rule{RuleDown, RuleOut, RuleGone, RuleStandby} {
		for i := range p.Choices {
			c := &p.Choices[i]
			if c.Want || !c.In || c.Rule != rule {
				continue
			}
			switch {
			case g.Serve > 0 && left > g.Serve:
				left-- // another one takes its place, which was counted
			case left-1 < least && left == 1:
				c.refuse(RuleMinimum, "it is the last one")
			case left-1 < least:
				c.refuse(RuleMinimum, fmt.Sprintf("at least %d stay in service", least))
			case rule != RuleDown && d.well(p) < least:
				c.refuse(RuleMinimum, fmt.Sprintf("at least %d of those that are left have to be up", least))
			case d.changes >= d.rules.ChangesPerHour:
				c.refuse(RuleBudget, d.exhausted())
			case rule == RuleDown && len(d.gone) > 0 && (len(d.gone)+1)*100 > d.members*d.rules.BreakerPercent:
				c.refuse(RuleBreaker, fmt.Sprintf("%d of %d were taken out within an hour, and no more than %d %% may be",
					len(d.gone), d.members, d.rules.BreakerPercent))
			default:
				left--
				d.changes++
				if rule == RuleDown {
					d.gone[[2]string{p.Group, c.Value}] = true
				}
			}
		}
	}
}

// well counts the members that stay in service, or come, and are known to be up.
func (d *decision) well(p *Plan) int {
	return serving(p, func(c Choice) bool { return c.Want && (c.Rule == RuleIn || d.in.Opinions[c.Target].Verdict == Up) })
}

// standIn says whether another group of the family has enough members in service
// that are up and stay.
func (d *decision) standIn(g Group) bool {
	for i, other := range d.in.Groups {
		if other.Name == g.Name || family(other) != family(g) {
			continue
		}
		up := serving(&d.plans[i], func(c Choice) bool {
			return c.In && c.Want && d.in.Opinions[c.Target].Verdict == Up
		})
		if up >= minimum(other) {
			return true
		}
	}
	return false
}

// serving counts the members of our own for which fn is true.
func serving(p *Plan, fn func(Choice) bool) (n int) {
	for _, c := range p.Choices {
		if !c.Foreign && fn(c) {
			n++
		}
	}
	return n
}

// minimum is how many members stay, which cannot be more than are to serve.
func minimum(g Group) int {
	least := max(g.MinHealthy, 1)
	if g.Serve > 0 {
		least = min(least, g.Serve)
	}
	return least
}

func (d *decision) exhausted() string {
	return fmt.Sprintf("%d changes within an hour are enough", d.rules.ChangesPerHour)
}

// refuse leaves the member as it is, for a reason that comes on top of the one
// that wanted to change it.
func (c *Choice) refuse(rule Rule, why string) {
	verb := "kept out"
	if c.In {
		verb = "kept"
	}
	c.Want, c.Rule, c.Reason = c.In, rule, verb+": "+why+"; "+c.Reason
}
