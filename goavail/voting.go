package goavail

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/pancake-stack/pancake/goavail/gossip"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// targetID is what a target is called on the wire: places that check differently do
// not vote on the same thing. How often they check is their own business.
func targetID(t Target) uint64 {
	c := t.Check
	c.Interval, c.Timeout, c.Recheck, c.Fall, c.Rise, c.CA = 0, 0, 0, 0, 0, ""
	text, _ := json.Marshal(c) // strings and numbers always can be
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name + "\x00")) // a hash takes everything
	_, _ = h.Write(text)
	return h.Sum64()
}

// watch replaces the targets and records, and with them the hash of the configuration.
func (a *Agent) watch(targets []Target, records []Record) error {
	list := make([]probe.Target, 0, len(targets)+len(a.cfg.Canaries))
	for _, t := range targets {
		list = append(list, probe.Target{Name: t.Name, Check: t.Check})
	}
	for _, c := range a.cfg.Canaries {
		list = append(list, probe.Target{Name: c.Name, Check: c.Check})
	}
	if err := a.prober.Set(list); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next, byID := map[string]*watched{}, map[uint64]string{}
	for _, t := range targets {
		w := &watched{Target: t, id: targetID(t), meter: vote.Meter{Fall: t.Check.Fall, Rise: t.Check.Rise}}
		if old := a.targets[t.Name]; old != nil && old.Check == t.Check {
			w.meter, w.err, w.ownErr, w.started = old.meter, old.err, old.ownErr, old.started
		} else {
			a.board.Keep(func(name string) bool { return name != t.Name }) // votes on what it was before
			delete(a.said, t.Name)
		}
		next[t.Name], byID[w.id] = w, t.Name
	}
	a.targets, a.byID, a.records = next, byID, records
	cfg := a.cfg
	if cfg.Records = records; a.hash != cfg.hash() {
		// What is new has to be read, and shown, at once.
		a.hash, a.act.next, a.act.shown = cfg.hash(), time.Time{}, ""
	}
	for _, c := range a.cfg.Canaries {
		a.canaries[c.Name] = true
	}
	gone := func(name string) bool { return next[name] == nil }
	a.board.Keep(func(name string) bool { return !gone(name) })
	for name := range a.opinions {
		if gone(name) {
			delete(a.opinions, name)
			delete(a.said, name)
			delete(a.penalties, name)
		}
	}
	return nil
}

// observe takes the result of a probe. It asks for the next one soon while the verdict
// is about to change.
func (a *Agent) observe(r probe.Result) (soon bool) {
	a.metrics.probed(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	ok := r.Err == nil
	if a.canaries[r.Target] {
		a.canary.Observe(r.Target, ok && !r.Own, r.Started)
		if !ok {
			a.announceSoon()
		}
		return !ok
	}
	w := a.targets[r.Target]
	if w == nil {
		return false
	}
	w.started = r.Started
	before := w.meter.Verdict()
	if r.Own {
		w.meter.Reset()
		w.ownErr = r.Err.Error()
	} else {
		w.meter.Observe(ok, r.Started)
		w.ownErr, w.err = "", ""
		if !ok {
			w.err = r.Err.Error()
		}
	}
	after := w.meter.Verdict()
	if after != before {
		a.announceSoon()
	}
	return !r.Own && (after == vote.Up) != ok
}

func (a *Agent) announceSoon() {
	select {
	case a.speak <- struct{}{}:
	default: // it will be said anyway
	}
}

// ballot is what this place says of a target now.
func (a *Agent) ballot(w *watched, now time.Time) vote.Ballot {
	b := vote.Ballot{Verdict: w.meter.Verdict()}
	silent := vote.Since(w.started, now)
	switch {
	case b.Verdict != vote.Unknown && silent > 3*(w.Check.Interval+w.Check.Timeout)+a.cfg.VoteTTL:
		b = vote.Ballot{Why: "abstains: it has not been probed for " + silent.Round(time.Second).String()}
	case w.ownErr != "":
		b.Why = "abstains: " + w.ownErr
	case b.Verdict == vote.Down:
		b.Why = w.err
		if _, _, began := w.meter.Streak(); w.err != "" {
			if ok, why := a.canary.Vouches(len(a.canaries), began); !ok {
				b = vote.Ballot{Why: why}
			}
		}
	case b.Verdict == vote.Unknown:
		b.Why = "has not probed it often enough yet"
	case w.err != "":
		b.Why = "last probe: " + w.err
	}
	return b
}

// voting casts this place's votes: all of them again and again, and what changes at once.
func (a *Agent) voting(ctx context.Context) error {
	tick := time.NewTicker(a.cfg.VoteEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			a.cast(true)
		case <-a.speak:
			a.cast(false)
		}
	}
}

// told is what this place last said of a target, and the beat since which it says so.
type told struct {
	vote.Ballot
	since uint64
}

// settled is for how many beats a new vote is repeated with each of them; then it is every
// rarely-th time, a part of all votes with each beat.
const settled = 3

