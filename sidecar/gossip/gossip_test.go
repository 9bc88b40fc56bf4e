package gossip_test

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/gossip"
	"github.com/pancake-stack/pancake/sidecar/gossip/simnet"
)

// host is a Sidecar of a test, which it ends if need be.
type host struct {
	*simnet.Host
	stop func()
}

// begin starts a host. Without change it is called name in cluster default.
func begin(t *testing.T, name string, change func(*gossip.Config)) *host {
	t.Helper()
	h, err := simnet.Begin(name, 0, func(c *gossip.Config) {
		if os.Getenv("PANCAKE_TEST_DEBUG") != "" {
			c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", name)
		}
		change(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Settle()
	return &host{Host: h, stop: sync.OnceFunc(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})}
}

// simulate runs fn with n hosts on an in-memory network, in simulated time.
// The first is the seed of all others.
func simulate(t *testing.T, n int, loss float64, fn func(hosts []*host, net *simnet.Network, wires []*simnet.Transport)) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		network.Disturb(loss, time.Millisecond)
		var hosts []*host
		var wires []*simnet.Transport
		for i := range n {
			wires = append(wires, network.Node(i+1))
			hosts = append(hosts, begin(t, fmt.Sprintf("h%d", i), func(c *gossip.Config) {
				c.Transport, c.Seeds = wires[i], []string{wires[0].String()}
			}))
		}
		fn(hosts, network, wires)
		for _, h := range hosts {
			h.stop()
		}
		time.Sleep(time.Minute) // memberlist's goroutines end by themselves
	})
}

// within waits in simulated time, and returns how long it took.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

func everybody(hosts []*host, ok func(*host) bool) func() bool {
	return func() bool {
		for _, h := range hosts {
			if !ok(h) {
				return false
			}
		}
		return true
	}
}

func TestChangesReachEverybodySoon(t *testing.T) {
	for _, loss := range []float64{0, 0.2} {
		simulate(t, 10, loss, func(hosts []*host, _ *simnet.Network, _ []*simnet.Transport) {
			within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 10 }))
			time.Sleep(5 * time.Second)
			hosts[3].Start("1", nil)
			took := within(t, 10*time.Second, "all know the service", everybody(hosts, func(h *host) bool { return h.Sees("h3", "1") == "Alive" }))
			hosts[3].Drain("1")
			drain := within(t, 10*time.Second, "all know that it is draining", everybody(hosts, func(h *host) bool { return h.Sees("h3", "1") == "Draining" }))
			t.Logf("loss %.0f %%: alive after %s, draining after %s", 100*loss, took, drain)
			if loss == 0 && max(took, drain) > 500*time.Millisecond {
				t.Errorf("alive after %s, draining after %s: too slow for a network of 1 ms", took, drain)
			}
			// Too large for a packet.
			hosts[4].Start("2", map[string]string{"traefik.x": strings.Repeat("x", 5000)})
			within(t, 30*time.Second, "all know the large record", everybody(hosts, func(h *host) bool { return h.Sees("h4", "2") == "Alive" }))
		})
	}
}

// A host whose machine has just lost its power does not hold up what the others are told.
func TestASilentHostHoldsUpNobody(t *testing.T) {
	simulate(t, 3, 0, func(hosts []*host, net *simnet.Network, wires []*simnet.Transport) {
		within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 3 }))
		time.Sleep(5 * time.Second)
		net.Hang(true)
		net.Cut(1, wires[2])
		large := map[string]string{"traefik.x": strings.Repeat("x", 5000)}
		for _, id := range []string{"1", "2", "3"} {
			hosts[0].Start(id, large)
			within(t, 500*time.Millisecond, "h1 knows service "+id, func() bool { return hosts[1].Sees("h0", id) == "Alive" })
		}
		net.Hang(false)
	})
}

