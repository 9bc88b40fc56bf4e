package gossip_test

import (
	"context"
	"errors"
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
)

// host is a catalogue that gossips: the smallest possible Sidecar.
type host struct {
	name string
	*gossip.Gossip
	stop func()

	mu sync.Mutex
	c  *catalog.Catalog
}

func (h *host) change(fn func(*catalog.Catalog) []catalog.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Publish(fn(h.c))
}

func (h *host) Snapshot() *catalog.Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.c.Snapshot()
}

func (h *host) Merge(_ context.Context, records []pancake.Service) {
	h.change(func(c *catalog.Catalog) []catalog.Change {
		changes, _ := c.Merge(records, time.Now())
		return changes
	})
}

func (h *host) HostGone(_ context.Context, name string) {
	h.change(func(c *catalog.Catalog) []catalog.Change { return c.HostGone(name, time.Now()) })
}

// run makes a service of the host alive.
func (h *host) run(id string, labels map[string]string) {
	h.change(func(c *catalog.Catalog) []catalog.Change {
		changes := c.Discover(pancake.Service{ID: id, Name: "x", ProxyMode: "http", Labels: labels}, time.Now())
		return append(changes, c.SetStatus(id, pancake.Alive, "", time.Now())...)
	})
}

// sees returns the status of another host's service.
func (h *host) sees(name, id string) string {
	if on := h.Snapshot().Hosts[name]; on != nil && on.Services[id] != nil {
		return on.Services[id].Status.String()
	}
	return "not known"
}

func (h *host) alive() (n int) {
	for _, m := range h.Members() {
		if m.State == client.MemberAlive {
			n++
		}
	}
	return n
}

// begin starts a host. Without change it is called name in cluster c.
func begin(t *testing.T, name string, change func(*gossip.Config)) *host {
	t.Helper()
	h := &host{name: name, c: catalog.New(name, "c")}
	h.c.Settle(time.Now())
	cfg := gossip.Config{Name: name, Cluster: "c", Owner: h, Log: slog.New(slog.DiscardHandler)}
	if os.Getenv("PANCAKE_TEST_DEBUG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", name)
	}
	change(&cfg)
	g, err := gossip.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Run returned %v", name, err)
		}
	})
	return h
}

// simulate runs fn with n hosts on an in-memory network, in simulated time.
// The first is the seed of all others.
func simulate(t *testing.T, n int, loss float64, fn func(hosts []*host, net *network, wires []*transport)) {
	synctest.Test(t, func(t *testing.T) {
		network := newNetwork(loss)
		var hosts []*host
		var wires []*transport
		for i := range n {
			wires = append(wires, network.node(i+1))
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
		simulate(t, 10, loss, func(hosts []*host, _ *network, _ []*transport) {
			within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.alive() == 10 }))
			time.Sleep(5 * time.Second)
			hosts[3].run("1", nil)
			took := within(t, 10*time.Second, "all know the service", everybody(hosts, func(h *host) bool { return h.sees("h3", "1") == "Alive" }))
			hosts[3].change(func(c *catalog.Catalog) []catalog.Change {
				_, changes, _ := c.Drain("1", time.Now()) // it runs
				return changes
			})
			drain := within(t, 10*time.Second, "all know that it is draining", everybody(hosts, func(h *host) bool { return h.sees("h3", "1") == "Draining" }))
			t.Logf("loss %.0f %%: alive after %s, draining after %s", 100*loss, took, drain)
			if loss == 0 && max(took, drain) > 500*time.Millisecond {
				t.Errorf("alive after %s, draining after %s: too slow for a network of 1 ms", took, drain)
			}
			// Too large for a packet.
			hosts[4].run("2", map[string]string{"traefik.x": strings.Repeat("x", 5000)})
			within(t, 30*time.Second, "all know the large record", everybody(hosts, func(h *host) bool { return h.sees("h4", "2") == "Alive" }))
		})
	}
}

// A host whose machine has just lost its power does not hold up what the others are told.
func TestASilentHostHoldsUpNobody(t *testing.T) {
	simulate(t, 3, 0, func(hosts []*host, net *network, wires []*transport) {
		within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.alive() == 3 }))
		time.Sleep(5 * time.Second)
		net.hang(true)
		net.cut(1, wires[2])
		large := map[string]string{"traefik.x": strings.Repeat("x", 5000)}
		for _, id := range []string{"1", "2", "3"} {
			hosts[0].run(id, large)
			within(t, 500*time.Millisecond, "h1 knows service "+id, func() bool { return hosts[1].sees("h0", id) == "Alive" })
		}
		net.hang(false)
	})
}

