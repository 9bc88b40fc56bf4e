package gossip

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// model is a cluster without a network: real catalogues, real comparisons, started
// by the real judge, and messages that arrive, or do not, by chance. Who is a
// member is told to each node some seconds late. It makes an hour of 200 nodes
// affordable; package simnet has the real network code, for as long as one likes.
type model struct {
	*rand.Rand
	now   time.Time
	nodes []*modelNode
	loss  float64
	todo  modelEvents
	told  map[telling]time.Time // when an epidemic of a record began
	next  int
	made  int // events
	bytes int
}

type modelEvent struct {
	at   time.Time
	made int
	do   func()
}

// telling names a record, and the side of a partition on which it is told.
type telling struct {
	hash uint64
	side int
}

type modelNode struct {
	name  string
	c     *catalog.Catalog
	snap  *catalog.Snapshot
	j     judge
	since time.Time // when its digest last changed
	last  uint64
	own   uint64
	ownAt time.Time
	skew  time.Duration
	down  bool
	side  int
	runs  map[string]pancake.ServiceStatus
	sees  map[string]bool // who is a member for it
	lost  map[string]bool // who was one once
	// hurried is when the last of the comparisons begins that soon has planned.
	hurried time.Time
}

// show is the latest snapshot, as an owner has it.
func (n *modelNode) show() *catalog.Snapshot {
	if n.snap == nil || n.c.Outdated() {
		n.snap = n.c.Snapshot()
	}
	return n.snap
}

func (m *model) after(d time.Duration, do func()) {
	m.made++
	heap.Push(&m.todo, modelEvent{m.now.Add(d), m.made, do})
}

// within is a time below d, by chance.
func (m *model) within(d time.Duration) time.Duration { return time.Duration(m.Int64N(int64(d))) }

// modelEvents is a heap by time, and in the order in which they were made.
type modelEvents []modelEvent

func (q modelEvents) Len() int      { return len(q) }
func (q modelEvents) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q modelEvents) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].made < q[j].made
}
func (q *modelEvents) Push(e any) { *q = append(*q, e.(modelEvent)) }
func (q *modelEvents) Pop() any {
	e := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return e
}

// reaches reports whether a message arrives.
func (m *model) reaches(a, b *modelNode) bool {
	return a != b && !a.down && !b.down && a.side == b.side && m.Float64() >= m.loss
}

// epidemic is how long it takes until news have reached nearly all.
const epidemic = 700 * time.Millisecond

// publish tells the others, as an epidemic does: nearly all of those that can be reached.
func (m *model) publish(from *modelNode, changes []catalog.Change) {
	var news []pancake.Service
	for _, c := range changes {
		if c.Local || c.Removed {
			continue
		}
		// Those who tell at the same time what others tell reach nobody else.
		k := telling{catalog.Hash(c.Service), from.side}
		if at, ok := m.told[k]; ok && m.now.Sub(at) < epidemic {
			continue
		}
		m.told[k] = m.now
		news = append(news, *c.Service)
	}
	if len(news) == 0 {
		return
	}
	for _, n := range m.nodes {
		if n.sees[from.name] && m.reaches(from, n) && m.Float64() < 0.99 {
			m.after(m.within(epidemic), func() {
				if !n.down {
					m.merge(n, news)
				}
			})
		}
	}
}

// merge takes what an epidemic brought: it passes on only what a host has to say of
// itself, the rest is in publish.
func (m *model) merge(n *modelNode, records []pancake.Service) {
	changes, _ := n.c.Merge(records, m.now.Add(n.skew))
	m.publish(n, slices.DeleteFunc(changes, func(c catalog.Change) bool { return c.Service.Hostname != n.name }))
}

// learn takes what a comparison brought, and passes it on: what some packets hold as an
// epidemic, more as comparisons with a few.
func (m *model) learn(n *modelNode, records []pancake.Service) {
	changes, _ := n.c.Merge(records, m.now.Add(n.skew))
	if len(changes) <= burstPackets*10 {
		m.publish(n, changes)
		return
	}
	hosts := map[string]bool{}
	for _, c := range changes {
		hosts[c.Service.Hostname] = true
	}
	c := begin(n.show(), slices.Sorted(maps.Keys(hosts))...)
	for range fanout {
		if o := m.nodes[m.IntN(len(m.nodes))]; n.sees[o.name] {
			m.say(n, o, c)
		}
	}
}

func (m *model) change(n *modelNode, fn func(c *catalog.Catalog, now time.Time) []catalog.Change) {
	if !n.down {
		m.publish(n, fn(n.c, m.now.Add(n.skew)))
	}
}

// codecEvery is how rarely a step takes the way through its encoding, which costs the most.
const codecEvery = 10

