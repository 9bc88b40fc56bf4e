package gossip

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake/sidecar/catalog"
)

const (
	// soonAfter is when a node that has joined, or met again somebody who was lost,
	// compares with another one: at random within it, and soonTimes times.
	soonAfter = time.Second
	soonTimes = 2
	// offerGap is the least time between two offers of what is too much for packets;
	// what changes meanwhile shares the next.
	offerGap = 50 * time.Millisecond
)

// sighting is what another node says of itself.
type sighting struct {
	name string
	standing
}

// ages remembers since when digests are as they are.
type ages struct {
	mu             sync.Mutex
	own, whole     uint64
	ownAt, wholeAt time.Time
}

// standing is what we say of ourselves.
func (g *Gossip) standing(now time.Time) standing {
	snap := g.cfg.Owner.Snapshot()
	own := digestOf(snap.Hosts[g.cfg.Name])
	members, _ := g.peers.members()
	a := &g.ages
	a.mu.Lock()
	defer a.mu.Unlock()
	if own != a.own || a.ownAt.IsZero() {
		a.own, a.ownAt = own, now
	}
	if snap.Digest != a.whole || a.wholeAt.IsZero() {
		a.whole, a.wholeAt = snap.Digest, now
	}
	return standing{own: own, whole: snap.Digest, ownFor: now.Sub(a.ownAt), wholeFor: now.Sub(a.wholeAt), members: members}
}

// soon has this node compare with another one within a second or two.
func (g *Gossip) soon() {
	select {
	case g.hurry <- struct{}{}:
	default: // it will
	}
}

// compare begins comparisons: with nodes whose standing is different from ours, and
// soon after a join.
func (g *Gossip) compare(ctx context.Context, list *memberlist.Memberlist) error {
	var j judge
	var hurry <-chan time.Time
	left := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.hurry:
			left = soonTimes
			if hurry == nil {
				hurry = time.After(rand.N(soonAfter))
			}
		case <-hurry:
			hurry = nil
			for _, n := range g.peers.random(1) {
				c := begin(g.cfg.Owner.Snapshot())
				g.sendAll(ctx, list, n, c)
			}
			if left--; left > 0 {
				hurry = time.After(soonAfter/2 + rand.N(soonAfter))
			}
		case s := <-g.sightings:
			g.look(ctx, list, &j, s)
		}
	}
}

func (g *Gossip) look(ctx context.Context, list *memberlist.Memberlist, j *judge, s sighting) {
	now := time.Now()
	snap := g.cfg.Owner.Snapshot()
	mine := g.standing(now)
	_, since := g.peers.members()
	n := g.peers.find(s.name)
	if n == nil {
		return
	}
	v := j.judge(now, snap, mine, now.Sub(since), s.name, s.standing)
	if v.own {
		g.m.compared.WithLabelValues("host").Inc()
		g.sendAll(ctx, list, n, begin(snap, s.name))
	}
	if v.whole {
		g.m.compared.WithLabelValues("all").Inc()
		g.sendAll(ctx, list, n, begin(snap))
	}
	if v.members {
		g.m.compared.WithLabelValues("members").Inc()
		g.background(func() { g.exchange(ctx, list, n.Address()) })
	}
}

// reply handles the steps of comparisons that others send.
func (g *Gossip) reply(ctx context.Context, list *memberlist.Memberlist) error {
	for {
		var c comparison
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c = <-g.comparisons:
		}
		from := g.peers.find(c.from)
		if from == nil {
			g.refuse("no member", nil)
			continue
		}
		snap := g.cfg.Owner.Snapshot()
		if c.mirror {
			g.mirrored(ctx, list, from, snap, c)
			continue
		}
		answer, merge := answer(snap, c)
		if len(merge) > 0 {
			g.cfg.Owner.Merge(ctx, c.from, merge)
		}
		g.sendAll(ctx, list, from, answer)
	}
}

// mirrored takes a bridge's word for the hosts for which it speaks.
func (g *Gossip) mirrored(ctx context.Context, list *memberlist.Memberlist, from *memberlist.Node, snap *catalog.Snapshot, c comparison) {
	var differ []string
	for _, d := range c.digests {
		if h := snap.Hosts[d.host]; h != nil && h.Living {
			g.refuse("member mirrored", nil)
			continue
		}
		g.cfg.Owner.Heard(ctx, d.host, d.digest)
		if digestOf(snap.Hosts[d.host]) != d.digest {
			differ = append(differ, d.host)
		}
	}
	if len(differ) > 0 {
		g.sendAll(ctx, list, from, begin(snap, differ...))
	}
}

// mirror repeats the digests of the hosts for which this node speaks, to all.
func (g *Gossip) mirror(ctx context.Context, list *memberlist.Memberlist) error {
	t := time.NewTicker(mirrorEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		snap := g.cfg.Owner.Snapshot()
		var hosts []string
		for name, h := range snap.Hosts {
			if h.Mirrored {
				hosts = append(hosts, name)
			}
		}
		if len(hosts) == 0 {
			continue
		}
		c := begin(snap, hosts...)
		for _, packet := range c.packets(packetSize - overhead) {
			g.burst(list, g.peers.random(g.peers.alive()), packet)
		}
	}
}

// sendAll sends a step of a comparison to a node, in the background.
func (g *Gossip) sendAll(ctx context.Context, list *memberlist.Memberlist, to *memberlist.Node, c comparison) {
	if c.empty() {
		return
	}
	g.background(func() {
		for _, message := range c.encode() {
			if err := list.SendReliable(to, message); err != nil {
				g.log.DebugContext(ctx, "a message was not sent", "peer", to.Name, "err", err)
				return
			}
			g.m.sent.WithLabelValues("comparison").Inc()
		}
	})
}

// background runs fn, which tcpTimeout bounds. Those to peers that do not answer
// add up: beyond maxStreams it drops it, and the next comparison does it.
func (g *Gossip) background(fn func()) {
	select {
	case g.streams <- struct{}{}:
	default:
		g.refuse("busy", nil)
		return
	}
	g.sending.Go(func() {
		defer func() { <-g.streams }()
		fn()
	})
}
