// Package mirror decides which records go from one side of a bridge to the
// other: from our cluster to the old one and back. It computes only; time and
// what both sides know are passed in.
//
// It is free of loops because a record goes out only from the side on which its
// host is a member, and never towards that side. What a side believes of the
// other's hosts is compared with the truth and put right, but never passed on.
//
// The sides differ in how a record stays alive. Theirs repeat each once a minute,
// with a new time, and every repetition is passed on to us. Ours do not repeat
// what has not changed; the bridge repeats it to them on their behalf.
package mirror

import (
	"hash/fnv"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// Presence says what a side makes of a host as one of its members.
type Presence int

// The presences. A host that was never a member is a Stranger.
const (
	Stranger Presence = iota
	Present
	Gone // it has left or is dead
)

const (
	// again is how long the other side may take to show what it was sent.
	again = 5 * time.Second
	// patience is how long something may look wrong before it is ended without
	// its own host's word: a side that was just joined is not complete at once.
	patience = 15 * time.Second
	// step is how much newer than a record the tombstone is that its own host
	// does not write: NinesStack Sidecar's, and catalog's.
	step = time.Second
	// pruneEvery is how often what was remembered of forgotten records is dropped.
	pruneEvery = time.Minute
)

// View is what is known at one moment.
type View struct {
	Ours, Theirs         *catalog.Snapshot
	OurHosts, TheirHosts map[string]Presence
	OneWay               bool // nothing goes to them
	// Alone says that this host seems cut off from ours: no service is ended
	// because its host seems dead.
	Alone bool
}

// Plan is what to do.
type Plan struct {
	ToOurs, ToTheirs []pancake.Service
	// Both are hosts that are members of both sides. They are not mirrored: either
	// side would contradict what it hears of its own host.
	Both []string
	// Unfit are records that the other side cannot take in any form.
	Unfit []*pancake.Service
}

// Mirror remembers what it has sent. It is not safe for concurrent use.
type Mirror struct {
	shape   func(*pancake.Service) (pancake.Service, bool)
	refresh time.Duration
	quiet   map[string]quiet // hosts about which there was nothing to do
	sent    map[key]sent
	odd     map[key]time.Time // since when something looks wrong
	prune   time.Time
}

// quiet is how a host was, and when to look again though it has not changed.
type quiet struct {
	pair
	until time.Time
}

// pair is a host as both sides know it.
type pair struct {
	ours, theirs *catalog.Host
	side         side
}

type key struct {
	toTheirs bool
	host, id string
}

type sent struct {
	source time.Time // Updated of the record on its own side
	at     time.Time
}

// New makes a Mirror. shape gives a record of ours the form in which they take
// it, false if there is none. A record of ours is repeated to them when it is
// older than refresh, and a sixth of that so that not all are at once.
func New(shape func(*pancake.Service) (pancake.Service, bool), refresh time.Duration) *Mirror {
	return &Mirror{shape: shape, refresh: refresh, quiet: map[string]quiet{}, sent: map[key]sent{}, odd: map[key]time.Time{}}
}

// side is where a host is at home.
type side int

const (
	nowhere  side = iota // on neither side, and it never was
	departed             // on neither side any more
	ours
	theirs
	both
)

func (v *View) home(host string) side {
	o, t := v.OurHosts[host], v.TheirHosts[host]
	switch {
	case o == Present && (t != Present || v.OneWay):
		return ours
	case o == Present:
		return both
	case t == Present:
		return theirs
	case o == Gone || t == Gone:
		return departed
	}
	return nowhere
}

// Step returns what has to be sent for both sides to agree.
func (m *Mirror) Step(v View, now time.Time) Plan {
	var plan Plan
	for name := range v.Ours.Hosts {
		m.host(&plan, &v, name, now)
	}
	for name := range v.Theirs.Hosts {
		if v.Ours.Hosts[name] == nil {
			m.host(&plan, &v, name, now)
		}
	}
	slices.Sort(plan.Both)
	if now.Sub(m.prune) >= pruneEvery {
		m.forget(&v, now)
	}
	return plan
}

func (m *Mirror) host(plan *Plan, v *View, name string, now time.Time) {
	p := pair{v.Ours.Hosts[name], v.Theirs.Hosts[name], v.home(name)}
	if p.side == both {
		plan.Both = append(plan.Both, name)
		return
	}
	if q := m.quiet[name]; q.pair == p && now.Before(q.until) {
		return
	}
	out := lane{m: m, plan: plan, name: name, from: records(p.ours), to: records(p.theirs), toTheirs: true, now: now}
	in := lane{m: m, plan: plan, name: name, from: records(p.theirs), to: records(p.ours), now: now}
	var settled bool
	switch {
	case p.side == ours:
		settled = v.OneWay || out.copy()
	case p.side == theirs:
		settled = in.copy()
	case v.Alone: // and look again
	default:
		settled = in.bury(v.TheirHosts[name] == Gone)
		if !v.OneWay {
			settled = out.bury(v.OurHosts[name] == Gone) && settled
		}
	}
	if settled {
		m.quiet[name] = quiet{p, now.Add(m.refresh / 8)}
	} else {
		delete(m.quiet, name)
	}
}

// forget drops what concerns records that neither side knows any more.
func (m *Mirror) forget(v *View, now time.Time) {
	m.prune = now
	known := func(k key) bool {
		return records(v.Ours.Hosts[k.host])[k.id] != nil || records(v.Theirs.Hosts[k.host])[k.id] != nil
	}
	for k := range m.sent {
		if !known(k) {
			delete(m.sent, k)
		}
	}
	for k := range m.odd {
		if !known(k) {
			delete(m.odd, k)
		}
	}
	for name := range m.quiet {
		if v.Ours.Hosts[name] == nil && v.Theirs.Hosts[name] == nil {
			delete(m.quiet, name)
		}
	}
}

func records(h *catalog.Host) map[string]*pancake.Service {
	if h == nil {
		return nil
	}
	return h.Services
}

// lane is the way of one host's records from one side to the other.
type lane struct {
	m        *Mirror
	plan     *Plan
	name     string
	from, to map[string]*pancake.Service
	toTheirs bool
	now      time.Time
}

func (l *lane) key(id string) key { return key{l.toTheirs, l.name, id} }

// copy makes the other side believe what the host's own side knows. It reports
// whether there is nothing left to do before one of them changes.
func (l *lane) copy() bool {
	settled := true
	for id, src := range l.from {
		delete(l.m.odd, l.key(id))
		shaped, ok := l.shape(src)
		if !ok {
			l.plan.Unfit = append(l.plan.Unfit, src)
			continue
		}
		if l.agree(&shaped, l.to[id]) {
			continue
		}
		settled = false
		l.send(shaped, l.to[id])
	}
	for id, ghost := range l.to {
		if l.from[id] != nil || ghost.Status == pancake.Tombstone {
			continue
		}
		settled = false
		if l.lasting(id) {
			l.send(tombstone(ghost), nil)
		}
	}
	return settled
}

// bury ends what one side believes alive and the other knows to be gone, of a
// host that is no member of either. That a host has gone from the side on which
// it was a member is the truth (certain); of one that was a member of neither the
// newer record is, once there was time to hear of the host.
func (l *lane) bury(certain bool) bool {
	settled := true
	for id, src := range l.from {
		to := l.to[id]
		if src.Status != pancake.Tombstone || to == nil || to.Status == pancake.Tombstone || !certain && catalog.Compare(src, to) <= 0 {
			continue
		}
		settled = false
		if shaped, ok := l.shape(src); ok && (certain || l.lasting(id)) {
			l.send(shaped, to)
		}
	}
	return settled
}

func (l *lane) shape(s *pancake.Service) (pancake.Service, bool) {
	if l.toTheirs {
		return l.m.shape(s)
	}
	out := *s
	out.Note = ""
	return out, true
}

// agree reports whether the other side needs to hear nothing of src.
func (l *lane) agree(src, to *pancake.Service) bool {
	if to == nil {
		return src.Status == pancake.Tombstone
	}
	if !same(src, to) {
		return false
	}
	if src.Status == pancake.Tombstone {
		return true
	}
	k := l.key(src.ID)
	last, known := l.m.sent[k]
	if !l.toTheirs {
		return known && !src.Updated.After(last.source)
	}
	if !known { // it was there already
		last.at = l.now
		l.m.sent[k] = last
	}
	// Its own time may be of a clock that is ahead: ours counts too.
	return l.now.Sub(to.Updated) < l.due(src.ID) && l.now.Sub(last.at) < l.due(src.ID)
}

// due is the age at which a record is repeated to them.
func (l *lane) due(id string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return l.m.refresh + time.Duration(h.Sum32()%1000)*l.m.refresh/6000
}

// send plans to send s, newer than what is there. What was sent a moment ago
// is given time to arrive.
func (l *lane) send(s pancake.Service, to *pancake.Service) {
	k := l.key(s.ID)
	if last := l.m.sent[k]; last.source.Equal(s.Updated) && l.now.Sub(last.at) < min(again, l.m.refresh/2) {
		return
	}
	l.m.sent[k] = sent{source: s.Updated, at: l.now}
	if l.toTheirs && s.Status != pancake.Tombstone && l.now.Sub(s.Updated) >= l.m.refresh {
		s.Updated = l.now.Round(0).UTC() // they end what is older than its lifespan
	}
	if to != nil && !s.Updated.After(to.Updated) {
		s.Updated = to.Updated.Add(time.Nanosecond)
	}
	if l.toTheirs {
		l.plan.ToTheirs = append(l.plan.ToTheirs, s)
	} else {
		l.plan.ToOurs = append(l.plan.ToOurs, s)
	}
}

// lasting reports whether something has looked wrong for long enough.
func (l *lane) lasting(id string) bool {
	k := l.key(id)
	since, ok := l.m.odd[k]
	if !ok {
		since = l.now
		l.m.odd[k] = since
	}
	return l.now.Sub(since) >= patience
}

func tombstone(s *pancake.Service) pancake.Service {
	t := *s
	t.Status, t.Updated, t.Note = pancake.Tombstone, s.Updated.Add(step), ""
	return t
}

// same compares all but Updated.
func same(a, b *pancake.Service) bool {
	x := *a
	x.Updated = b.Updated
	return catalog.Compare(&x, b) == 0
}
