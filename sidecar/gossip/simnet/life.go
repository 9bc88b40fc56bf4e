package simnet

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/gossip"
)

// Life is a cluster that lives under churn and faults. All fields are required.
type Life struct {
	Nodes    int
	Services int // of each host, at first
	For      time.Duration
	// Every is how long trouble lasts until it stops and all must become equal.
	Every time.Duration
	// Churn is how many changes of services there are in a second, Faults the mean
	// time between two of: a crash, a restart, a partition, loss, delay, a wrong clock.
	Churn  float64
	Faults time.Duration
	// Within is how soon all must be equal once the network is whole.
	Within time.Duration
	Seed   uint64
}

// Report is what came of it.
type Report struct {
	Changes, Crashes, Partitions, Checks int
	// Slowest is the longest that it took until all were equal and right.
	Slowest time.Duration
	Bytes   int64
}

func (r Report) String() string {
	return fmt.Sprintf("%d changes, %d crashes, %d partitions; equal %d times, at the latest after %s; %.1f MB", r.Changes, r.Crashes, r.Partitions, r.Checks,
		r.Slowest.Round(time.Millisecond), float64(r.Bytes)/1e6)
}

// member is one host of the cluster and what runs on it, whether its Sidecar does or not.
type member struct {
	*Host
	number int
	up     bool
	back   time.Time // when it is started again, if it is not up
	skew   time.Duration
	runs   map[string]pancake.ServiceStatus
}

type cluster struct {
	Life
	net     *Network
	rand    *rand.Rand
	members []*member
	report  Report
	next    int // service
}