// say has the steps of a comparison arrive one after the other.
func (m *model) say(from, to *modelNode, c comparison) {
	if c.empty() || !m.reaches(from, to) {
		return
	}
	parts := []comparison{c}
	if m.IntN(codecEvery) == 0 {
		parts = parts[:0]
		for _, message := range c.encode() {
			m.bytes += codecEvery * len(message)
			_, body, err := open(message, maxMessage)
			if err != nil {
				panic(err) // we wrote it
			}
			part, err := readComparison(body)
			if err != nil {
				panic(err)
			}
			parts = append(parts, part)
		}
	}
	for _, part := range parts {
		m.after(m.within(50*time.Millisecond), func() {
			if to.down {
				return
			}
			reply, merge := answer(to.show(), part)
			m.learn(to, merge)
			m.say(to, from, reply)
		})
	}
}

func (m *model) standing(n *modelNode) standing {
	s := n.show()
	own := digestOf(s.Hosts[n.name])
	if s.Digest != n.last {
		n.last, n.since = s.Digest, m.now
	}
	if own != n.own {
		n.own, n.ownAt = own, m.now
	}
	return standing{own: own, whole: s.Digest, ownFor: m.now.Sub(n.ownAt), wholeFor: m.now.Sub(n.since)}
}

// members tells the nodes, some seconds late, who has gone and who has come.
func (m *model) members(late time.Duration) {
	for _, a := range m.nodes {
		for _, b := range m.nodes {
			is := !b.down && a.side == b.side
			if a == b || a.down || a.sees[b.name] == is {
				continue
			}
			m.after(m.within(late), func() {
				if still := !b.down && a.side == b.side; a.down || still != is || a.sees[b.name] == is {
					return
				}
				a.sees[b.name] = is
				if is {
					if a.lost[b.name] {
						m.soon(a)
					}
					a.c.HostJoined(b.name)
					return
				}
				a.lost[b.name] = true
				m.change(a, func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.HostGone(b.name, now) })
			})
		}
	}
}

// soon is Gossip.soon: some comparisons with somebody.
func (m *model) soon(n *modelNode) {
	if n.hurried.After(m.now) {
		return
	}
	n.hurried = m.now
	for range soonTimes {
		n.hurried = n.hurried.Add(m.within(soonAfter))
		m.after(n.hurried.Sub(m.now), func() {
			if o := m.nodes[m.IntN(len(m.nodes))]; !n.down && n.sees[o.name] {
				m.say(n, o, begin(n.show()))
			}
		})
	}
}

func (m *model) start(n *modelNode) {
	n.c, n.snap, n.down, n.sees, n.lost, n.j = catalog.New(n.name, "c"), nil, false, map[string]bool{}, map[string]bool{}, judge{random: m.within}
	for _, o := range m.nodes {
		if o != n && !o.down && o.side == n.side {
			n.c.HostJoined(o.name)
			n.sees[o.name] = true
		}
	}
	if seed := m.nodes[m.IntN(len(m.nodes))]; seed != n && !seed.down && seed.side == n.side { // memberlist's first exchange
		var all []pancake.Service
		for _, h := range seed.show().Hosts {
			for s := range h.Live() {
				all = append(all, *s)
			}
		}
		m.merge(n, all)
	}
	for id, status := range n.runs {
		m.run(n, id, status)
	}
	m.change(n, func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.Settle(now) })
}

func (m *model) run(n *modelNode, id string, status pancake.ServiceStatus) {
	m.change(n, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes := append(c.Discover(pancake.Service{ID: id, Name: "x", Created: now}, now), c.SetStatus(id, pancake.Alive, "", now)...)
		if status == pancake.Draining {
			_, more, _ := c.Drain(id, now) // it runs
			changes = append(changes, more...)
		}
		return changes
	})
}

// live has all go on until the end: probes, sweeps and what was planned.
func (m *model) live(end time.Time) {
	for m.now.Before(end) {
		for len(m.todo) > 0 && !m.todo[0].at.After(m.now) {
			heap.Pop(&m.todo).(modelEvent).do()
		}
		for range len(m.nodes) / 3 { // of 300 ms, a third
			n, o := m.nodes[m.IntN(len(m.nodes))], m.nodes[m.IntN(len(m.nodes))]
			if !n.sees[o.name] || !m.reaches(n, o) {
				continue
			}
			v := n.j.judge(m.now, n.show(), m.standing(n), 0, o.name, m.standing(o))
			if v.own {
				m.say(n, o, begin(n.show(), o.name))
			}
			if v.whole {
				m.say(n, o, begin(n.show()))
			}
		}
		n := m.nodes[m.IntN(len(m.nodes))]
		m.change(n, func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.Sweep(now) })
		m.now = m.now.Add(100 * time.Millisecond)
	}
}

