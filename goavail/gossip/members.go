package gossip

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// members is who is there. memberlist calls it while it holds its own lock, so nothing
// here may call memberlist or wait.
type members struct {
	place string
	log   *slog.Logger
	peers map[string]Peer // by place

	mu   sync.Mutex
	me   string // address
	all  map[string]*member
	last map[string]time.Time // when a place was heard of
}

type member struct {
	memberlist.Node
	key   ed25519.PublicKey
	alive bool
}

func newMembers(cfg Config) *members {
	m := &members{place: cfg.Place, log: cfg.Log, peers: map[string]Peer{}, all: map[string]*member{}, last: map[string]time.Time{}}
	for _, p := range cfg.Peers {
		m.peers[p.Place] = p
	}
	return m
}

func (m *members) self(n *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.me = n.Address()
}

func (m *members) configured(place string) bool {
	_, ok := m.peers[place]
	return ok
}

// NotifyAlive lets in only the places that are configured.
func (m *members) NotifyAlive(n *memberlist.Node) error {
	if n.Name == m.place || m.configured(n.Name) {
		return nil
	}
	return fmt.Errorf("place %q at %s is not configured here", n.Name, n.Address())
}

// NotifyJoin is called for a new member and for one that came back. Only then may it
// bring another key.
func (m *members) NotifyJoin(n *memberlist.Node) {
	m.set(n, true, func(next *member) { next.key = slices.Clone(ed25519.PublicKey(n.Meta)) })
}

// NotifyUpdate is called when a member says something else of itself.
func (m *members) NotifyUpdate(n *memberlist.Node) { m.set(n, true, nil) }

// NotifyLeave is called when a member is believed dead.
func (m *members) NotifyLeave(n *memberlist.Node) { m.set(n, false, nil) }

// NotifyConflict is called when a second agent uses a name.
func (m *members) NotifyConflict(known, other *memberlist.Node) {
	m.log.Error("two agents say that they are the same place; stop one of them",
		"place", known.Name, "address", known.Address(), "other", other.Address())
}

func (m *members) set(n *memberlist.Node, alive bool, change func(*member)) {
	if n.Name == m.place {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := &member{Node: *n, alive: alive}
	old := m.all[n.Name]
	if old != nil {
		next.key = old.key
	}
	if change != nil {
		change(next)
	}
	if old == nil || old.alive != alive {
		m.log.Info("place changed", "place", n.Name, "address", n.Address(), "alive", alive)
	}
	m.all[n.Name] = next
}

// key is what a place's messages have to be signed with.
func (m *members) key(place string) ed25519.PublicKey {
	if k := m.peers[place].Key; k != nil {
		return k
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.all[place]; q != nil {
		return q.key
	}
	return nil
}

func (m *members) heard(place string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[place] = now
}

// others lists the members, the dead included: who is believed dead may still hear.
func (m *members) others() []member {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]member, 0, len(m.all))
	for _, q := range m.all {
		out = append(out, *q)
	}
	return out
}

func (m *members) node(place string) (member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.all[place]
	if q == nil {
		return member{}, false
	}
	return *q, true
}

// missing says whether a peer should be called: it is not a living member.
func (m *members) missing(place, address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.all[place]
	return place != m.place && address != "" && address != m.me && (q == nil || !q.alive)
}

// Status is how a place looks from here.
type Status struct {
	Alive   bool
	Address string
	Heard   time.Time // zero: never
}

// Places says how every place that was heard of looks from here.
func (g *Gossip) Places() map[string]Status {
	g.members.mu.Lock()
	defer g.members.mu.Unlock()
	out := map[string]Status{g.cfg.Place: {Alive: true, Address: g.members.me, Heard: time.Now()}}
	for place, q := range g.members.all {
		out[place] = Status{Alive: q.alive, Address: q.Address(), Heard: g.members.last[place]}
	}
	return out
}

// Known is where the other places were last.
func (g *Gossip) Known() map[string]string {
	out := map[string]string{}
	for _, q := range g.members.others() {
		out[q.Name] = q.Address()
	}
	return out
}
