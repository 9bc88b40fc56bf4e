package elect_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake/goavail/elect"
)

const lease = 10 * time.Second

// node is one place: its voter, its candidate and its disk.
type node struct {
	name  string
	disk  elect.Promise
	voter *elect.Voter
	me    *elect.Candidate
	cut   bool
}

type parcel struct {
	from, to *node
	at       time.Time
	ask      *elect.Request
	reply    *elect.Reply
}

type election struct {
	t     *rapid.T
	now   time.Time
	nodes []*node
	mail  []parcel
	terms map[uint64]string // who led in a term
	wins  int
	lost  bool // some disk: then terms may come twice, though never at once
}

func (e *election) start(n *node) {
	n.voter = elect.NewVoter(n.disk, lease, e.now)
	n.me = elect.NewCandidate(len(e.nodes), lease)
	n.me.Resume(n.disk, n.name)
}

func (e *election) post(p parcel) {
	if p.from.cut != p.to.cut || p.from != p.to && rapid.IntRange(0, 9).Draw(e.t, "lost") == 0 {
		return
	}
	p.at = e.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(e.t, "delay")) * time.Millisecond)
	e.mail = append(e.mail, p)
}

func (e *election) deliver(p parcel) {
	switch {
	case p.ask != nil:
		reply, keep := p.to.voter.Ask(*p.ask, e.now)
		p.to.me.Saw(reply.Term)
		if keep {
			p.to.disk = p.to.voter.Promise
		}
		if !p.ask.Release {
			e.post(parcel{from: p.to, to: p.from, reply: &reply})
		}
	default:
		p.to.me.Take(p.from.name, *p.reply, e.now)
	}
}

func (e *election) advance(d time.Duration) {
	end := e.now.Add(d)
	for {
		next := -1
		for i, p := range e.mail {
			if !p.at.After(end) && (next < 0 || p.at.Before(e.mail[next].at)) {
				next = i
			}
		}
		if next < 0 {
			e.now = end
			e.check()
			return
		}
		p := e.mail[next]
		e.mail = append(e.mail[:next], e.mail[next+1:]...)
		if p.at.After(e.now) {
			e.now = p.at
		}
		e.deliver(p)
		e.check()
	}
}

// check: never two at a time, and never two in one term unless a disk was lost.
func (e *election) check() {
	var leader *node
	for _, n := range e.nodes {
		if !n.me.Leads(e.now) {
			continue
		}
		if leader != nil {
			e.t.Fatalf("%s (term %d) and %s (term %d) both write", leader.name, leader.me.Term, n.name, n.me.Term)
		}
		leader = n
		if was, ok := e.terms[n.me.Term]; ok && was != n.name && !e.lost {
			e.t.Fatalf("%s and %s both wrote in term %d", was, n.name, n.me.Term)
		} else if !ok {
			e.terms[n.me.Term] = n.name
			e.wins++
		}
	}
}

func (e *election) round(n *node) {
	r := n.me.Round(n.name, e.now)
	for _, to := range e.nodes {
		e.post(parcel{from: n, to: to, ask: &r})
	}
}

// TestNeverTwoWriters plays random elections in which messages are lost, late and out of
// order, places are cut off and restart, and disks are lost.
func TestNeverTwoWriters(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	old := checks.Value.String()
	defer func() { _ = checks.Value.Set(old) }()
	if err := checks.Value.Set("3000"); err != nil {
		t.Fatal(err)
	}
	wins := 0
	rapid.Check(t, func(t *rapid.T) {
		e := &election{t: t, now: time.Unix(1_800_000_000, 0), terms: map[uint64]string{}}
		for i := range rapid.SampledFrom([]int{1, 2, 3, 5}).Draw(t, "places") {
			e.nodes = append(e.nodes, &node{name: fmt.Sprint("p", i)})
		}
		for _, n := range e.nodes {
			e.start(n)
		}
		e.advance(lease)
		for range rapid.IntRange(5, 30).Draw(t, "steps") {
			n := rapid.SampledFrom(e.nodes).Draw(t, "node")
			switch rapid.SampledFrom([]string{"round", "round", "round", "round", "cut", "restart", "lost disk", "release", "wait"}).Draw(t, "what") {
			case "round":
				e.round(n)
			case "cut":
				n.cut = !n.cut
			case "restart":
				e.start(n)
			case "lost disk":
				n.disk, e.lost = elect.Promise{}, true
				e.start(n)
			case "release":
				r := n.me.Release(n.name)
				for _, to := range e.nodes {
					e.post(parcel{from: n, to: to, ask: &r})
				}
			case "wait":
				e.advance(lease)
			}
			e.advance(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
		}
		wins += e.wins
	})
	if wins == 0 {
		t.Error("nobody ever won: the elections show nothing")
	}
	t.Logf("%d terms won", wins)
}

func TestAWriterStopsBeforeItsPromisesEnd(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	voters := []*elect.Voter{}
	for range 3 {
		voters = append(voters, elect.NewVoter(elect.Promise{}, lease, now))
	}
	now = now.Add(lease)
	c := elect.NewCandidate(3, lease)
	ask := func(from string, reachable int) {
		r := c.Round(from, now)
		for i, v := range voters[:reachable] {
			reply, _ := v.Ask(r, now)
			c.Take(fmt.Sprint("p", i), reply, now)
		}
	}
	ask("p0", 2)
	if !c.Leads(now) || c.Term != 1 {
		t.Fatalf("two of three promised, and yet %+v", c)
	}
	ask("p0", 1) // it cannot prolong from one alone
	if !c.Leads(now.Add(lease*4/5-1)) || c.Leads(now.Add(lease*4/5)) {
		t.Error("the lease does not end when it should")
	}
	for d := time.Duration(0); d < lease; d += time.Second {
		if reply, _ := voters[1].Ask(elect.Request{Term: 9, From: "p2"}, now.Add(d)); reply.Granted {
			t.Fatalf("promised to another after %s", d)
		}
	}
	if reply, keep := voters[1].Ask(elect.Request{Term: 9, From: "p2"}, now.Add(lease)); !reply.Granted || !keep {
		t.Error("not promised to another though the lease has ended")
	}
}
