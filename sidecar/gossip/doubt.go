package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxDoubts bounds how many members are asked at once whether they are alive.
	maxDoubts = 64
	// clearFor is for how long an answer clears a member that has not refuted yet,
	// and rejoinAfter how long it gets to do so by itself before we exchange the
	// lists of members with it; a part of it is by chance, so that few do.
	clearFor    = 2 * time.Second
	rejoinAfter = time.Second
	// patience is how long a member may take connections and answer nothing: it hangs.
	// starvedPatience is that while we have no CPU ourselves, and may have missed the answers.
	patience        = 15 * time.Second
	starvedPatience = 2 * time.Minute
	// knockLimit is how long a connection may take. It is made by the other's kernel,
	// however little CPU its Sidecar has.
	knockLimit = 500 * time.Millisecond
	// knockEvery is the least time between two connections, of all doubts together;
	// knockSlowly that while we are starved.
	knockEvery, knockSlowly = 20 * time.Millisecond, time.Second
	// starvedFor is for how long we distrust ourselves after a timer was late by
	// lateness, looked at every tick.
	starvedFor = 5 * time.Second
	lateness   = 60 * time.Millisecond
	tick       = 200 * time.Millisecond
)

// pulse notices when this process does not get the CPU when it is due.
type pulse struct {
	late, last atomic.Int64 // when a timer was last late, and when it last came, in nanoseconds since 1970
}

func (p *pulse) run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for p.last.Store(time.Now().UnixNano()); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			now := time.Now().UnixNano()
			if now-p.last.Swap(now) > int64(tick+lateness) {
				p.late.Store(now)
			}
		}
	}
}

// starved reports whether a timer was late a moment ago, or is overdue.
func (p *pulse) starved(now time.Time) bool {
	at := now.UnixNano()
	return at-p.late.Load() < int64(starvedFor) || at-p.last.Load() > int64(tick+lateness)
}

// What a member that is doubted says.
const (
	silent   = iota
	answered // to a probe
	accepted // a connection: its kernel lives, and it has not closed the port
	refused  // a connection: its kernel lives, the Sidecar does not
	unasked  // there are too many to knock
)

var saidTexts = [...]string{silent: "silent", answered: "answered", accepted: "accepted", refused: "refused", unasked: "unasked"}

// doubt gives a member that memberlist believes dead time to answer, and condemns
// it if it does not. memberlist's verdict is that of the most impatient member: of
// a host without CPU for a second, or by one that had none itself.
func (g *Gossip) doubt(ctx context.Context, list *memberlist.Memberlist, name string) {
	start := time.Now()
	since := start // when we could tell, at the latest
	rejoin := start.Add(rejoinAfter + rand.N(4*rejoinAfter))
	deadline := start.Add(grace)
	for wait := rand.N(grace / 5); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		node, paused := g.peers.doubt(name)
		if node == nil {
			return // it is up again, or has left
		}
		if paused.After(deadline) {
			deadline = paused
		}
		starved := g.pulse.starved(time.Now())
		said, now := g.question(list, node), time.Now()
		starved = starved || g.pulse.starved(now)
		if starved && now.Sub(start) < starvedPatience { // we may have missed the answer
			since = now
			deadline = later(deadline, now.Add(grace))
		}
		wait = grace / 4
		switch {
		case said == answered, said == accepted && now.Sub(since) < patience, said == unasked:
			deadline, wait = later(deadline, now.Add(clearFor)), clearFor/2
			if said == answered && now.After(rejoin) {
				rejoin = now.Add(5 * rejoinAfter)
				g.exchange(ctx, list, node.Address())
			}
		case said == refused && !paused.After(now), !now.Before(deadline), said == accepted:
			g.condemn(name, said, now.Sub(start))
			return
		case deadline.Sub(now) < grace/4+knockLimit: // no time for another question
			if wait = deadline.Sub(now); said != silent || starved {
				continue
			}
			if g.upWithin(ctx, name, wait) {
				return
			}
			if wait = 0; !g.pulse.starved(time.Now()) {
				g.condemn(name, said, time.Since(start))
				return
			}
		}
	}
}

// upWithin waits, and reports whether the member is no longer doubted, or we stop.
func (g *Gossip) upWithin(ctx context.Context, name string, wait time.Duration) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(wait):
	}
	node, _ := g.peers.doubt(name)
	return node == nil
}

func (g *Gossip) condemn(name string, said int, after time.Duration) {
	if g.peers.condemn(name) {
		g.m.doubts.WithLabelValues("dead").Inc()
		g.log.Info("a member is given up", "name", name, "said", saidTexts[said], "doubted", after)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// question asks a member whether it is alive: with a probe, and where that has no
// answer, or we could not tell, with a connection. Who does not get an answer from
// itself in time is starved, though its timers come.
func (g *Gossip) question(list *memberlist.Memberlist, n *memberlist.Node) int {
	starved := g.pulse.starved(time.Now())
	if !starved && g.answers(list, n) {
		return g.heard(answered)
	}
	if !starved && !g.answers(list, list.LocalNode()) {
		g.pulse.late.Store(time.Now().UnixNano())
		starved = true
	}
	if !g.mayKnock(starved) {
		return g.heard(unasked)
	}
	return g.heard(g.knock(n.Address()))
}

func (g *Gossip) heard(said int) int {
	g.m.doubts.WithLabelValues(saidTexts[said]).Inc()
	return said
}

// mayKnock keeps the connections of all doubts apart.
func (g *Gossip) mayKnock(starved bool) bool {
	gap := knockEvery
	if starved {
		gap = knockSlowly
	}
	g.knockMu.Lock()
	defer g.knockMu.Unlock()
	now := time.Now()
	if now.Sub(g.knocked) < gap {
		return false
	}
	g.knocked = now
	return true
}

// knock connects to a member, and says nothing but the name of the cluster.
func (g *Gossip) knock(address string) int {
	conn, err := g.transport.DialTimeout(address, knockLimit)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return refused
		}
		g.log.Debug("a member takes no connection", "peer", address, "err", err)
		return silent
	}
	if err := memberlist.AddLabelHeaderToStream(conn, g.label()); err != nil {
		g.log.Debug("a connection broke", "peer", address, "err", err)
	}
	_ = conn.Close() // there is nothing in it
	return accepted
}

// answers asks a member over UDP whether it is alive.
func (g *Gossip) answers(list *memberlist.Memberlist, n *memberlist.Node) bool {
	_, err := list.Ping(n.Name, &net.UDPAddr{IP: n.Addr, Port: int(n.Port)})
	return err == nil
}

// exchange has memberlist exchange the lists of members, and us what we know, with
// the node at an address. It waits for the end, which ctx cannot bring about but tcpTimeout does.
func (g *Gossip) exchange(ctx context.Context, list *memberlist.Memberlist, address string) {
	g.exchanging.Store(true) // until LocalState has been asked for it
	if _, err := list.Join([]string{address}); err != nil {
		g.log.DebugContext(ctx, "an exchange failed", "peer", address, "err", err)
		return
	}
	g.soon()
}
