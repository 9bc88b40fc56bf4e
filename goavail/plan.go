package goavail

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// job is one set that is to be changed.
type job struct {
	change dns.Change
	entry  client.Entry
}

// work lists what has to be changed. a.mu is held.
func (a *Agent) work(plans []vote.Plan, now time.Time) []job {
	var out []job
	for i, p := range plans {
		r := a.records[i]
		if j, ok := a.adopt(r, now); ok {
			out = append(out, j)
			continue // the rest follows in the next round
		}
		c, changed := change(r, a.live[r.Key], p, a.cfg.Owner)
		if !changed {
			continue
		}
		e := client.Entry{Set: p.Group, Before: c.Before.Values(), After: c.After.Values()}
		for _, choice := range p.Choices {
			if choice.Changes() {
				e.Moves = append(e.Moves, client.Move{Value: choice.Value, Target: choice.Target, In: choice.Want, Rule: string(choice.Rule), Reason: choice.Reason})
			}
		}
		e.Text = sentence(e)
		out = append(out, job{c, e})
	}
	return out
}

func (a *Agent) adopt(r Record, now time.Time) (job, bool) {
	if _, ok := a.book.Of(vote.Adopt, r.Key.String(), now); !ok {
		return job{}, false
	}
	c, values, problem := adoption(r, a.live[r.Key], a.cfg.Owner, a.cfg.Provider.Capabilities())
	if problem != "" || len(values) == 0 {
		return job{}, false
	}
	return job{c, client.Entry{Set: r.Key.String(), Before: c.Before.Values(), After: c.After.Values(), Text: r.Key.String() + ": adopted " + list(values)}}, true
}

// sentence says in words what an entry changes.
func sentence(e client.Entry) string {
	var parts []string
	for _, m := range e.Moves {
		verb := "took out"
		if m.In {
			verb = "put in"
		}
		parts = append(parts, fmt.Sprintf("%s %s (%s)", verb, m.Value, m.Reason))
	}
	return e.Set + ": " + strings.Join(parts, ", ")
}

// show tells what would be done, once per difference.
func (a *Agent) show(work []job, epoch uint64) {
	var lines []string
	for _, j := range work {
		lines = append(lines, diff(j.entry)...)
	}
	text := strings.Join(lines, "\n")
	a.mu.Lock()
	news := a.act.shown != text
	a.act.shown = text
	a.mu.Unlock()
	if !news {
		return
	}
	a.log.Warn("dry run: this configuration is new and has not been confirmed; this would be changed", "diff", text)
	for _, j := range work {
		j.entry.Kind, j.entry.Epoch = client.KindPlan, epoch
		a.note(j.entry)
	}
}

// diff shows an entry line by line.
func diff(e client.Entry) []string {
	var out []string
	for _, m := range e.Moves {
		sign := "-"
		if m.In {
			sign = "+"
		}
		out = append(out, fmt.Sprintf("%s %s %s  # %s: %s", sign, e.Set, m.Value, cmp.Or(m.Target, "-"), m.Reason))
	}
	if len(e.Moves) == 0 {
		out = append(out, "~ "+e.Text)
	}
	return out
}

// raise tells people, once, of what they should look at.
func (a *Agent) raise(plans []vote.Plan) {
	found := map[string]string{}
	for _, p := range plans {
		if p.Panic {
			found["panic "+p.Group] = p.Group + ": too many are down at once to be believed; all stay in service"
		}
		for _, c := range p.Choices {
			if c.Rule == vote.RuleMinimum || c.Rule == vote.RuleBudget || c.Rule == vote.RuleBreaker {
				found[string(c.Rule)+" "+p.Group+" "+c.Value] = p.Group + ": " + c.Value + " " + c.Reason
			}
		}
	}
	a.mu.Lock()
	var news []client.Entry
	for key, text := range found {
		if a.act.alerts[key] == "" {
			news = append(news, client.Entry{Kind: client.KindAlert, Alert: key, Text: text})
		}
	}
	for key, text := range a.act.alerts {
		if found[key] == "" {
			news = append(news, client.Entry{Kind: client.KindAlert, Alert: key, Over: true, Text: "no longer: " + text})
		}
	}
	a.act.alerts = found
	a.mu.Unlock()
	slices.SortFunc(news, func(x, y client.Entry) int { return strings.Compare(x.Text, y.Text) })
	for _, e := range news {
		if !e.Over {
			a.log.Warn("a member stays as it is for safety", "text", e.Text)
		}
		a.note(e)
	}
}