// Run lets the cluster live. It is to be called in a synctest bubble. It fails if
// the catalogues do not become equal, or are not true.
func (l Life) Run() (Report, error) {
	c := &cluster{Life: l, net: New(l.Seed), rand: rand.New(rand.NewPCG(l.Seed, 1))}
	for i := range l.Nodes {
		m := &member{number: i + 1, runs: map[string]pancake.ServiceStatus{}, skew: c.clock()}
		c.members = append(c.members, m)
		for range l.Services {
			m.runs[c.name()] = pancake.Alive
		}
		if err := c.start(m); err != nil {
			return c.report, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	start := time.Now()
	err := c.check("at the start", time.Minute)
	for err == nil && time.Since(start) < l.For {
		if err = c.trouble(time.Now().Add(l.Every)); err == nil {
			err = c.check(fmt.Sprintf("after %s", time.Since(start).Round(time.Second)), l.Within)
		}
	}
	c.report.Bytes = c.net.Bytes()
	for _, m := range c.members {
		if m.up {
			m.cancel()
		}
	}
	for _, m := range c.members {
		if m.up {
			err = errors.Join(err, m.Stop())
		}
	}
	time.Sleep(time.Minute) // memberlist's goroutines end by themselves
	return c.report, err
}

// clock is right on most hosts, and hours off on some.
func (c *cluster) clock() time.Duration {
	if c.rand.IntN(10) > 0 {
		return 0
	}
	return time.Duration(c.rand.Int64N(int64(10*time.Hour))) - 5*time.Hour
}

func (c *cluster) name() string {
	c.next++
	return fmt.Sprintf("%012x", c.next)
}

func (c *cluster) start(m *member) error {
	h, err := Begin(fmt.Sprintf("node-%04d", m.number), m.skew, func(cfg *gossip.Config) {
		cfg.Transport = c.net.Node(m.number)
		for i := range 3 {
			cfg.Seeds = append(cfg.Seeds, fmt.Sprintf("10.0.0.%d:7946", i+1))
		}
	})
	if err != nil {
		return err
	}
	m.Host, m.up = h, true
	select { // as a Sidecar: first what the peers know, then what runs
	case <-h.Joined():
	case <-time.After(3 * time.Second):
	}
	for id, status := range m.runs {
		m.Start(id, nil)
		if status == pancake.Draining {
			m.Drain(id)
		}
	}
	m.Settle()
	return nil
}

// crash takes a host off the network without a word.
func (c *cluster) crash(m *member) error {
	_ = m.Wire.Shutdown() // it cannot fail
	m.up, m.back = false, time.Now().Add(time.Duration(c.rand.Int64N(int64(2*time.Minute))))
	c.report.Crashes++
	return m.Stop()
}

// trouble makes changes and faults until the end, when it stops all faults.
func (c *cluster) trouble(end time.Time) error {
	wait := func(mean time.Duration) time.Time {
		return time.Now().Add(time.Duration(c.rand.ExpFloat64() * float64(mean)))
	}
	every := time.Duration(float64(time.Second) / c.Churn)
	change, fault := wait(every), wait(c.Faults)
	for time.Now().Before(end) {
		next := change
		if fault.Before(next) {
			next = fault
		}
		time.Sleep(time.Until(next))
		if !time.Now().Before(change) {
			c.change()
			change = wait(every)
			continue
		}
		fault = wait(c.Faults)
		if err := c.fault(); err != nil {
			return err
		}
	}
	c.net.Heal(-1)
	c.net.Disturb(0, time.Millisecond)
	for _, m := range c.members {
		if !m.up {
			if err := c.start(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cluster) change() {
	m := c.members[c.rand.IntN(len(c.members))]
	c.report.Changes++
	ids := slices.Sorted(maps.Keys(m.runs))
	if len(ids) == 0 || c.rand.IntN(3) == 0 && len(ids) < 2*c.Services {
		id := c.name()
		m.runs[id] = pancake.Alive
		if m.up {
			m.Start(id, nil)
		}
		return
	}
	id := ids[c.rand.IntN(len(ids))]
	switch c.rand.IntN(4) {
	case 0, 1:
		delete(m.runs, id)
		if m.up {
			m.End(id)
		}
	case 2:
		m.runs[id] = pancake.Draining
		if m.up {
			m.Drain(id)
		}
	default:
		if m.runs[id] == pancake.Alive && m.up {
			m.Check(id, pancake.Sick)
			m.Check(id, pancake.Alive)
		}
	}
}

func (c *cluster) fault() error {
	for _, m := range c.members {
		if !m.up && time.Now().After(m.back) {
			if err := c.start(m); err != nil {
				return err
			}
		}
	}
	m := c.members[c.rand.IntN(len(c.members))]
	switch c.rand.IntN(6) {
	case 0, 1:
		if m.up {
			return c.crash(m)
		}
	case 2: // a partition, or the end of one
		c.net.Heal(-1)
		if c.rand.IntN(3) > 0 {
			c.report.Partitions++
			for _, m := range c.members[:1+c.rand.IntN(len(c.members)-1)] {
				if m.up {
					c.net.Cut(1, m.Wire)
				}
			}
		}
	case 3:
		c.net.Disturb(c.rand.Float64()*0.2, time.Duration(c.rand.Int64N(int64(100*time.Millisecond))))
	case 4:
		c.net.Disturb(0, time.Millisecond)
	default:
		m.skew = c.clock()
		if m.up {
			m.SetClock(m.skew)
		}
	}
	return nil
}

// check waits until all catalogues show exactly what runs.
func (c *cluster) check(when string, limit time.Duration) error {
	start := time.Now()
	for {
		wrong := c.wrong()
		took := time.Since(start)
		if len(wrong) == 0 {
			c.report.Checks++
			if when != "at the start" {
				c.report.Slowest = max(c.report.Slowest, took)
			}
			return nil
		}
		if took > limit {
			return fmt.Errorf("%s, seed %d: not equal within %s: %s", when, c.Seed, limit, strings.Join(wrong[:min(len(wrong), 5)], "; "))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *cluster) wrong() (wrong []string) {
	digest := uint64(0)
	for _, m := range c.members { // that each host knows itself, and then that all are equal to the first
		own := m.Snapshot().Hosts[m.Name]
		live := 0
		for s := range own.Live() {
			live++
			want, runs := m.runs[s.ID]
			if !runs || want != s.Status {
				wrong = append(wrong, fmt.Sprintf("%s shows %s as %s", m.Name, s.ID, s.Status))
			}
		}
		if live != len(m.runs) {
			wrong = append(wrong, fmt.Sprintf("%s shows %d of %d services", m.Name, live, len(m.runs)))
		}
		if own != nil {
			digest += own.Digest
		}
	}
	for _, m := range c.members {
		if got := m.Snapshot(); got.Digest != digest {
			wrong = append(wrong, fmt.Sprintf("%s has another catalogue (%d alive): %s", m.Name, m.Alive(), c.differences(got)))
		}
	}
	return wrong
}

func (c *cluster) differences(got *catalog.Snapshot) string {
	var out []string
	for _, m := range c.members {
		mine, theirs := got.Hosts[m.Name], m.Snapshot().Hosts[m.Name]
		var a, b uint64
		var gone, living bool
		if mine != nil {
			a, gone, living = mine.Digest, mine.Gone, mine.Living
		}
		if theirs != nil {
			b = theirs.Digest
		}
		if a != b && len(out) < 3 {
			out = append(out, fmt.Sprintf("of %s (gone %t, living %t)", m.Name, gone, living))
		}
	}
	return strings.Join(out, ", ")
}
