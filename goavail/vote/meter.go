package vote

import (
	"slices"
	"time"
)

// Meter turns the results of probes into a verdict: so many failures in a row
// make it Down, so many successes in a row Up, and before either it is Unknown.
type Meter struct {
	Fall, Rise int // each at least 1
	verdict    Verdict
	ok         bool // of the last result
	streak     int  // results like the last one in a row
	began      time.Time
}

// Observe takes the result of a probe that was started at a time.
func (m *Meter) Observe(ok bool, started time.Time) {
	if m.streak == 0 || ok != m.ok {
		m.ok, m.streak, m.began = ok, 0, started
	}
	// Enough is enough: a streak of years must not overflow.
	m.streak = min(m.streak+1, max(m.Fall, m.Rise, 1))
	switch {
	case !ok && m.streak >= m.Fall:
		m.verdict = Down
	case ok && m.streak >= m.Rise:
		m.verdict = Up
	}
}

// Reset forgets everything: the results so far told nothing of the target.
func (m *Meter) Reset() { *m = Meter{Fall: m.Fall, Rise: m.Rise} }

// Verdict is the verdict by now.
func (m *Meter) Verdict() Verdict { return m.verdict }

// Streak is how many results in a row were like the last one, counted up to what
// a verdict needs, and when the first of them was started.
func (m *Meter) Streak() (ok bool, n int, began time.Time) { return m.ok, m.streak, m.began }

// Canary tells whether this place can see anything at all: it watches targets
// that have nothing to do with ours. Without any it has no objection.
type Canary struct {
	Need int // how many have to answer; 0 means more than half
	seen map[string]canary
}

type canary struct {
	ok      bool
	started time.Time // of the last success
}

// Observe takes the result of a probe of one canary.
func (c *Canary) Observe(name string, ok bool, started time.Time) {
	if c.seen == nil {
		c.seen = map[string]canary{}
	}
	now := c.seen[name]
	if now.ok = ok; ok {
		now.started = started
	}
	c.seen[name] = now
}

// Vouches says whether "down" can be believed of a target that began to fail at a
// time: as many canaries as needed, of so many that there are, answer, and have
// done so since. Otherwise why says what is missing.
func (c *Canary) Vouches(canaries int, began time.Time) (ok bool, why string) {
	if canaries == 0 {
		return true, ""
	}
	need := c.Need
	if need <= 0 {
		need = Quorum(canaries)
	}
	var successes []time.Time
	for _, s := range c.seen {
		if s.ok {
			successes = append(successes, s.started)
		}
	}
	if len(successes) < need {
		return false, "abstains: its canaries do not answer either"
	}
	slices.SortFunc(successes, func(a, b time.Time) int { return b.Compare(a) })
	if successes[need-1].Before(began) {
		return false, "abstains until its canaries have answered again"
	}
	return true, ""
}