func TestDeadAndLeavingHosts(t *testing.T) {
	simulate(t, 5, 0, func(hosts []*host, net *simnet.Network, wires []*simnet.Transport) {
		within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 5 }))
		for _, h := range hosts {
			h.Start("1", nil)
		}
		within(t, 10*time.Second, "all know h3's", everybody(hosts, func(h *host) bool { return h.Sees("h3", "1") == "Alive" }))
		rest := hosts[:3]
		hosts[4].stop()
		within(t, 10*time.Second, "h4 has left", everybody(rest, func(h *host) bool {
			return h.Members()[4].State == client.MemberLeft && h.Sees("h4", "1") == "Tombstone"
		}))
		net.Cut(1, wires[3])
		within(t, time.Minute, "h3 is dead", everybody(rest, func(h *host) bool {
			return h.Members()[3].State == client.MemberDead && h.Sees("h3", "1") == "Tombstone"
		}))
		time.Sleep(10 * time.Minute) // longer than memberlist keeps trying
		net.Cut(0, wires[3])
		within(t, 2*time.Minute, "h3 is back", everybody(hosts[:4], func(h *host) bool {
			return h.Alive() == 4 && h.Sees("h3", "1") == "Alive" && h.Sees("h0", "1") == "Alive"
		}))
	})
}

func TestStartsAloneWithoutItsSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		seed, wire := network.Node(1), network.Node(2)
		if err := seed.Shutdown(); err != nil {
			t.Fatal(err)
		}
		alone := begin(t, "alone", func(c *gossip.Config) { c.Transport, c.Seeds = wire, []string{seed.String()} })
		time.Sleep(10 * time.Minute)
		select {
		case <-alone.Joined():
			t.Error("it says that a seed has answered")
		default:
		}
		if alone.Alive() != 1 {
			t.Fatalf("members: %v", alone.Members())
		}
		late := begin(t, "late", func(c *gossip.Config) { c.Transport = network.Node(1) })
		within(t, time.Minute, "both know each other", everybody([]*host{alone, late}, func(h *host) bool { return h.Alive() == 2 }))
		alone.stop()
		late.stop()
		time.Sleep(time.Minute)
	})
}

// Names that cannot be looked up, for example while the machine starts, are no
// answer of a seed.
func TestSeedsWithoutAnAddress(t *testing.T) {
	var log strings.Builder
	var alone *host
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		alone = begin(t, "alone", func(c *gossip.Config) {
			c.Transport, c.Seeds = network.Node(1), []string{":7946"} // the empty name is looked up without a server
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		time.Sleep(time.Minute)
		select {
		case <-alone.Joined():
			t.Error("it says that a seed has answered")
		default:
		}
		alone.stop()
		time.Sleep(time.Minute)
	})
	if n := strings.Count(log.String(), "no seed answers"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

func TestOtherClustersAndKeysStayApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, other := []byte("0123456789abcdef"), []byte("fedcba9876543210")
		network := simnet.New(1)
		seed := network.Node(1)
		var hosts []*host
		add := func(name string, i int, cluster string, keys ...[]byte) *host {
			wire := seed
			if i > 1 {
				wire = network.Node(i)
			}
			h := begin(t, name, func(c *gossip.Config) {
				c.Transport, c.Seeds, c.Cluster, c.Keys = wire, []string{seed.String()}, cluster, keys
			})
			hosts = append(hosts, h)
			return h
		}
		first := add("first", 1, "c", key)
		friend := add("friend", 2, "c", key)
		rotating := add("rotating", 3, "c", key, other)
		strangers := []*host{add("plain", 4, "c"), add("wrong", 5, "c", other), add("elsewhere", 6, "d", key)}
		time.Sleep(2 * time.Minute)
		for _, h := range []*host{first, friend, rotating} {
			if h.Alive() != 3 {
				t.Errorf("%s: %v", h.Name, h.Members())
			}
		}
		for _, h := range strangers {
			if h.Alive() != 1 {
				t.Errorf("%s: %v", h.Name, h.Members())
			}
		}
		for _, h := range hosts {
			h.stop()
		}
		time.Sleep(time.Minute)
	})
}