// due says whether the vote on a target is to be repeated with a beat.
func (t told) due(beat, id, rarely uint64) bool {
	return beat-t.since <= settled || (beat+id)%rarely == 0
}

// rarely leaves four repetitions within the time for which a vote holds.
func (a *Agent) rarely() uint64 { return max(uint64(a.cfg.VoteTTL/a.cfg.VoteEvery/4), 1) }

// cast votes on the targets of which this place changed its mind, and on a beat also on
// those that are due to be repeated.
func (a *Agent) cast(beat bool) {
	now := time.Now()
	a.mu.Lock()
	a.seq++
	if beat {
		a.beat++
	}
	stamp := vote.Stamp{Incarnation: a.incarnation, Seq: a.seq}
	table := gossip.Table{Config: a.configID()}
	say := func(board *vote.Board, name string, id uint64, b vote.Ballot) {
		old, said := a.said[name]
		switch {
		case !said || old.Verdict != b.Verdict:
			old.since = a.beat
		case !beat || !old.due(a.beat, id, a.rarely()):
			return
		}
		a.said[name] = told{b, old.since}
		board.Cast(a.cfg.Place, name, stamp, b, now)
		table.Lines = append(table.Lines, gossip.Line{Target: id, Ballot: b})
	}
	for name, w := range a.targets {
		say(a.board, name, w.id, a.ballot(w, now))
	}
	say(a.providers, provider, providerID, a.providerBallot())
	a.weigh(now)
	a.mu.Unlock()
	if len(table.Lines) == 0 && !beat {
		return
	}
	for _, body := range gossip.Tables(table) {
		a.gossip.Broadcast(gossip.Ballots, body)
	}
}

// configID is the hash of the configuration as a number. a.mu is held.
func (a *Agent) configID() uint64 {
	n, _ := strconv.ParseUint(a.hash, 16, 64) // it is 16 hexadecimal digits
	return n
}

// weigh counts the votes, and wakes the writer if a majority has changed its mind.
// a.mu is held.
func (a *Agent) weigh(now time.Time) {
	for name := range a.targets {
		a.weighOne(name, now)
	}
}

func (a *Agent) weighOne(name string, now time.Time) {
	v := a.board.Opinion(name, now).Verdict
	was := a.penalties[name]
	a.penalties[name] = a.cfg.Rules.Damping.Note(was, v, now)
	if a.opinions[name] != v {
		a.opinions[name] = v
		a.dirty = true
		a.act.hurry()
		a.wake()
	} else if was.Suppressed != a.penalties[name].Suppressed {
		a.dirty = true
		a.wake()
	}
}

// receive takes a message of another place.
func (a *Agent) receive(m gossip.Message) {
	var err error
	switch m.Kind {
	case gossip.Ballots:
		var t gossip.Table
		if t, err = gossip.ReadTable(m.Body); err == nil {
			a.hear(m, t)
		}
	case gossip.Records:
		err = a.learn(m)
	case gossip.Lease:
		if q, ok := a.elector.(interface{ Receive(string, []byte) error }); ok {
			err = q.Receive(m.From, m.Body)
		}
	}
	if err != nil {
		a.log.Debug("a message of another place makes no sense", "place", m.From, "err", err)
	}
}

// hear puts another place's votes on the board.
func (a *Agent) hear(m gossip.Message, t gossip.Table) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.configs[m.From] = t.Config
	for _, l := range t.Lines {
		if l.Target == providerID {
			a.hearProvider(m.From, m.Stamp, l.Ballot, now)
			continue
		}
		name, ok := a.byID[l.Target]
		if !ok {
			continue
		}
		// Nearly all votes are repetitions, which change nothing; what time changes, cast looks at.
		was := a.board.Ballot(m.From, name, now).Verdict
		if a.board.Cast(m.From, name, m.Stamp, l.Ballot, now) && was != l.Ballot.Verdict {
			a.weighOne(name, now)
		}
	}
}

// eligible says whether this agent should want to write: it hears from enough others
// to have a majority, its configuration is confirmed, if any of theirs is, and the
// provider lets it, if it lets any of them. Who writes already stays as far as the last
// of these goes: see handOver.
func (a *Agent) eligible() bool {
	now := time.Now()
	if a.elector.Leader().Until.IsZero() && a.defers(now) {
		return false
	}
	places := a.gossip.Places()
	a.mu.Lock()
	defer a.mu.Unlock()
	n, dry := 0, a.dryRun(now)
	for _, p := range a.cfg.Places {
		if s, ok := places[p.Name]; !ok || vote.Since(s.Heard, now) > a.cfg.VoteTTL {
			continue
		}
		n++
		// While a new configuration is shown first, those with the old one go on with failover.
		if _, confirmed := a.book.Of(vote.Confirm, fmt.Sprintf("%016x", a.configs[p.Name]), now); dry && confirmed {
			return false
		}
	}
	return n >= vote.Quorum(len(a.cfg.Places))
}
