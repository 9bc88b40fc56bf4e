package gossip

import (
	"cmp"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake/sidecar/client"
)

const (
	// rememberFor is how long a member that has gone is listed.
	rememberFor = 24 * time.Hour
	// maxLost bounds how many lost members are remembered, to be tried again.
	maxLost = 10_000
)

// peers is the list of members. memberlist calls it while it holds its own
// lock, so nothing here may call memberlist or wait.
type peers struct {
	self string
	log  *slog.Logger
	// changed is signalled when take has something.
	changed chan struct{}

	mu      sync.Mutex
	all     map[string]*peer // without self
	me      peer
	living  []*memberlist.Node // that memberlist believes alive; replaced, never modified
	digest  uint32             // the sum over the names of the living
	altered time.Time          // when it last changed
	events  []event
}

// event is news about a member.
type event struct {
	name string
	what int
}

const (
	joined  = iota
	doubted // memberlist believes it dead
	gone    // it has left, or is dead without doubt
)

type peer struct {
	node    memberlist.Node
	about   about
	up      bool // memberlist believes it alive
	leaving bool // it has said goodbye
	paused  time.Time
	state   client.MemberState
	since   time.Time
	tried   time.Time // when it was last tried, since it is lost
}

func newPeers(self string, log *slog.Logger) *peers {
	return &peers{self: self, log: log, changed: make(chan struct{}, 1), all: map[string]*peer{}}
}

func (p *peers) setSelf(n *memberlist.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.me = peer{node: *n, about: readAbout(n.Meta), state: client.MemberAlive, since: time.Now(), up: true}
}

// NotifyJoin is called for a new member and for one that came back.
func (p *peers) NotifyJoin(n *memberlist.Node) { p.up(n) }

// NotifyUpdate is called when a member says something else of itself.
func (p *peers) NotifyUpdate(n *memberlist.Node) { p.up(n) }

// NotifyConflict is called when a second host uses a name.
func (p *peers) NotifyConflict(known, other *memberlist.Node) {
	p.log.Error("two hosts have the same name; give each its own hostname",
		"name", known.Name, "address", known.Address(), "other", other.Address())
}

func (p *peers) up(n *memberlist.Node) {
	if n.Name == p.self {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all[n.Name]
	next := &peer{node: *n, about: readAbout(n.Meta), state: client.MemberAlive, since: time.Now(), up: true}
	if old != nil && old.state == client.MemberAlive {
		next.since = old.since // also if it was only doubted
	} else {
		p.log.Info("member changed", "name", n.Name, "address", n.Address(), "state", next.state)
	}
	p.all[n.Name] = next
	p.relist()
	p.tell(n.Name, joined)
}

// NotifyLeave is called when a member has left or seems dead.
func (p *peers) NotifyLeave(n *memberlist.Node) {
	if n.Name == p.self {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.all[n.Name]
	if q == nil {
		q = &peer{node: *n, state: client.MemberAlive, since: time.Now()}
		p.all[n.Name] = q
	}
	q.up = false
	p.relist()
	if q.leaving {
		p.end(q, client.MemberLeft)
		return
	}
	p.tell(n.Name, doubted)
}

// end says that a member is no member any more. The lock is held.
func (p *peers) end(q *peer, state client.MemberState) {
	if q.state == client.MemberAlive {
		q.since = time.Now()
		p.tell(q.node.Name, gone)
	}
	if q.state != state {
		p.log.Info("member changed", "name", q.node.Name, "address", q.node.Address(), "state", state)
	}
	q.state = state
}

func (p *peers) tell(name string, what int) {
	p.events = append(p.events, event{name, what})
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *peers) relist() {
	p.living = make([]*memberlist.Node, 0, len(p.all))
	p.digest, p.altered = nameDigest(p.self), time.Now()
	for name, q := range p.all {
		if q.up {
			p.living = append(p.living, &q.node)
			p.digest += nameDigest(name)
		}
	}
}

// nameDigest is FNV-1a, 32 bits.
func nameDigest(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}

// condemn ends a doubt: the member is dead. It reports false if it is up again.
func (p *peers) condemn(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.all[name]
	if q == nil || q.up {
		return false
	}
	p.end(q, client.MemberDead)
	return true
}

// setLeaving takes a member's goodbye, which may be overtaken by the news that
// it has gone.
func (p *peers) setLeaving(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.all[name]; q != nil {
		q.leaving = true
		if !q.up {
			p.end(q, client.MemberLeft)
		}
	}
}

// setPaused takes a member's word that it will be back.
func (p *peers) setPaused(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.all[name]; q != nil {
		q.paused = time.Now().Add(pauseFor)
	}
}

// forget drops a member that is not up: an operator says that it is gone for
// good. It reports whether there is none that is up.
func (p *peers) forget(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.all[name]
	if q != nil && q.up || name == p.self {
		return false
	}
	delete(p.all, name)
	p.tell(name, gone)
	return true
}

// take returns what has happened since the last call.
func (p *peers) take() []event {
	p.mu.Lock()
	defer p.mu.Unlock()
	events := p.events
	p.events = nil
	return events
}

// doubt returns what is known of a member that is doubted: nil if it is up, or is
// none. until is how long it may be away.
func (p *peers) doubt(name string) (n *memberlist.Node, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.all[name]
	if q == nil || q.up || q.state != client.MemberAlive {
		return nil, until
	}
	return &q.node, q.paused
}

// lost picks a member that is dead and due to be tried again: the one that was
// tried least recently. nil if there is none.
func (p *peers) lost(now time.Time) *memberlist.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	var due *peer
	dead := 0
	for _, q := range p.all {
		if q.state != client.MemberDead {
			continue
		}
		dead++
		slow := now.Sub(q.since) > lostFresh && now.Sub(q.tried) < lostSlow
		if !slow && (due == nil || q.tried.Before(due.tried)) {
			due = q
		}
	}
	if due == nil {
		return nil
	}
	if dead > maxLost {
		delete(p.all, due.node.Name)
	}
	due.tried = now
	return &due.node
}

// alive counts the other members that are alive.
func (p *peers) alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.living)
}