// A key is replaced host by host, slowly enough for the failure detector to notice
// whoever is not understood.
func TestKeyRotationLosesNobody(t *testing.T) {
	was, is := []byte("0123456789abcdef"), []byte("fedcba9876543210")
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		var hosts []*host
		seed := network.Node(1)
		for i := range 5 {
			wire := seed
			if i > 0 {
				wire = network.Node(i + 1)
			}
			hosts = append(hosts, begin(t, fmt.Sprintf("h%d", i), func(c *gossip.Config) {
				c.Transport, c.Seeds, c.Keys = wire, []string{seed.String()}, [][]byte{was}
			}))
		}
		together := everybody(hosts, func(h *host) bool { return h.Alive() == 5 })
		within(t, time.Minute, "all know each other", together)
		for step, keys := range [][][]byte{{was, is}, {is, was}, {is}} {
			for i, h := range hosts {
				if err := h.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				id := fmt.Sprintf("%d-%d", step, i)
				h.Start(id, nil)
				within(t, 10*time.Second, "all know the service", everybody(hosts, func(o *host) bool { return o.Sees(h.Name, id) == "Alive" }))
				for range 300 {
					time.Sleep(100 * time.Millisecond)
					if !together() {
						t.Fatalf("step %d, %s: a member was lost", step, h.Name)
					}
				}
			}
		}
		// So that the test can fail: who skips the steps is lost.
		if err := hosts[4].SetKeys([][]byte{was}); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "h4 is lost", func() bool { return hosts[0].Alive() == 4 })
		for _, h := range hosts {
			h.stop()
		}
		time.Sleep(time.Minute)
	})
}

// A host that says that it will be back keeps its services for as long as it said.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		seed := network.Node(1)
		var hosts []*host
		add := func(name string, i int, quiet bool) *host {
			wire := seed
			if i > 1 {
				wire = network.Node(i)
			}
			h := begin(t, name, func(c *gossip.Config) { c.Transport, c.Seeds, c.Quiet = wire, []string{seed.String()}, quiet })
			hosts = append(hosts, h)
			return h
		}
		first, second, quiet := add("first", 1, false), add("second", 2, false), add("quiet", 3, true)
		rest := []*host{first, second}
		within(t, time.Minute, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 3 }))
		quiet.Start("1", nil)
		within(t, 10*time.Second, "all know the service", everybody(hosts, func(h *host) bool { return h.Sees("quiet", "1") == "Alive" }))
		for _, away := range []time.Duration{8 * time.Second, 20 * time.Second} {
			quiet.stop()
			start := time.Now()
			kept := true
			for time.Since(start) < away {
				kept = kept && first.Sees("quiet", "1") == "Alive" && second.Sees("quiet", "1") == "Alive"
				time.Sleep(100 * time.Millisecond)
			}
			if kept != (away < 10*time.Second) {
				t.Errorf("away for %s: kept is %t", away, kept)
			}
			quiet = add("quiet", 3, true)
			quiet.Start("1", nil)
			within(t, 30*time.Second, "it is back", everybody(rest, func(h *host) bool { return h.Sees("quiet", "1") == "Alive" && h.Alive() == 3 }))
			time.Sleep(5 * time.Second)
		}
		for _, h := range append(rest, quiet) {
			h.stop()
		}
		time.Sleep(time.Minute)
	})
}

func TestForceLeave(t *testing.T) {
	simulate(t, 4, 0, func(hosts []*host, net *simnet.Network, wires []*simnet.Transport) {
		within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 4 }))
		if err := hosts[0].ForceLeave(t.Context(), "h3"); pancake.KindOf(err) != pancake.Conflict {
			t.Errorf("of one that is alive: %v", err)
		}
		net.Cut(1, wires[3])
		within(t, time.Minute, "h3 is dead", everybody(hosts[:3], func(h *host) bool { return h.Alive() == 3 }))
		if err := hosts[0].ForceLeave(t.Context(), "h3"); err != nil {
			t.Error(err)
		}
		within(t, 5*time.Second, "h3 is forgotten", everybody(hosts[:3], func(h *host) bool { return len(h.Members()) == 3 }))
		net.Cut(0, wires[3])
	})
}

