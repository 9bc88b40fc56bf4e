package goavail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// adoptFor is how long an order to adopt stands: long enough for the writer to see it.
const adoptFor = 10 * time.Minute

// Apply confirms this configuration, for all agents that have the same.
func (a *Agent) Apply(_ context.Context, r client.Request) ([]client.Order, error) {
	a.mu.Lock()
	hash := a.hash
	a.mu.Unlock()
	return a.give(r, vote.Order{Kind: vote.Confirm, About: hash})
}

// Hold stops all changes of the sets that r names, or of all, or allows them again. It
// fails with NotFound for a set that is not configured.
func (a *Agent) Hold(_ context.Context, r client.Request) ([]client.Order, error) {
	if r.About == "" {
		return a.give(r, vote.Order{Kind: vote.Hold, Over: r.Release})
	}
	return a.aboutSets(r, vote.Order{Kind: vote.Hold, Over: r.Release})
}

// Adopt marks records that are listed but foreign as ours. It fails with NotFound for a
// set that is not configured, and with Conflict for one that cannot be adopted.
func (a *Agent) Adopt(ctx context.Context, r client.Request) ([]client.Order, error) {
	_, err := a.readLimited(ctx)
	if err != nil && !errors.Is(err, errPartly) {
		return nil, err
	}
	a.mu.Lock()
	for _, rec := range a.records {
		if r.About != rec.Name && r.About != rec.Key.String() {
			continue
		}
		if _, read := a.live[rec.Key]; !read {
			a.mu.Unlock()
			return nil, pancake.Errorf(pancake.Unavailable, "%s could not be read: %w", rec.Key, cmp.Or(err, errPartly))
		}
		if _, _, problem := adoption(rec, a.live[rec.Key], a.cfg.Owner, a.cfg.Provider.Capabilities()); problem != "" {
			a.mu.Unlock()
			return nil, pancake.Errorf(pancake.Conflict, "%s cannot be adopted: %s", rec.Key, problem)
		}
	}
	a.mu.Unlock()
	r.For = int(adoptFor / time.Second)
	return a.aboutSets(r, vote.Order{Kind: vote.Adopt})
}

// Drain takes a target out of service, as far as enough others are left, or freezes it
// as it is for maintenance. It fails with NotFound for a target that is not configured.
func (a *Agent) Drain(_ context.Context, r client.Request) ([]client.Order, error) {
	kind := vote.Out
	if r.Maintenance {
		kind = vote.Maintenance
	}
	return a.aboutTarget(r, vote.Order{Kind: kind, About: r.About})
}

// Restore takes back what Drain ordered and forgives the target its falls; with Force it
// puts the target in whatever places say. It fails with NotFound for a target that is not
// configured.
func (a *Agent) Restore(_ context.Context, r client.Request) ([]client.Order, error) {
	orders := []vote.Order{{Kind: vote.Out, About: r.About, Over: true}, {Kind: vote.Pardon, About: r.About}}
	if r.Force {
		orders[0] = vote.Order{Kind: vote.In, About: r.About}
	}
	return a.aboutTarget(r, orders...)
}

func (a *Agent) aboutTarget(r client.Request, orders ...vote.Order) ([]client.Order, error) {
	a.mu.Lock()
	_, known := a.targets[r.About]
	a.mu.Unlock()
	if !known {
		return nil, pancake.Errorf(pancake.NotFound, "there is no target %q", r.About)
	}
	return a.give(r, orders...)
}

// aboutSets gives an order about every set that r names: by name alone, or in full.
func (a *Agent) aboutSets(r client.Request, o vote.Order) ([]client.Order, error) {
	var orders []vote.Order
	a.mu.Lock()
	for _, rec := range a.records {
		if r.About == rec.Name || r.About == rec.Key.String() {
			o.About = rec.Key.String()
			orders = append(orders, o)
		}
	}
	a.mu.Unlock()
	if len(orders) == 0 {
		return nil, pancake.Errorf(pancake.NotFound, "there is no record %q", r.About)
	}
	return a.give(r, orders...)
}

// give writes orders down, on disk too, and spreads them.
func (a *Agent) give(r client.Request, orders ...vote.Order) ([]client.Order, error) {
	if r.For < 0 || r.For > 10*365*24*3600 || len(r.By) > maxText/4 || len(r.Why) > maxText/4 {
		return nil, pancake.Errorf(pancake.Invalid, "an order stands for 0 seconds, which is without end, or more, and its texts are at most %d bytes long", maxText/4)
	}
	now := time.Now().UTC().Round(0)
	var out []client.Order
	a.mu.Lock()
	for i, o := range orders {
		o.By, o.Why, o.At, o.Origin = r.By, r.Why, now, a.cfg.Place
		if r.For > 0 {
			o.Until = now.Add(time.Duration(r.For) * time.Second)
		}
		orders[i] = a.book.Give(o)
		a.obey(orders[i])
		if o.Kind != vote.Pardon {
			out = append(out, order(orders[i]))
		}
	}
	a.mu.Unlock()
	if err := a.save(); err != nil {
		return nil, pancake.Errorf(pancake.Internal, "the order stands, but cannot be saved, so that it may be forgotten: %w", err)
	}
	a.tell(spread{Orders: orders})
	for _, o := range orders {
		if o.Kind == vote.Pardon {
			continue
		}
		a.note(client.Entry{Kind: client.KindOrder, Set: setOf(o), Text: text(o)})
	}
	return out, nil
}

func setOf(o vote.Order) string {
	if o.Kind == vote.Hold || o.Kind == vote.Adopt {
		return o.About
	}
	return ""
}

// text says in words what an order is.
func text(o vote.Order) string {
	about := o.About
	if about == "" {
		about = "everything"
	}
	s := fmt.Sprintf("%s %s", o.Kind, about)
	if o.Over {
		s += " is over"
	} else if !o.Until.IsZero() {
		s += " until " + o.Until.Format(time.RFC3339)
	}
	if o.By != "" {
		s += ", by " + o.By
	}
	if o.Why != "" {
		s += ": " + o.Why
	}
	return s
}
