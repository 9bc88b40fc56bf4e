package goavail

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/gossip"
	"github.com/pancake-stack/pancake/goavail/vote"
)

const (
	keepHistory = 1000
	// tellHistory is how much of the history goes to a place that joins, in entries.
	tellHistory = 100
	maxOrders   = 5000
	maxText     = 2048 // bytes of any text of another place
)

// spread is the body of a message with orders and history.
type spread struct {
	Orders  []vote.Order   `json:"orders,omitempty"`
	History []client.Entry `json:"history,omitempty"`
}

// everything is what a place that joins is told.
func (a *Agent) everything() []gossip.Body {
	a.mu.Lock()
	orders, history := a.book.All(), slices.Clone(a.history[max(0, len(a.history)-tellHistory):])
	table := gossip.Table{Config: a.configID()}
	for name, w := range a.targets {
		if b, ok := a.said[name]; ok {
			table.Lines = append(table.Lines, gossip.Line{Target: w.id, Ballot: b.Ballot})
		}
	}
	if b, ok := a.said[provider]; ok {
		table.Lines = append(table.Lines, gossip.Line{Target: providerID, Ballot: b.Ballot})
	}
	a.mu.Unlock()
	var out []gossip.Body
	add := func(s spread) {
		if text, err := json.Marshal(s); err == nil {
			out = append(out, gossip.Body{Kind: gossip.Records, Body: text})
		}
	}
	// In small parts: one that is too large for a message would not be heard at all.
	for some := range slices.Chunk(orders, 100) {
		add(spread{Orders: some})
	}
	for some := range slices.Chunk(history, 10) {
		add(spread{History: some})
	}
	for _, b := range gossip.Tables(table) {
		out = append(out, gossip.Body{Kind: gossip.Ballots, Body: b})
	}
	return out
}

// tell spreads news.
func (a *Agent) tell(s spread) {
	if text, err := json.Marshal(s); err == nil {
		a.gossip.Broadcast(gossip.Records, text)
	}
}

// learn takes orders and history of another place.
func (a *Agent) learn(m gossip.Message) error {
	var s spread
	if err := json.Unmarshal(m.Body, &s); err != nil {
		return pancake.Errorf(pancake.Invalid, "orders and history: %w", err)
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range s.Orders {
		if !plausible(o) || a.book.Len() >= maxOrders {
			continue
		}
		if a.book.Merge(o) {
			a.obey(o)
		}
	}
	for _, e := range s.History {
		if len(e.ID) == 0 || len(e.ID) > 128 || len(e.Text) > maxText || len(e.Error) > maxText || len(e.Moves) > 1000 {
			continue
		}
		// What a clock that runs ahead dates later than now would count as new for ever.
		if e.At.After(now) {
			e.At = now.UTC().Round(0)
		}
		if a.record(e) && e.Kind == client.KindChange {
			// Somebody wrote: look what it is like now, not all at once.
			a.act.readSoon(now, a.cfg.VoteEvery)
		}
	}
	return nil
}

func plausible(o vote.Order) bool {
	kinds := []string{vote.Hold, vote.Maintenance, vote.Out, vote.In, vote.Adopt, vote.Confirm, vote.Pardon}
	return slices.Contains(kinds, o.Kind) && len(o.About) <= maxText && len(o.Why) <= maxText && len(o.By) <= maxText && len(o.Origin) <= maxText
}

// obey does what an order asks for beyond what it means for decisions. a.mu is held.
func (a *Agent) obey(o vote.Order) {
	if o.Kind == vote.Pardon {
		if p, ok := a.penalties[o.About]; ok && !o.Over {
			a.penalties[o.About] = vote.Penalty{At: p.At, Last: p.Last}
		}
	}
	a.dirty = true
	a.act.hurry()
	a.wake()
}

// record adds an entry to the history, in order of time, and says whether it was new.
// a.mu is held.
func (a *Agent) record(e client.Entry) bool {
	if a.ids[e.ID] || len(a.history) == keepHistory && e.At.Before(a.history[0].At) {
		return false
	}
	a.ids[e.ID] = true
	at, _ := slices.BinarySearchFunc(a.history, e, func(x, y client.Entry) int {
		return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.ID, y.ID))
	})
	a.history = slices.Insert(a.history, at, e)
	if over := len(a.history) - keepHistory; over > 0 {
		for _, old := range a.history[:over] {
			delete(a.ids, old.ID)
		}
		a.history = slices.Delete(a.history, 0, over)
	}
	a.dirty = true
	return true
}

// note makes an entry of the history, and tells it to the log, the other places, and
// who wants to be notified.
func (a *Agent) note(e client.Entry) {
	e.Text, e.Error = clip(e.Text), clip(e.Error)
	a.mu.Lock()
	a.entries++
	e.ID = a.cfg.Place + "/" + strconv.FormatUint(a.incarnation, 36) + "/" + strconv.FormatUint(a.entries, 10)
	e.At, e.Place = time.Now().UTC(), a.cfg.Place
	a.record(e)
	a.mu.Unlock()
	a.metrics.noted(e)
	a.tell(spread{History: []client.Entry{e}})
	select {
	case a.notes <- e:
	default:
		a.log.Warn("too much happens to tell all of it", "text", e.Text)
	}
}

// clip shortens a text to what other places take.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText-3], "") + "…"
}

// past is what was changed within the last hour, for decisions. a.mu is held.
func (a *Agent) past(now time.Time) []vote.Past {
	var out []vote.Past
	later := map[[2]string]bool{} // which way a member was moved after that
	for _, e := range slices.Backward(a.history) {
		if now.Sub(e.At) > time.Hour {
			break
		}
		if e.Kind != client.KindChange || e.Error != "" && !e.Unsure {
			continue
		}
		for _, m := range e.Moves {
			member := [2]string{e.Set, m.Value}
			in, again := later[member]
			later[member] = m.In
			if e.Unsure && again && in == m.In {
				continue // the same was tried again, and counts once: an outage of the provider must not use up the budget
			}
			out = append(out, vote.Past{At: e.At, Group: e.Set, Value: m.Value, In: m.In, Rule: vote.Rule(m.Rule)})
		}
	}
	return out
}
