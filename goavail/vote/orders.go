package vote

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// The kinds of orders: what people tell goavail.
const (
	Hold        = "hold"        // of a group, or of all if About is "": change nothing
	Maintenance = "maintenance" // of a target: leave it as it is, whatever places say
	Out         = "out"         // of a target: take it out of service
	In          = "in"          // of a target: put it in service
	Adopt       = "adopt"       // of a group: records that are listed but foreign become ours
	Confirm     = "confirm"     // About is the hash of a configuration: it may write
	Pardon      = "pardon"      // of a target: its damping before At is forgotten
)

// Order is something that a person decided. There is one order per subject, and
// the newest wins; all places come to know all of them.
type Order struct {
	Kind  string    `json:"kind"`
	About string    `json:"about,omitempty"`
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
	At    time.Time `json:"at"`
	// Until is when the order ends, by the clock of whoever looks. Zero is never.
	Until time.Time `json:"until,omitzero"`
	// Over takes back what was ordered before.
	Over bool `json:"over,omitempty"`
	// Version is one more than that of the order which it replaces. Origin, the place
	// that took the order, breaks ties.
	Version uint64 `json:"version"`
	Origin  string `json:"origin"`
}

// subject is what there is one order for. A target is out, in or in maintenance,
// not two of them.
func (o Order) subject() string {
	switch o.Kind {
	case Maintenance, Out, In:
		return "target " + o.About
	}
	return o.Kind + " " + o.About
}

// Standing says whether the order holds at a time.
func (o Order) Standing(now time.Time) bool {
	return !o.Over && (o.Until.IsZero() || now.Before(o.Until))
}

func (o Order) compare(p Order) int {
	over := map[bool]int{true: 1}
	return cmp.Or(cmp.Compare(o.Version, p.Version), cmp.Compare(o.Origin, p.Origin), cmp.Compare(over[o.Over], over[p.Over]),
		o.At.Compare(p.At), cmp.Compare(o.Kind, p.Kind), o.Until.Compare(p.Until), cmp.Compare(o.By, p.By), cmp.Compare(o.Why, p.Why))
}

// Book is all orders. Merging books is commutative, associative and idempotent.
type Book struct {
	orders map[string]Order
}

// Give adds an order with a version of its own and returns it as it is spread.
func (b *Book) Give(o Order) Order {
	o.Version = b.orders[o.subject()].Version + 1
	b.Merge(o)
	return o
}

// Merge takes an order that another place spreads, and says whether it was news.
func (b *Book) Merge(o Order) bool {
	s := o.subject()
	if old, ok := b.orders[s]; ok && o.compare(old) <= 0 {
		return false
	}
	if b.orders == nil {
		b.orders = map[string]Order{}
	}
	b.orders[s] = o
	return true
}

// All lists the orders, also those that are over, by subject.
func (b *Book) All() []Order {
	var out []Order
	for _, s := range slices.Sorted(maps.Keys(b.orders)) {
		out = append(out, b.orders[s])
	}
	return out
}

// Len is how many orders there are.
func (b *Book) Len() int { return len(b.orders) }

// forgetAfter is how long an order that is over is kept, so that a place which was
// away does not bring it back to life.
const forgetAfter = 7 * 24 * time.Hour

// Forget drops orders that have been over for long.
func (b *Book) Forget(now time.Time) {
	maps.DeleteFunc(b.orders, func(_ string, o Order) bool {
		return !o.Standing(now) && now.Sub(o.At) > forgetAfter && now.Sub(o.Until) > forgetAfter
	})
}

// Target returns the standing order about a target, if any.
func (b *Book) Target(name string, now time.Time) (Order, bool) {
	o, ok := b.orders["target "+name]
	return o, ok && o.Standing(now)
}

// Of returns the standing order of a kind about something.
func (b *Book) Of(kind, about string, now time.Time) (Order, bool) {
	o, ok := b.orders[kind+" "+about]
	return o, ok && o.Standing(now)
}
