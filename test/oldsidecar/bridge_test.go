package oldsidecar_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/bridge"
	"github.com/pancake-stack/pancake/test/oldsidecar"
)

// runner is anything with Run that a test can end on its own.
type runner struct {
	stop func()
}

func run(t *testing.T, fn func(context.Context) error) *runner {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("it ended by itself: %v", err)
		}
	})
	t.Cleanup(stop)
	return &runner{stop}
}

type peer struct {
	*oldsidecar.Peer
	*runner
}

// old starts a cluster of old Sidecars o1, o2, … that is ten times as fast as real ones.
func old(t *testing.T, n int) []*peer {
	t.Helper()
	var peers []*peer
	for i := range n {
		peers = append(peers, oldPeer(t, fmt.Sprint("o", i+1), peers))
	}
	eventually(t, "the old cluster to form", func() bool {
		return !slices.ContainsFunc(peers, func(p *peer) bool { return len(p.Members()) != n })
	})
	return peers
}

func oldPeer(t *testing.T, name string, seeds []*peer) *peer {
	t.Helper()
	cfg := oldsidecar.Config{
		Name: name, Cluster: "bench", BindAddr: "127.23.0.1", AliveFor: 4 * time.Second, RefreshEvery: time.Second,
		ResendEvery: 100 * time.Millisecond, PushPull: time.Second, Gossip: 50 * time.Millisecond,
		ProbeEvery: 300 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond, SuspectFor: time.Second, Log: logger(t, name),
	}
	for _, s := range seeds {
		cfg.Seeds = append(cfg.Seeds, s.Address())
	}
	p, err := oldsidecar.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &peer{p, run(t, p.Run)}
}

type bridging struct {
	*bridge.Bridge
	*runner
}

func startBridge(t *testing.T, o *ours, host string, peers []*peer, quiet bool) *bridging {
	t.Helper()
	cfg := bridge.Config{
		Ours: o.local(), Host: host, Cluster: "bench", BindAddr: "127.23.0.2", BindPort: -1, PushPull: 500 * time.Millisecond, Refresh: time.Second,
		Quiet: quiet, Log: logger(t, "bridge-"+host), Metrics: prometheus.NewRegistry(),
	}
	for _, p := range peers {
		cfg.Seeds = append(cfg.Seeds, p.Address())
	}
	b, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &bridging{b, run(t, b.Run)}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.Now().Add(40 * time.Second)
	for !cond() {
		if time.Now().After(limit) {
			t.Fatalf("gave up waiting for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stays checks that something remains true for a while.
func stays(t *testing.T, what string, d time.Duration, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !cond() {
			t.Fatalf("%s did not last", what)
		}
	}
}

func is(peers []*peer, host, id string, status int) func() bool {
	return func() bool {
		return !slices.ContainsFunc(peers, func(p *peer) bool {
			s, ok := p.Get(host, id)
			return !ok || s.Status != status
		})
	}
}

func service(id string) oldsidecar.Service {
	return oldsidecar.Service{
		ID: id, Name: "old-" + id, Image: "registry/old:1", Created: time.Now().UTC(), ProxyMode: "http",
		Ports: []oldsidecar.Port{{Type: "tcp", Port: 32000, ServicePort: 9090, IP: "127.23.8.8"}},
	}
}

// logger shows a test's log when it fails.
func logger(t *testing.T, who string) *slog.Logger {
	out := &untilEnd{w: t.Output()}
	t.Cleanup(func() {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.w = io.Discard
	})
	return slog.New(slog.NewTextHandler(out, nil)).With("who", who)
}

// untilEnd is the output of a test, which nobody may write to after its end: memberlist's
// goroutines end some time after it was shut down.
type untilEnd struct {
	mu sync.Mutex
	w  io.Writer
}

func (u *untilEnd) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.w.Write(b)
}

func TestServicesOfEachSideAreSeenOnTheOther(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 3), newOurs(t, "p1")
	peers[0].Set(service("a1"))
	o.set("p1", "b1", pancake.Alive)
	startBridge(t, o, "p0", peers[:1], false)
	eventually(t, "a service of theirs with us", o.is("o1", "a1", pancake.Alive))
	eventually(t, "a service of ours with all of them", is(peers, "p1", "b1", oldsidecar.ServiceAlive))

	theirs, _ := o.get("o1", "a1")
	if theirs.Name != "old-a1" || theirs.Image != "registry/old:1" || len(theirs.Ports) != 1 || theirs.Ports[0].ServicePort != 9090 {
		t.Errorf("their service is %+v with us", theirs)
	}
	mine, _ := peers[2].Get("p1", "b1")
	if mine.Name != "new-b1" || len(mine.Ports) != 1 || mine.Ports[0] != (oldsidecar.Port{Type: "tcp", Port: 31000, ServicePort: 8080, IP: "127.23.9.9"}) {
		t.Errorf("our service is %+v with them", mine)
	}

	t.Run("they outlive their lifespans", func(t *testing.T) {
		stays(t, "both services", 6*time.Second, func() bool {
			return o.is("o1", "a1", pancake.Alive)() && is(peers, "p1", "b1", oldsidecar.ServiceAlive)()
		})
	})
	t.Run("drain", func(t *testing.T) {
		peers[0].Drain("a1")
		o.set("p1", "b1", pancake.Draining)
		eventually(t, "their drain with us", o.is("o1", "a1", pancake.Draining))
		eventually(t, "our drain with them", is(peers, "p1", "b1", oldsidecar.ServiceDraining))
	})
	t.Run("sick", func(t *testing.T) {
		o.set("p1", "b2", pancake.Sick)
		eventually(t, "our sick service with them", is(peers, "p1", "b2", oldsidecar.ServiceSick))
	})
	t.Run("end", func(t *testing.T) {
		peers[0].Remove("a1")
		o.set("p1", "b1", pancake.Tombstone)
		eventually(t, "the end of theirs with us", o.is("o1", "a1", pancake.Tombstone))
		eventually(t, "the end of ours with them", is(peers, "p1", "b1", oldsidecar.ServiceTombstone))
	})
}

func TestDeathOfHosts(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 3), newOurs(t, "p1", "p2")
	peers[2].Set(service("a3"))
	peers[1].Set(service("a2"))
	o.set("p1", "b1", pancake.Alive)
	o.set("p2", "b2", pancake.Alive)
	startBridge(t, o, "p0", peers[:1], false)
	eventually(t, "all services everywhere", func() bool {
		return o.is("o3", "a3", pancake.Alive)() && o.is("o2", "a2", pancake.Alive)() &&
			is(peers, "p1", "b1", oldsidecar.ServiceAlive)() && is(peers, "p2", "b2", oldsidecar.ServiceAlive)()
	})
	peers[2].stop() // without a word
	o.kill("p1")
	eventually(t, "the end of the dead host's service with us", o.is("o3", "a3", pancake.Tombstone))
	eventually(t, "the end of our dead host's service with them", is(peers[:2], "p1", "b1", oldsidecar.ServiceTombstone))

	peers[1].Leave()
	eventually(t, "the end of the service of a host that left", o.is("o2", "a2", pancake.Tombstone))
	stays(t, "the other host's service", time.Second, is(peers[:1], "p2", "b2", oldsidecar.ServiceAlive))
}

