package goavail

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// groups turns records and what is live of them into what is decided on.
func groups(records []Record, live map[dns.Key]dns.Set, targets map[string]*watched, owner string, can dns.Capabilities) []vote.Group {
	var out []vote.Group
	for _, r := range records {
		set, read := live[r.Key]
		g := vote.Group{Name: r.Key.String(), MinHealthy: r.MinHealthy, Serve: r.Serve, MayEmpty: r.MayEmpty}
		if r.MayEmpty {
			g.Family = r.Name + " " + r.Type
		}
		blocked := !read || blocked(set, owner, can)
		listed := map[string]bool{}
		for _, m := range r.Members {
			listed[m.Value] = true
			now, there := set.Find(m.Value)
			member := vote.Member{Value: m.Value, Target: m.Target, In: there && now.On}
			if t := targets[m.Target]; t != nil {
				member.Drain = t.Drain
			}
			// Of a switched set, what is not there cannot be switched.
			member.Foreign = blocked || there && now.Owner != owner || !there && r.Switched()
			g.Members = append(g.Members, member)
		}
		for _, m := range set.Members {
			if !listed[m.Value] && m.Owner == owner && !r.Switched() {
				g.Members = append(g.Members, vote.Member{Value: m.Value, In: m.On, Gone: true, Foreign: blocked})
			}
		}
		out = append(out, g)
	}
	return out
}

// blocked says that a whole set is not ours: a provider marks whole sets, or there is
// room for one value only, and somebody else's is there.
func blocked(set dns.Set, owner string, can dns.Capabilities) bool {
	if can.PerValue && set.Type != dns.CNAME {
		return false
	}
	return slices.ContainsFunc(set.Members, func(m dns.Member) bool { return m.Owner != owner })
}

// change turns a decision into what the provider is asked for.
func change(r Record, live dns.Set, plan vote.Plan, owner string) (dns.Change, bool) {
	before, after := live.Clone(), live.Clone()
	before.Key, after.Key = r.Key, r.Key
	if len(live.Members) == 0 {
		after.TTL, after.Policy = r.TTL, r.Policy
	}
	// What comes is like what is there: some records proxied and some not would give half of
	// the visitors the address behind the proxy.
	proxied := r.Proxied || slices.ContainsFunc(live.Members, func(m dns.Member) bool { return m.Proxied && m.Owner == owner })
	changed := false
	for _, c := range plan.Choices {
		if !c.Changes() || c.Foreign {
			continue
		}
		changed = true
		i := slices.IndexFunc(after.Members, func(m dns.Member) bool { return m.Value == c.Value })
		switch {
		case i < 0:
			after.Members = append(after.Members, dns.Member{Value: c.Value, On: true, Owner: owner, Proxied: proxied})
		case r.Switched():
			after.Members[i].On = c.Want
		default:
			after.Members = slices.Delete(after.Members, i, i+1)
		}
	}
	slices.SortFunc(after.Members, func(a, b dns.Member) int { return cmp.Compare(a.Value, b.Value) })
	return dns.Change{Before: before, After: after}, changed
}

// adoption turns an order to adopt into what the provider is asked for. Where whole sets
// are marked, everything in the set has to be listed: what is not would be removed next.
func adoption(r Record, live dns.Set, owner string, can dns.Capabilities) (c dns.Change, moves []string, problem string) {
	before, after := live.Clone(), live.Clone()
	var extra []string
	for i, m := range after.Members {
		listed := slices.ContainsFunc(r.Members, func(l Member) bool { return l.Value == m.Value })
		switch {
		case m.Owner == owner:
		case listed:
			after.Members[i].Owner = owner
			moves = append(moves, m.Value)
		default:
			extra = append(extra, m.Value)
		}
	}
	if len(extra) > 0 && (!can.PerValue || r.Type == dns.CNAME) {
		return c, nil, "it also holds " + strings.Join(extra, ", ") + ": list that too, or remove it first"
	}
	return dns.Change{Before: before, After: after}, moves, ""
}

// decide works out what should be in service, from what is live as far as this agent
// knows. a.mu is held.
func (a *Agent) decide(now time.Time) []vote.Plan {
	gs := groups(a.records, a.live, a.targets, a.cfg.Owner, a.cfg.Provider.Capabilities())
	if a.act.read.IsZero() {
		gs = nil // nothing is known of what is live
	}
	a.known = vote.Decide(a.cfg.Rules, vote.Input{
		Groups: gs, Opinions: a.opinionsOf(gs, now), Penalties: a.penalties, Orders: &a.book, Past: a.past(now),
	}, now)
	return a.known
}

// opinionsOf counts the votes on the targets of groups. a.mu is held.
func (a *Agent) opinionsOf(gs []vote.Group, now time.Time) map[string]vote.Opinion {
	out := map[string]vote.Opinion{}
	for _, g := range gs {
		for _, m := range g.Members {
			if _, done := out[m.Target]; !done {
				out[m.Target] = a.board.Opinion(m.Target, now)
			}
		}
	}
	return out
}

// keys lists the sets that are managed. a.mu is held.
func (a *Agent) keys() []dns.Key {
	out := make([]dns.Key, 0, len(a.records))
	for _, r := range a.records {
		out = append(out, r.Key)
	}
	return out
}