// members returns the digest of the names of the living, and since when it is so.
func (p *peers) members() (uint32, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.digest == 0 {
		return nameDigest(p.self), p.me.since
	}
	return p.digest, p.altered
}

// find returns a member that is alive, nil if it is not.
func (p *peers) find(name string) *memberlist.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.all[name]; q != nil && q.up {
		return &q.node
	}
	return nil
}

// random picks up to n different members that are alive.
func (p *peers) random(n int) []*memberlist.Node {
	p.mu.Lock()
	living := p.living
	p.mu.Unlock()
	n = min(n, len(living))
	picked := make([]*memberlist.Node, 0, n)
	// Floyd's sampling: n draws, no copy of the list.
	seen := make(map[int]bool, n)
	for i := len(living) - n; i < len(living); i++ {
		j := rand.IntN(i + 1)
		if seen[j] {
			j = i
		}
		seen[j] = true
		picked = append(picked, living[j])
	}
	return picked
}

// isAlive reports whether a living member, or this host, has the address.
func (p *peers) isAlive(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.me.node.Address() == address ||
		slices.ContainsFunc(p.living, func(n *memberlist.Node) bool { return n.Address() == address })
}

func (p *peers) selfAddress() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.me.node.Address()
}

// list returns all members by name, this host included.
func (p *peers) list(now time.Time) []client.Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.all, func(_ string, q *peer) bool {
		return q.state == client.MemberLeft && now.Sub(q.since) > rememberFor
	})
	var out []client.Member
	if p.me.node.Name != "" {
		out = append(out, p.me.member())
	}
	for _, q := range p.all {
		if q.state == client.MemberAlive || now.Sub(q.since) <= rememberFor {
			out = append(out, q.member())
		}
	}
	slices.SortFunc(out, func(a, b client.Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (q *peer) member() client.Member {
	return client.Member{
		Name: q.node.Name, Address: q.node.Address(), State: q.state, Since: q.since.UTC(),
		Version: q.about.version, HTTP: q.about.http, Zone: q.about.zone,
	}
}

// Members lists the cluster by name, this host and those that were lost in the
// last day included.
func (g *Gossip) Members() []client.Member { return g.peers.list(time.Now()) }