// What one side wrongly believes of a host of the other is put right.
func TestTombstoneOfALivingServiceIsContradicted(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 2), newOurs(t, "p1")
	o.set("p1", "b1", pancake.Alive)
	startBridge(t, o, "p0", peers, false)
	eventually(t, "our service with them", is(peers, "p1", "b1", oldsidecar.ServiceAlive))

	// A Sidecar with the name of our host leaves: they end the services of p1.
	impostor := oldPeer(t, "p1", peers)
	eventually(t, "the other p1 to be a member", func() bool { return peers[0].Members()["p1"] == oldsidecar.Alive && len(impostor.Members()) > 2 })
	impostor.Leave()
	impostor.stop()
	eventually(t, "p1 to have left", func() bool { return peers[0].Members()["p1"] == oldsidecar.Left })
	eventually(t, "our service to be back", is(peers, "p1", "b1", oldsidecar.ServiceAlive))
	if s, ok := o.get("p1", "b1"); !ok || s.Status != pancake.Alive {
		t.Errorf("what they believed of our host reached us: %+v", s)
	}
}

func TestBridgeThatWasKilledLeavesNoGhosts(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 2), newOurs(t, "p1", "p2")
	peers[0].Set(service("a1"))
	peers[1].Set(service("a2"))
	o.set("p1", "b1", pancake.Alive)
	o.set("p1", "b2", pancake.Alive)
	o.set("p2", "b3", pancake.Alive)
	first := startBridge(t, o, "p0", peers[:1], true)
	eventually(t, "all services everywhere", func() bool {
		return o.is("o1", "a1", pancake.Alive)() && o.is("o2", "a2", pancake.Alive)() && is(peers, "p1", "b1", oldsidecar.ServiceAlive)() &&
			is(peers, "p1", "b2", oldsidecar.ServiceAlive)() && is(peers, "p2", "b3", oldsidecar.ServiceAlive)()
	})
	first.stop() // without a word
	peers[0].Remove("a1")
	peers[1].stop()
	o.set("p1", "b1", pancake.Tombstone)
	o.kill("p2")
	startBridge(t, o, "p0", peers[:1], true)
	eventually(t, "the end of what ended meanwhile", func() bool {
		return o.is("o1", "a1", pancake.Tombstone)() && o.is("o2", "a2", pancake.Tombstone)() &&
			is(peers[:1], "p1", "b1", oldsidecar.ServiceTombstone)() && is(peers[:1], "p2", "b3", oldsidecar.ServiceTombstone)()
	})
	eventually(t, "what lives to live on", is(peers[:1], "p1", "b2", oldsidecar.ServiceAlive))
}

