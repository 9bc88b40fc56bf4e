// Package vote decides which members of a set of records are in service.
//
// It only computes: what places say comes in as ballots, what is in service now
// comes in with the groups, and what should be changed goes out as data, with the
// reason for every member. Two rules stand above all others. What is not known
// changes nothing: a ballot that has expired, or one that was never cast, is
// neither "up" nor "down". And a change needs more than half of all places that
// are configured, not of those that can be reached, so that the smaller side of a
// partition does nothing.
package vote

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Verdict is what a place, or the majority of them, says of a target.
type Verdict uint8

// The verdicts. Unknown is no opinion and never counts as Down.
const (
	Unknown Verdict = iota
	Up
	Down
)

func (v Verdict) String() string {
	switch v {
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "unknown"
}

// Quorum is how many of n places are more than half.
func Quorum(n int) int { return n/2 + 1 }

// Stamp orders what one sender says: a later message has a greater stamp, also
// across its restarts.
type Stamp struct {
	Incarnation uint64 // grows with each start
	Seq         uint64 // grows with each message of one incarnation
}

// Compare orders stamps.
func (s Stamp) Compare(o Stamp) int {
	return cmp.Or(cmp.Compare(s.Incarnation, o.Incarnation), cmp.Compare(s.Seq, o.Seq))
}

// Ballot is what one place says of one target.
type Ballot struct {
	Verdict Verdict
	Why     string // for people: the last error, or why the place abstains
}

// Board holds the latest ballot of every place on every target. It is not safe
// for concurrent use.
type Board struct {
	places []string
	ttl    time.Duration
	cast   map[string]map[string]entry // by target, place
}

type entry struct {
	Ballot
	stamp Stamp
	heard time.Time
}

// NewBoard makes a board for the places that are configured, sorted; a ballot
// expires when it was not repeated for ttl.
func NewBoard(places []string, ttl time.Duration) *Board {
	places = slices.Clone(places)
	slices.Sort(places)
	return &Board{places: slices.Compact(places), ttl: ttl, cast: map[string]map[string]entry{}}
}

// Places lists the places, sorted.
func (b *Board) Places() []string { return slices.Clone(b.places) }

// Cast puts a ballot on the board. It is refused, with false, when the place is
// not one of those configured, or when it is not newer than the one there is.
func (b *Board) Cast(place, target string, stamp Stamp, ballot Ballot, now time.Time) bool {
	if _, known := slices.BinarySearch(b.places, place); !known || ballot.Verdict > Down {
		return false
	}
	of := b.cast[target]
	if of == nil {
		of = map[string]entry{}
		b.cast[target] = of
	}
	if old, ok := of[place]; ok && stamp.Compare(old.stamp) <= 0 {
		return false
	}
	of[place] = entry{ballot, stamp, now}
	return true
}

// Keep forgets all targets but those for which keep is true.
func (b *Board) Keep(keep func(target string) bool) {
	for target := range b.cast {
		if !keep(target) {
			delete(b.cast, target)
		}
	}
}

// Since is how long ago something was, at the most: the monotonic clock stands still
// while a machine is suspended, the other one may be set back.
func Since(then, now time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// Opinion is what the places together say of a target.
type Opinion struct {
	Verdict           Verdict // of the majority
	Up, Down, Unknown int     // places
	Quorum            int     // how many have to agree
}

// Opinion counts the ballots on a target that have not expired.
func (b *Board) Opinion(target string, now time.Time) Opinion {
	o := Opinion{Quorum: Quorum(len(b.places))}
	for _, e := range b.cast[target] { // of configured places only
		switch {
		case Since(e.heard, now) > b.ttl:
		case e.Verdict == Up:
			o.Up++
		case e.Verdict == Down:
			o.Down++
		}
	}
	o.Unknown = len(b.places) - o.Up - o.Down
	switch {
	case o.Down >= o.Quorum:
		o.Verdict = Down
	case o.Up >= o.Quorum:
		o.Verdict = Up
	}
	return o
}

// Ballot is what one place says of a target now.
func (b *Board) Ballot(place, target string, now time.Time) Ballot {
	e, ok := b.cast[target][place]
	if !ok {
		return Ballot{Why: "has not voted"}
	}
	if silent := Since(e.heard, now); silent > b.ttl {
		return Ballot{Why: fmt.Sprintf("silent for %s", silent.Round(time.Second))}
	}
	return e.Ballot
}

// Places in words, for reasons: "3 of 5 places say down".
func (o Opinion) says(v Verdict) string {
	n, all := map[Verdict]int{Up: o.Up, Down: o.Down, Unknown: o.Unknown}[v], o.Up+o.Down+o.Unknown
	verb := "say"
	if n == 1 {
		verb = "says"
	}
	return fmt.Sprintf("%d of %d places %s %s", n, all, verb, v)
}