func (m *model) trouble() {
	n := m.nodes[m.IntN(len(m.nodes))]
	switch m.IntN(10) {
	case 0:
		n.down = true
		m.members(5 * time.Second)
	case 1:
		m.revive()
	case 2: // a partition, or its end
		cut := m.IntN(len(m.nodes)) * m.IntN(2)
		for i, n := range m.nodes {
			n.side = 0
			if i < cut {
				n.side = 1
			}
		}
		m.members(5 * time.Second)
	case 3:
		m.loss = m.Float64() * 0.2
	case 4:
		n.skew = m.within(10*time.Hour) - 5*time.Hour
	}
	n = m.nodes[m.IntN(len(m.nodes))]
	ids := slices.Sorted(maps.Keys(n.runs))
	switch m.IntN(3) {
	case 0:
		m.next++
		id := fmt.Sprintf("%012x", m.next)
		n.runs[id] = pancake.Alive
		m.run(n, id, pancake.Alive)
	case 1:
		if len(ids) > 0 {
			delete(n.runs, ids[0])
			m.change(n, func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.Remove(ids[0], now) })
		}
	default:
		if len(ids) > 0 {
			n.runs[ids[0]] = pancake.Draining
			m.run(n, ids[0], pancake.Draining)
		}
	}
}

func (m *model) revive() {
	for _, n := range m.nodes {
		if n.down {
			m.start(n)
		}
	}
	m.members(time.Second)
}

// wrong says what is not as it is.
func (m *model) wrong() string {
	want := uint64(0)
	for _, n := range m.nodes {
		own, live := n.show().Hosts[n.name], 0
		for s := range own.Live() {
			if live++; n.runs[s.ID] != s.Status {
				return fmt.Sprintf("%s shows its service %s as %s", n.name, s.ID, s.Status)
			}
		}
		if live != len(n.runs) {
			return fmt.Sprintf("%s shows %d of its %d services", n.name, live, len(n.runs))
		}
		want += digestOf(own)
	}
	for _, n := range m.nodes {
		if n.show().Digest != want {
			return fmt.Sprintf("%s has another catalogue", n.name)
		}
	}
	return ""
}

// TestModel is the life of 200 nodes under churn and faults, for each seed. By
// default it is short. The whole of it, an hour for each of 100 seeds:
//
//	PANCAKE_SIM_SEEDS=100 PANCAKE_SIM_MINUTES=60 go test -run TestModel -v -timeout 24h ./sidecar/gossip
func TestModel(t *testing.T) {
	gc := debug.SetGCPercent(400)
	t.Cleanup(func() { debug.SetGCPercent(gc) })
	number := func(name string, otherwise int) int {
		if os.Getenv(name) == "" {
			return otherwise
		}
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil || n < 1 {
			t.Fatalf("%s=%q: a positive number is needed", name, os.Getenv(name))
		}
		return n
	}
	seeds, life := number("PANCAKE_SIM_SEEDS", 1), time.Duration(number("PANCAKE_SIM_MINUTES", 5))*time.Minute
	for seed := 1; seed <= seeds; seed++ {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			t.Parallel()
			liveModel(t, uint64(seed), life)
		})
	}
}

func liveModel(t *testing.T, seed uint64, life time.Duration) {
	m := &model{Rand: rand.New(rand.NewPCG(seed, 1)), now: noon, told: map[telling]time.Time{}}
	for i := range 200 {
		n := &modelNode{name: fmt.Sprintf("node-%03d", i), runs: map[string]pancake.ServiceStatus{}, down: true, sees: map[string]bool{}}
		for range 10 {
			m.next++
			n.runs[fmt.Sprintf("%012x", m.next)] = pancake.Alive
		}
		m.nodes = append(m.nodes, n)
	}
	m.revive()
	changes, checks, slowest := 0, 0, time.Duration(0)
	for end := noon.Add(life); m.now.Before(end); {
		for quiet := m.now.Add(4 * time.Minute); m.now.Before(quiet); {
			m.trouble()
			changes++
			m.live(m.now.Add(time.Duration(m.ExpFloat64() * float64(4*time.Second))))
		}
		clear(m.told)
		m.loss = 0
		for _, n := range m.nodes {
			n.side = 0
		}
		m.revive()
		whole := m.now
		for m.wrong() != "" {
			if m.now.Sub(whole) > time.Minute {
				t.Fatalf("seed %d, at %s: %s", seed, m.now.Sub(noon), m.wrong())
			}
			m.live(m.now.Add(100 * time.Millisecond))
		}
		checks, slowest = checks+1, max(slowest, m.now.Sub(whole))
	}
	t.Logf("200 nodes for %s, %d changes and faults, %d messages; equal and right %d times, at the latest after %s; %.1f MB compared",
		life, changes, m.made, checks, slowest, float64(m.bytes)/1e6)
}