// What a bridge speaks for lives as long as it does, and no longer.
func TestMirroredHosts(t *testing.T) {
	simulate(t, 5, 0.1, func(hosts []*host, net *simnet.Network, wires []*simnet.Transport) {
		within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 5 }))
		refresh := func() {
			hosts[1].Mirror([]pancake.Service{{Hostname: "old", ID: "1", Name: "x", Updated: time.Now(), Created: time.Unix(1, 0)}})
		}
		seen := everybody(hosts, func(h *host) bool { return h.Sees("old", "1") == "Alive" })
		for i := range 20 {
			refresh()
			within(t, 10*time.Second, fmt.Sprintf("all know the service, minute %d", i), seen)
			for range 60 {
				time.Sleep(time.Second)
				if !seen() {
					t.Fatalf("it was lost after %d minutes", i)
				}
			}
		}
		within(t, 3*time.Minute, "nobody speaks for it any more", everybody(hosts, func(h *host) bool { return h.Sees("old", "1") == "Tombstone" }))
		time.Sleep(10 * time.Minute)
		if !everybody(hosts, func(h *host) bool { return h.Sees("old", "1") == "Tombstone" })() {
			t.Error("it came back")
		}
	})
}

// Five hosts, cut in 2 and 3 for two minutes with changes on both sides, and healed.
func TestPartition(t *testing.T) {
	for name, tt := range map[string]struct {
		loss  float64
		delay time.Duration
		clock time.Duration // of h4
	}{
		"whole network": {0, time.Millisecond, 0},
		"bad network":   {0.1, 100 * time.Millisecond, 0},
		"wrong clock":   {0, time.Millisecond, time.Hour},
		"late clock":    {0.1, 10 * time.Millisecond, -5 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 5, tt.loss, func(hosts []*host, net *simnet.Network, wires []*simnet.Transport) {
				net.Disturb(tt.loss, tt.delay)
				hosts[4].SetClock(tt.clock)
				within(t, time.Minute, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 5 }))
				runs := map[string]bool{}
				start := func(i int, id string) { hosts[i].Start(id, nil); runs[fmt.Sprintf("h%d/%s", i, id)] = true }
				end := func(i int, id string) { hosts[i].End(id); delete(runs, fmt.Sprintf("h%d/%s", i, id)) }
				right := func(h *host) bool {
					n := 0
					for host, on := range h.Snapshot().Hosts {
						for s := range on.Live() {
							if n++; !runs[host+"/"+s.ID] {
								return false
							}
						}
					}
					return n == len(runs)
				}
				for i := range hosts {
					for s := range 10 {
						start(i, fmt.Sprint(s))
					}
				}
				within(t, 30*time.Second, "all are right", everybody(hosts, right))
				net.Cut(1, wires[0], wires[3])
				for s := range 24 { // five seconds each
					i := s % 5
					start(i, fmt.Sprint(100+s))
					if s < 20 {
						end(i, fmt.Sprint(s/2%10))
						if s%2 == 0 {
							start(i, fmt.Sprint(s/2%10)) // a container that is restarted
						}
					}
					time.Sleep(5 * time.Second)
				}
				if hosts[0].Sees("h1", "9") != "Tombstone" {
					t.Fatal("the partition was not noticed")
				}
				net.Heal(-1)
				took := within(t, time.Minute, "all are right again", everybody(hosts, right))
				t.Logf("after %s", took)
				if took > 5*time.Second {
					t.Error("too late")
				}
				for range 600 {
					time.Sleep(100 * time.Millisecond)
					if !everybody(hosts, right)() {
						t.Fatal("it did not stay so")
					}
				}
			})
		})
	}
}

