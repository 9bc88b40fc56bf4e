package simnet_test

import (
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/gossip"
	"github.com/pancake-stack/pancake/sidecar/gossip/simnet"
)

// flock is a cluster without trouble, but for what the test makes.
type flock struct {
	t     *testing.T
	net   *simnet.Network
	hosts []*simnet.Host
}

// begin starts n hosts with ten services each, in a bubble, and waits until all are equal.
func begin(t *testing.T, n int) *flock {
	f := &flock{t: t, net: simnet.New(1)}
	for i := range n {
		h, err := simnet.Begin(fmt.Sprintf("node-%07d", i), 0, func(c *gossip.Config) {
			c.Transport, c.Seeds = f.net.Node(i+1), []string{"10.0.0.1:7946"}
		})
		if err != nil {
			t.Fatal(err)
		}
		<-h.Joined()
		for s := range 10 {
			h.Start(fmt.Sprintf("%06x%06x", i, s), nil)
		}
		h.Settle()
		f.hosts = append(f.hosts, h)
		time.Sleep(20 * time.Millisecond)
	}
	f.within(time.Minute, "all are equal", f.equal)
	time.Sleep(30 * time.Second) // what is still under way
	return f
}

func (f *flock) equal() bool {
	first := f.hosts[0].Snapshot()
	for _, h := range f.hosts {
		if s := h.Snapshot(); s.Digest != first.Digest || len(s.Hosts) != len(f.hosts) {
			return false
		}
	}
	return true
}

func (f *flock) within(limit time.Duration, what string, ok func() bool) time.Duration {
	f.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			f.t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// all reports whether all hosts but one see a status.
func (f *flock) all(but *simnet.Host, name, id, status string) func() bool {
	return func() bool {
		for _, h := range f.hosts {
			if h != but && h.Sees(name, id) != status {
				return false
			}
		}
		return true
	}
}

func (f *flock) end() {
	for _, h := range f.hosts {
		_ = h.Wire.Shutdown() // at once: it cannot fail
	}
	for _, h := range f.hosts {
		if err := h.Stop(); err != nil {
			f.t.Error(err)
		}
	}
	time.Sleep(time.Minute) // memberlist's goroutines end by themselves
}

// TestSpeed measures, in simulated time and with a millisecond of delay, what is
// promised of a cluster, and that it is silent at rest.
func TestSpeed(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for _, n := range []int{3, number(t, "PANCAKE_SIM_NODES", 50)} {
		began := time.Now()
		synctest.Test(t, func(t *testing.T) {
			f := begin(t, n)
			before, rest := f.net.Bytes(), time.Minute
			time.Sleep(rest)
			idle := float64(f.net.Bytes()-before) / float64(n) / rest.Seconds()
			if idle > gossip.IdleBytes(n, false) {
				t.Errorf("%d nodes: %.0f bytes a second at rest, computed are %.0f", n, idle, gossip.IdleBytes(n, false))
			}
			var visible, drained, died, killed []time.Duration
			for i := range 20 {
				h, id := f.hosts[(7*i)%n], fmt.Sprintf("%012x", 1<<40+i)
				h.Start(id, nil)
				visible = append(visible, f.within(10*time.Second, "visible", f.all(nil, h.Name, id, "Alive")))
				h.Drain(id)
				drained = append(drained, f.within(10*time.Second, "drained", f.all(nil, h.Name, id, pancake.Draining.String())))
				h.End(id)
				died = append(died, f.within(10*time.Second, "died", f.all(nil, h.Name, id, "Tombstone")))
				time.Sleep(3 * time.Second)
			}
			kills := min(10, n-2)
			for range kills {
				last := f.hosts[len(f.hosts)-1]
				f.hosts = f.hosts[:len(f.hosts)-1]
				_ = last.Wire.Shutdown() // it cannot fail
				id := fmt.Sprintf("%06x%06x", len(f.hosts), 0)
				killed = append(killed, f.within(30*time.Second, "killed", f.all(nil, last.Name, id, "Tombstone")))
				if err := last.Stop(); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Second)
			}
			t.Logf("%d nodes: idle %.0f B/s, visible %s, drain %s, die %s, kill %s (computed %s)", n, idle,
				quantiles(visible), quantiles(drained), quantiles(died), quantiles(killed), gossip.Noticed(n).Round(10*time.Millisecond))
			bound := time.Duration(2 * math.Max(1, math.Ceil(math.Log(float64(n))/math.Log(4))) * float64(200*time.Millisecond))
			for what, took := range map[string][]time.Duration{"visible": visible, "drain": drained, "die": died} {
				if p := quantile(took, 0.9); p > min(bound, 300*time.Millisecond*time.Duration(max(1, n/3))) {
					t.Errorf("%d nodes: %s after %s", n, what, p)
				}
			}
			limit := 5 * time.Second
			if n == 3 {
				limit = 4 * time.Second
			}
			if p := quantile(killed, 0.5); p > limit {
				t.Errorf("%d nodes: a dead node is noticed after %s", n, p)
			}
			f.end()
		})
		t.Logf("%d nodes: took %s", n, time.Since(began).Round(time.Second))
	}
}

func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[int(q*float64(len(d)-1))]
}

func quantiles(d []time.Duration) string {
	return fmt.Sprintf("%s/%s/%s", quantile(d, 0.5).Round(time.Millisecond), quantile(d, 0.9).Round(time.Millisecond), quantile(d, 1).Round(time.Millisecond))
}
