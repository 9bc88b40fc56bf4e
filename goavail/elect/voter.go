// Package elect picks the one agent that may write.
//
// Without etcd the places elect it themselves. Time is cut into terms. In each, a
// place promises itself to one candidate at most, for the length of a lease, and
// promises nothing to anybody else before that has ended; what it promised is on disk
// before it says so. Who has the promises of more than half of all configured places
// is the writer until the earliest of them could end, counted from before it asked.
// So there is never a second writer, whatever is lost or late, as long as no clock
// runs more than a fifth faster than another. The term is the writer's epoch.
package elect

import (
	"time"

	"github.com/pancake-stack/pancake/goavail/vote"
)

// Promise is what a place has to remember across restarts.
type Promise struct {
	Term   uint64 `json:"term"`
	Holder string `json:"holder"` // the place that it was promised to
}

// Request asks a place for its promise, or to prolong it.
type Request struct {
	Term  uint64
	From  string
	Round uint64 // comes back in the reply
	// Release gives the promise back.
	Release bool
}

// Reply is a place's answer.
type Reply struct {
	Round   uint64
	Term    uint64 // the highest that the place knows
	Granted bool
}

// Voter is the promises of one place. It computes only.
type Voter struct {
	Promise
	lease time.Duration
	until time.Time // nothing is promised to anybody but Holder before
}

// NewVoter makes the voter of a place that has just started with what it remembers. It
// may have made a promise a moment ago, and forgotten if its disk was lost.
func NewVoter(p Promise, lease time.Duration, now time.Time) *Voter {
	return &Voter{Promise: p, lease: lease, until: now.Add(lease)}
}

// Ask answers a request. With keep, Promise has to be on disk before the reply is sent.
func (v *Voter) Ask(r Request, now time.Time) (reply Reply, keep bool) {
	mine := v.Holder == r.From && v.Holder != ""
	if r.Release {
		if mine && r.Term >= v.Term { // not an old one that was late
			v.until = now
		}
		return Reply{Round: r.Round, Term: v.Term}, false
	}
	switch {
	case now.Before(v.until) && !mine, r.Term < v.Term, r.Term == v.Term && !mine:
		return Reply{Round: r.Round, Term: v.Term}, false
	}
	next := Promise{Term: r.Term, Holder: r.From}
	keep = next != v.Promise
	v.Promise, v.until = next, now.Add(v.lease)
	return Reply{Round: r.Round, Term: v.Term, Granted: true}, keep
}

// Free says whether the voter could promise itself to a new candidate.
func (v *Voter) Free(now time.Time) bool { return !now.Before(v.until) }

// Candidate is the other side: one that asks for promises. It computes only.
type Candidate struct {
	Term   uint64 // that it leads, or led
	ask    uint64 // of the round
	lease  time.Duration
	quorum int
	round  uint64
	asked  time.Time // when the round began
	yes    map[string]bool
	until  time.Time // it is the writer before this
	seen   uint64    // highest term of anybody
}

// NewCandidate makes a candidate among so many configured places.
func NewCandidate(places int, lease time.Duration) *Candidate {
	return &Candidate{lease: lease, quorum: vote.Quorum(places)}
}

// Saw takes note of a term that somebody knows.
func (c *Candidate) Saw(term uint64) { c.seen = max(c.seen, term) }

// Round begins a round: to prolong the lease if there is one, else in a new term. A place
// that campaigned in vain would not prolong in a term below its own, so it is asked in a
// new one, too, which is led once most have agreed.
func (c *Candidate) Round(from string, now time.Time) Request {
	if !c.Leads(now) {
		c.Saw(c.ask)
		c.ask = c.seen + 1
		c.Term, c.until = c.ask, time.Time{}
	} else if c.seen > c.ask {
		c.ask = c.seen + 1
	}
	c.round++
	c.asked, c.yes = now, map[string]bool{}
	return Request{Term: c.ask, From: from, Round: c.round}
}

// Release gives back whatever was promised.
func (c *Candidate) Release(from string) Request {
	c.Drop()
	return Request{Term: c.ask, From: from, Release: true}
}

// Resume lets the next round ask for the term which this place led before a restart.
func (c *Candidate) Resume(p Promise, from string) {
	c.Saw(p.Term)
	if p.Holder == from && p.Term > 0 {
		c.seen = p.Term - 1
	}
}

// Take takes a reply. The lease runs from when the round began, and is taken for a
// fifth shorter than it was promised: clocks differ.
func (c *Candidate) Take(from string, r Reply, now time.Time) {
	c.Saw(r.Term)
	if r.Round != c.round || !r.Granted || r.Term != c.ask || c.yes == nil {
		return
	}
	c.yes[from] = true
	if until := c.asked.Add(c.lease - c.lease/5); len(c.yes) >= c.quorum && until.After(c.until) && now.Before(until) {
		c.Term, c.until = c.ask, until
	}
}

// Leads says whether it is the writer.
func (c *Candidate) Leads(now time.Time) bool { return lasts(c.until, now) }

// lasts says whether a lease has not ended by either clock: the monotonic one stands still
// while a machine is suspended.
func lasts(until, now time.Time) bool {
	return now.Before(until) && now.Round(0).Before(until.Round(0))
}

// Confirmed says whether the current round has won.
func (c *Candidate) Confirmed() bool { return c.yes != nil && len(c.yes) >= c.quorum }

// Pending says whether there is a round that has not won.
func (c *Candidate) Pending() bool { return c.yes != nil && !c.Confirmed() }

// Drop gives up: the lease and the round.
func (c *Candidate) Drop() { c.until, c.yes = time.Time{}, nil }