// A host that lies about another's services is corrected by that one.
func TestLies(t *testing.T) {
	simulate(t, 5, 0, func(hosts []*host, _ *simnet.Network, _ []*simnet.Transport) {
		within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 5 }))
		hosts[1].Start("1", nil)
		within(t, 10*time.Second, "all know the service", everybody(hosts, func(h *host) bool { return h.Sees("h1", "1") == "Alive" }))
		lie := func(id string, status pancake.ServiceStatus, ahead time.Duration) {
			hosts[4].Merge(t.Context(), "", []pancake.Service{{Hostname: "h1", ID: id, Name: "lie", Status: status, Updated: time.Now().Add(ahead), Created: time.Unix(1, 0)}})
		}
		lie("1", pancake.Tombstone, time.Second)
		lie("2", pancake.Alive, 23*time.Hour)
		lie("3", pancake.Alive, 25*time.Hour)
		truth := func(h *host) bool {
			return h.Sees("h1", "1") == "Alive" && h.Sees("h1", "2") == "Tombstone" && h.Sees("h1", "3") == "not known"
		}
		within(t, 5*time.Second, "all know the truth", everybody(hosts, truth))
		if hosts[1].Refused(catalog.RefusedLie) == 0 || hosts[4].Refused(catalog.RefusedAhead) != 1 {
			t.Error("the lies were not counted")
		}
	})
}

func TestBadConfig(t *testing.T) {
	h := &simnet.Host{}
	for name, cfg := range map[string]gossip.Config{
		"key":     {Name: "h", Owner: h, Keys: [][]byte{[]byte("short")}},
		"cluster": {Name: "h", Owner: h, Cluster: strings.Repeat("c", memberlist.LabelMaxSize)},
	} {
		if _, err := gossip.New(cfg); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRealNetwork is three hosts on loopback with real sockets.
func TestRealNetwork(t *testing.T) {
	var hosts []*host
	for i := range 3 {
		hosts = append(hosts, begin(t, fmt.Sprintf("h%d", i), func(c *gossip.Config) {
			c.BindAddr, c.BindPort = fmt.Sprintf("127.0.0.%d", i+1), -1
			if i > 0 {
				c.Seeds = []string{hosts[0].Members()[0].Address}
			}
		}))
		t.Cleanup(hosts[i].stop)
		within(t, 30*time.Second, "it is a member", func() bool { return len(hosts[i].Members()) > 0 })
	}
	within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 3 }))
	hosts[0].Start("1", nil)
	hosts[1].Start("2", map[string]string{"traefik.x": strings.Repeat("x", 5000)})
	within(t, 30*time.Second, "all know both services", everybody(hosts, func(h *host) bool {
		return h.Sees("h0", "1") == "Alive" && h.Sees("h1", "2") == "Alive"
	}))
	hosts[0].stop()
	within(t, 30*time.Second, "h0 has left", everybody(hosts[1:], func(h *host) bool { return h.Sees("h0", "1") == "Tombstone" }))
}

// TestManyAtOnce starts 2,000 services on one of three hosts of a real network.
func TestManyAtOnce(t *testing.T) {
	var hosts []*host
	for i := range 3 {
		hosts = append(hosts, begin(t, fmt.Sprintf("h%d", i), func(c *gossip.Config) {
			c.BindAddr, c.BindPort = fmt.Sprintf("127.20.254.%d", i+1), -1
			if i > 0 {
				c.Seeds = []string{hosts[0].Members()[0].Address}
			}
		}))
		t.Cleanup(hosts[i].stop)
		within(t, 30*time.Second, "it is a member", func() bool { return len(hosts[i].Members()) > 0 })
	}
	within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.Alive() == 3 }))
	start := time.Now()
	for i := range 2000 {
		hosts[0].Start(fmt.Sprintf("%012x", i), map[string]string{"traefik.enable": "true"})
	}
	started := time.Since(start)
	within(t, 30*time.Second, "all know all", everybody(hosts, func(h *host) bool {
		snap := h.Snapshot()
		return snap.Digest == hosts[0].Snapshot().Digest && snap.Len() == 2000
	}))
	t.Logf("started within %s, known everywhere after %s", started, time.Since(start))
}
