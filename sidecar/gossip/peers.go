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

// rememberFor is how long a member that has gone is listed.
const rememberFor = 24 * time.Hour

// peers is the list of members. memberlist calls it while it holds its own
// lock, so nothing here may call memberlist or wait.
type peers struct {
	self string
	log  *slog.Logger
	// changed is signalled when takeGone has something.
	changed chan struct{}

	mu     sync.Mutex
	all    map[string]*peer // without self
	me     peer
	living []memberlist.Node // the alive ones of all
	gone   []string
}

type peer struct {
	node    memberlist.Node
	leaving bool
	state   client.MemberState
	since   time.Time
}

func newPeers(self string, log *slog.Logger) *peers {
	return &peers{self: self, log: log, changed: make(chan struct{}, 1), all: map[string]*peer{}}
}

func (p *peers) setSelf(n *memberlist.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.me = peer{node: *n, state: client.MemberAlive, since: time.Now()}
}

// NotifyJoin is called for a new member and for one that came back.
func (p *peers) NotifyJoin(n *memberlist.Node) { p.set(n, client.MemberAlive) }

// NotifyUpdate is called when a member says something else of itself.
func (p *peers) NotifyUpdate(n *memberlist.Node) { p.set(n, client.MemberAlive) }

// NotifyLeave is called when a member has left or is dead.
func (p *peers) NotifyLeave(n *memberlist.Node) { p.set(n, client.MemberDead) }

// NotifyConflict is called when a second host uses a name.
func (p *peers) NotifyConflict(known, other *memberlist.Node) {
	p.log.Error("two hosts have the same name; give each its own hostname",
		"name", known.Name, "address", known.Address(), "other", other.Address())
}

func (p *peers) set(n *memberlist.Node, state client.MemberState) {
	if n.Name == p.self {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all[n.Name]
	if state == client.MemberDead {
		if old != nil && old.leaving {
			state = client.MemberLeft
		}
		p.gone = append(p.gone, n.Name)
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
	next := &peer{node: *n, state: state, since: time.Now()}
	if old != nil && old.state == state {
		next.since = old.since
	}
	if old == nil || old.state != state {
		p.log.Info("member changed", "name", n.Name, "address", n.Address(), "state", state)
	}
	p.all[n.Name] = next
	p.living = p.living[:0:0]
	for _, q := range p.all {
		if q.state == client.MemberAlive {
			p.living = append(p.living, q.node)
		}
	}
}

// setLeaving takes a member's goodbye, which may be overtaken by the news that
// it has gone.
func (p *peers) setLeaving(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.all[name]; q != nil {
		q.leaving = true
		if q.state == client.MemberDead {
			q.state = client.MemberLeft
		}
	}
}

// takeGone returns the members that have gone since the last call and are
// still away.
func (p *peers) takeGone() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone := slices.DeleteFunc(p.gone, func(name string) bool { return p.all[name].state == client.MemberAlive })
	p.gone = nil
	return gone
}

// alive counts the other members that are alive.
func (p *peers) alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.living)
}

// random picks up to n different members that are alive.
func (p *peers) random(n int) []memberlist.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(n, len(p.living))
	picked := make([]memberlist.Node, 0, n)
	// Floyd's sampling: n draws, no copy of the list.
	seen := make(map[int]bool, n)
	for i := len(p.living) - n; i < len(p.living); i++ {
		j := rand.IntN(i + 1)
		if seen[j] {
			j = i
		}
		seen[j] = true
		picked = append(picked, p.living[j])
	}
	return picked
}

// isAlive reports whether a living member, or this host, has the address.
func (p *peers) isAlive(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.me.node.Address() == address ||
		slices.ContainsFunc(p.living, func(n memberlist.Node) bool { return n.Address() == address })
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
		return q.state != client.MemberAlive && now.Sub(q.since) > rememberFor
	})
	var out []client.Member
	if p.me.node.Name != "" {
		out = append(out, p.me.member())
	}
	for _, q := range p.all {
		out = append(out, q.member())
	}
	slices.SortFunc(out, func(a, b client.Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (q *peer) member() client.Member {
	return client.Member{Name: q.node.Name, Address: q.node.Address(), State: q.state, Since: q.since.UTC()}
}

// Members lists the cluster by name, this host and the dead included.
func (g *Gossip) Members() []client.Member { return g.peers.list(time.Now()) }
