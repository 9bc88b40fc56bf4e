package goavail

import (
	"errors"
	"slices"
	"time"

	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// Places vote on the provider as they do on targets: each says whether it can use it.
// So a writer that cannot knows whether anybody else could, and stays if nobody can:
// while the provider is out of order for all, the writership does not wander.
const (
	// provider is what that is called on the board. No target has the name.
	provider = ""
	// providerID is what it is called on the wire, where targets have hashes.
	providerID uint64 = 0
	// patience is for how many times as long as other votes those on the provider hold:
	// that some packets are lost must not move the writer.
	patience = 10
)

const (
	// surrender is after how many failures in a row a place counts as one that cannot use
	// the provider. Who writes resigns after so many, the next time after twice as many,
	// and so on.
	surrender = 3
	// maxDoubling bounds that: with the longest waits it is hours.
	maxDoubling = 8
	// vacancy is for how many leases those who cannot use the provider leave it to the
	// others to become the writer.
	vacancy = 3
)

// trouble is how it goes with the provider. Agent.mu guards it.
type trouble struct {
	failures int       // in a row, whatever was tried
	changes  int       // that failed in a row; reading does not make up for it
	why      string    // of the last failure that another place might not have
	tries    int       // failures since this agent became the writer
	resigned int       // how often, since this agent last did all that a writer has to
	vacant   time.Time // since when nobody is the writer; zero: somebody is
}

// count takes note of a failure of whatever was tried.
func (t *trouble) count(err error) {
	t.failures++
	t.tries++
	if elsewhere(err) {
		t.why = err.Error()
	}
}

// changed takes note of how a change went.
func (t *trouble) changed(err error) {
	switch {
	case err == nil:
		t.changes = 0
	case elsewhere(err):
		t.changes++
	}
}

// worked takes note that whatever was tried worked.
func (t *trouble) worked() {
	if t.failures = 0; t.changes == 0 {
		t.why = ""
	}
}

// elsewhere says whether another place might do better. A limit on requests is
// everybody's, a conflict is solved by reading again, and what one place can read most
// others can too.
func elsewhere(err error) bool {
	reason := dns.ReasonOf(err)
	return reason != dns.RateLimited && reason != dns.Conflict && !errors.Is(err, errPartly)
}

// providerBallot is what this place says of the provider. a.mu is held.
func (a *Agent) providerBallot() vote.Ballot {
	switch t := a.act.trouble; {
	case t.why != "" && max(t.failures, t.changes) >= surrender:
		return vote.Ballot{Verdict: vote.Down, Why: t.why}
	case a.act.read.IsZero():
		return vote.Ballot{Why: "has not asked it yet"}
	}
	return vote.Ballot{Verdict: vote.Up}
}

// hearProvider takes another place's vote on the provider. a.mu is held.
func (a *Agent) hearProvider(place string, stamp vote.Stamp, b vote.Ballot, now time.Time) {
	was := a.providers.Ballot(place, provider, now)
	if a.providers.Cast(place, provider, stamp, b, now) && was.Verdict == vote.Down && b.Verdict == vote.Up {
		a.act.hurry() // it may work here, too
		a.wake()
	}
}

// others says whether another place that is heard could use the provider, as far as is known.
func (a *Agent) others(now time.Time) bool {
	places := a.gossip.Places()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.cfg.Places {
		seen, ok := places[p.Name]
		heard := ok && p.Name != a.cfg.Place && vote.Since(seen.Heard, now) <= a.cfg.VoteTTL
		if heard && a.providers.Ballot(p.Name, provider, now).Verdict != vote.Down {
			return true
		}
	}
	return false
}

// defers says whether this agent should leave it to the others to become the writer: it
// cannot use the provider, and one of them can. If none of them does, it tries.
func (a *Agent) defers(now time.Time) bool {
	a.mu.Lock()
	down := a.providerBallot().Verdict == vote.Down
	since := a.act.vacant
	a.mu.Unlock()
	return down && (since.IsZero() || vote.Since(since, now) < vacancy*a.cfg.Lease) && a.others(now)
}

// handOver lets somebody else write if this agent failed too often, and says so. It
// waits longer each time: what all places say may not be how it is.
func (a *Agent) handOver(now time.Time) {
	a.mu.Lock()
	down, leads := a.providerBallot().Verdict == vote.Down, a.act.epoch != 0
	enough := a.act.tries >= surrender<<min(a.act.resigned, maxDoubling)
	a.mu.Unlock()
	if down {
		a.announceSoon()
	}
	if !down || !leads || !enough || !a.others(now) {
		return
	}
	a.mu.Lock()
	a.act.resigned++
	a.mu.Unlock()
	a.elector.Resign(a.cfg.Lease)
}

// providerAlert is raised by any place, and over once a writer, whichever it is, finds
// everything as it should be. That some place can read does not say as much.
const providerAlert = "provider"

func (a *Agent) relieved() {
	a.mu.Lock()
	if a.act.changes == 0 {
		a.act.resigned = 0
	}
	a.mu.Unlock()
	if a.alerted(providerAlert) {
		a.note(client.Entry{Kind: client.KindAlert, Alert: providerAlert, Over: true, Text: "the provider works again"})
	}
}

// alerted says whether an alert stands, whoever raised it.
func (a *Agent) alerted(about string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range slices.Backward(a.history) {
		if e.Kind == client.KindAlert && e.Alert == about {
			return !e.Over
		}
	}
	return false
}