func TestDeadAndLeavingHosts(t *testing.T) {
	simulate(t, 5, 0, func(hosts []*host, net *network, wires []*transport) {
		within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.alive() == 5 }))
		for _, h := range hosts {
			h.run("1", nil)
		}
		within(t, 10*time.Second, "all know h3's", everybody(hosts, func(h *host) bool { return h.sees("h3", "1") == "Alive" }))
		rest := hosts[:3]
		hosts[4].stop()
		within(t, 10*time.Second, "h4 has left", everybody(rest, func(h *host) bool {
			return h.Members()[4].State == client.MemberLeft && h.sees("h4", "1") == "Tombstone"
		}))
		net.cut(1, wires[3])
		within(t, time.Minute, "h3 is dead", everybody(rest, func(h *host) bool {
			return h.Members()[3].State == client.MemberDead && h.sees("h3", "1") == "Tombstone"
		}))
		time.Sleep(10 * time.Minute) // longer than memberlist keeps trying
		net.cut(0, wires[3])
		within(t, 2*time.Minute, "h3 is back", everybody(hosts[:4], func(h *host) bool {
			return h.alive() == 4 && h.sees("h3", "1") == "Alive" && h.sees("h0", "1") == "Alive"
		}))
	})
}

func TestStartsAloneWithoutItsSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newNetwork(0)
		seed, wire := network.node(1), network.node(2)
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
		if alone.alive() != 1 {
			t.Fatalf("members: %v", alone.Members())
		}
		late := begin(t, "late", func(c *gossip.Config) { c.Transport = network.node(1) })
		within(t, time.Minute, "both know each other", everybody([]*host{alone, late}, func(h *host) bool { return h.alive() == 2 }))
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
		network := newNetwork(0)
		alone = begin(t, "alone", func(c *gossip.Config) {
			c.Transport, c.Seeds = network.node(1), []string{":7946"} // the empty name is looked up without a server
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
		network := newNetwork(0)
		seed := network.node(1)
		var hosts []*host
		add := func(name string, i int, cluster string, keys ...[]byte) *host {
			wire := seed
			if i > 1 {
				wire = network.node(i)
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
			if h.alive() != 3 {
				t.Errorf("%s: %v", h.name, h.Members())
			}
		}
		for _, h := range strangers {
			if h.alive() != 1 {
				t.Errorf("%s: %v", h.name, h.Members())
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
		network := newNetwork(0)
		var hosts []*host
		seed := network.node(1)
		for i := range 5 {
			wire := seed
			if i > 0 {
				wire = network.node(i + 1)
			}
			hosts = append(hosts, begin(t, fmt.Sprintf("h%d", i), func(c *gossip.Config) {
				c.Transport, c.Seeds, c.Keys = wire, []string{seed.String()}, [][]byte{was}
			}))
		}
		together := everybody(hosts, func(h *host) bool { return h.alive() == 5 })
		within(t, time.Minute, "all know each other", together)
		for step, keys := range [][][]byte{{was, is}, {is, was}, {is}} {
			for i, h := range hosts {
				if err := h.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				id := fmt.Sprintf("%d-%d", step, i)
				h.run(id, nil)
				within(t, 10*time.Second, "all know the service", everybody(hosts, func(o *host) bool { return o.sees(h.name, id) == "Alive" }))
				for range 300 {
					time.Sleep(100 * time.Millisecond)
					if !together() {
						t.Fatalf("step %d, %s: a member was lost", step, h.name)
					}
				}
			}
		}
		// So that the test can fail: who skips the steps is lost.
		if err := hosts[4].SetKeys([][]byte{was}); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "h4 is lost", func() bool { return hosts[0].alive() == 4 })
		for _, h := range hosts {
			h.stop()
		}
		time.Sleep(time.Minute)
	})
}

func TestBadConfig(t *testing.T) {
	h := &host{c: catalog.New("h", "c")}
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
	within(t, 30*time.Second, "all know each other", everybody(hosts, func(h *host) bool { return h.alive() == 3 }))
	hosts[0].run("1", nil)
	hosts[1].run("2", map[string]string{"traefik.x": strings.Repeat("x", 5000)})
	within(t, 30*time.Second, "all know both services", everybody(hosts, func(h *host) bool {
		return h.sees("h0", "1") == "Alive" && h.sees("h1", "2") == "Alive"
	}))
	hosts[0].stop()
	within(t, 30*time.Second, "h0 has left", everybody(hosts[1:], func(h *host) bool { return h.sees("h0", "1") == "Tombstone" }))
}

// tenThousand are services as a large cluster has them.
func tenThousand() []*pancake.Service {
	var out []*pancake.Service
	for i := range 10_000 {
		out = append(out, &pancake.Service{
			ID: fmt.Sprintf("%012x", i*7919), Name: fmt.Sprintf("service-%d", i%500), Image: fmt.Sprintf("registry.example/service-%d:%d", i%500, i%7),
			Hostname: fmt.Sprintf("node-%d", i%1000), ProxyMode: "http", Created: time.Unix(1_700_000_000+int64(i), 0).UTC(), Updated: time.Unix(1_700_100_000+int64(i), 12345).UTC(),
			Ports:  []pancake.ServicePort{{Type: "tcp", Port: int64(31000 + i%1000), ServicePort: 10000, IP: fmt.Sprintf("10.0.%d.%d", i%1000/250, i%250)}},
			Labels: map[string]string{"traefik.http.routers.r.rule": "Host(`example.com`)"}, Task: fmt.Sprintf("prod_service-1-%d-1-node-rack", i),
		})
	}
	return out
}