func TestTwoBridgesOneMirrors(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 2), newOurs(t, "p1")
	peers[0].Set(service("a1"))
	o.set("p1", "b1", pancake.Alive)
	first, second := startBridge(t, o, "p0", peers, true), startBridge(t, o, "p1", peers, false)
	eventually(t, "one of two to mirror", func() bool {
		return first.Status().Leading && second.Status().Leader == "pancake-bridge-p0" && !second.Status().Leading
	})
	eventually(t, "both services everywhere", func() bool {
		return o.is("o1", "a1", pancake.Alive)() && is(peers, "p1", "b1", oldsidecar.ServiceAlive)()
	})
	first.stop() // without a word
	eventually(t, "the other to take over", func() bool { return second.Status().Leading })
	o.set("p1", "b2", pancake.Alive)
	peers[1].Set(service("a2"))
	eventually(t, "new services everywhere", func() bool {
		return o.is("o2", "a2", pancake.Alive)() && is(peers, "p1", "b2", oldsidecar.ServiceAlive)()
	})
	third := startBridge(t, o, "p0", peers, false)
	eventually(t, "the first to mirror again", func() bool { return third.Status().Leading && !second.Status().Leading })
	third.stop()
	eventually(t, "the hand-over", func() bool { return second.Status().Leading })
	if !o.is("o1", "a1", pancake.Alive)() || !is(peers, "p1", "b1", oldsidecar.ServiceAlive)() {
		t.Error("a service was lost on the way")
	}
}

// With two bridges and nothing that changes, only repetitions travel.
func TestNoLoops(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 2), newOurs(t, "p1")
	const each = 5
	for i := range each {
		peers[0].Set(service(fmt.Sprint("a", i)))
		o.set("p1", fmt.Sprint("b", i), pancake.Alive)
	}
	startBridge(t, o, "p0", peers, false)
	startBridge(t, o, "p1", peers, false)
	eventually(t, "all services everywhere", func() bool {
		for i := range each {
			if !o.is("o1", fmt.Sprint("a", i), pancake.Alive)() || !is(peers, "p1", fmt.Sprint("b", i), oldsidecar.ServiceAlive)() {
				return false
			}
		}
		return true
	})
	time.Sleep(2 * time.Second) // the repetitions of the first announcement
	before, acceptedBefore := o.count(), peers[1].Counts().Accepted
	const window = 5 * time.Second
	time.Sleep(window)
	// They repeat each service once a second, and the bridge looks at ours when it
	// has changed: twice a second here. Twice that is far from what a loop makes.
	if got, limit := o.count()-before, 2*each*int(window/time.Second); got > limit {
		t.Errorf("%d records came to us within %s, at most %d are repetitions", got, window, limit)
	}
	if got, limit := peers[1].Counts().Accepted-acceptedBefore, 2*(each+2*each)*int(window/time.Second); got > limit {
		t.Errorf("%d records were news to them within %s, at most %d are repetitions", got, window, limit)
	}
	for i := range each {
		if s, ok := peers[0].Get("o1", fmt.Sprint("a", i)); !ok || s.Status != oldsidecar.ServiceAlive {
			t.Errorf("their own service is %+v", s)
		}
	}
}

func TestOtherCluster(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 1), newOurs(t)
	peers[0].Set(service("a1"))
	cfg := bridge.Config{
		Ours: o.local(), Host: "p0", Cluster: "another", Seeds: []string{peers[0].Address()}, BindAddr: "127.23.0.2", BindPort: -1,
		Log: logger(t, "bridge"),
	}
	b, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, b.Run)
	eventually(t, "the Sidecar to refuse", func() bool { return peers[0].Counts().Refused > 0 })
	stays(t, "nothing", time.Second, func() bool { _, ok := o.get("o1", "a1"); return !ok && b.Ready() != nil })
}

func TestImport(t *testing.T) {
	t.Parallel()
	peers, o := old(t, 2), newOurs(t, "p1")
	peers[0].Set(service("a1"))
	peers[1].Set(service("a2"))
	o.set("p1", "b1", pancake.Alive)
	im, err := bridge.NewImporter(bridge.ImportConfig{
		Ours: o.local(), URLs: []string{"http://127.23.0.1:1", peers[0].URL()}, PollInterval: 500 * time.Millisecond, Log: logger(t, "import"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if im.Ready() == nil {
		t.Error("ready before anything was told")
	}
	run(t, im.Run)
	eventually(t, "their services with us", func() bool { return o.is("o1", "a1", pancake.Alive)() && o.is("o2", "a2", pancake.Alive)() })
	peers[0].Drain("a1")
	eventually(t, "their drain", o.is("o1", "a1", pancake.Draining))
	peers[0].Remove("a1")
	eventually(t, "their end", o.is("o1", "a1", pancake.Tombstone))
	peers[1].stop()
	eventually(t, "the end of a dead host's service", o.is("o2", "a2", pancake.Tombstone))
	if _, ok := peers[0].Get("p1", "b1"); ok {
		t.Error("an import wrote to the old side")
	}
}
