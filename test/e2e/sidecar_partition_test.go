//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

const (
	// partitionVariable is how long hosts are cut off from each other, such as 2m.
	partitionVariable = "PANCAKE_E2E_PARTITION"
	// shortPartition is long enough for each side to declare the other dead.
	shortPartition = 40 * time.Second
	// healWithin is how long the catalogues may differ afterwards.
	healWithin = 5 * time.Second
)

// partitionCase is one kind of trouble besides the partition.
type partitionCase struct {
	loss  float64       // of all packets
	delay time.Duration // of each packet
	ahead time.Duration // of the first host's clock
}

func TestSidecarsFindBackAfterAPartition(t *testing.T) {
	for _, tc := range []struct {
		name string
		partitionCase
	}{
		{"partition", partitionCase{}},
		{"partition, loss and delay", partitionCase{loss: 0.1, delay: 100 * time.Millisecond}},
		{"partition, a clock ahead", partitionCase{ahead: time.Hour}},
	} {
		t.Run(tc.name, func(t *testing.T) { testPartition(t, tc.partitionCase) })
	}
}

// testPartition cuts five hosts into two and three, starts and ends services on both
// sides, and heals the cut: then all catalogues have to be equal, and say what runs.
func testPartition(t *testing.T, tc partitionCase) {
	g := startGroup(t, 5, tc)
	g.converge(30*time.Second, "after the start")
	duration := shortPartition
	if text := os.Getenv(partitionVariable); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", partitionVariable, err)
		}
	}
	begin := time.Now()
	heal := cut(t, g.hosts[:2], g.hosts[2:])
	changes := 0
	for ; time.Since(begin) < duration-3*time.Second; changes++ {
		g.change(rand.IntN(len(g.hosts)))
		time.Sleep(400 * time.Millisecond)
	}
	time.Sleep(time.Until(begin.Add(duration))) // so that each side knows all of its own changes
	for i, n := range g.nodes {
		t.Logf("before healing: host %d counts %d living members and %d services", i+1, g.members(n), len(alive(g.state(n))))
	}
	heal()
	took := g.converge(time.Minute, "after healing")
	t.Logf("cut for %s, %d changes on both sides, %d services run, %d have ended: equal %s after healing",
		duration, changes, len(g.running()), len(g.ended), took.Round(10*time.Millisecond))
	if took > healWithin && os.Getenv(partitionVariable) != "" {
		t.Errorf("the catalogues were equal %s after healing, want %s", took, healWithin)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err := g.differs(); err != nil {
			t.Fatalf("they were equal, and then: %v", err)
		}
	}
}

// group are Sidecars on hosts of their own, and what is known to run on each.
type group struct {
	t     *testing.T
	hosts []host
	nodes []*client.Client
	files []string
	names [][]string // of the services that run, by host
	ended map[string]bool
	next  int
}

func startGroup(t *testing.T, n int, tc partitionCase) *group {
	t.Helper()
	g := &group{t: t, hosts: manyHosts(t, n), names: make([][]string, n), ended: map[string]bool{}}
	dir := t.TempDir()
	for i, h := range g.hosts {
		if tc.loss > 0 {
			h.lose(t, tc.loss, slices.DeleteFunc(slices.Clone(g.hosts), func(o host) bool { return o == h }))
		}
		g.files = append(g.files, filepath.Join(dir, h.name+".json"))
		for range 4 {
			g.add(i)
		}
		writeStatic(t, g.files[i], g.names[i])
		g.nodes = append(g.nodes, &client.Client{URL: "http://" + h.ip + ":7777", Timeout: 5 * time.Second})
	}
	for i, h := range g.hosts {
		seeds := []string{g.hosts[0].ip, g.hosts[n-1].ip}
		if tc.delay == 0 && tc.ahead == 0 {
			h.start(t, "sidecar", "--hostname", h.name, "--advertise", h.ip, "--seeds", seeds[0]+","+seeds[1], "--insecure",
				"--http", h.ip+":7777", "--discovery", "static", "--static-file", g.files[i])
			continue
		}
		node := sidecarNode{Hostname: h.name, IP: h.ip, Static: g.files[i], Seeds: seeds, Delay: tc.delay}
		if i == 0 {
			node.Ahead = tc.ahead
		}
		node.start(t, h)
	}
	return g
}

func (g *group) add(i int) {
	g.next++
	g.names[i] = append(g.names[i], fmt.Sprintf("service-%d-%d", i+1, g.next))
}

// change starts a service on a host, or ends one.
func (g *group) change(i int) {
	if n := len(g.names[i]); n > 2 && rand.IntN(2) == 0 {
		k := rand.IntN(n)
		g.ended[g.names[i][k]] = true
		g.names[i] = slices.Delete(g.names[i], k, k+1)
	} else {
		g.add(i)
	}
	writeStatic(g.t, g.files[i], g.names[i])
}

// running are the names of all services that run.
func (g *group) running() map[string]bool {
	out := map[string]bool{}
	for _, names := range g.names {
		for _, name := range names {
			out[name] = true
		}
	}
	return out
}

// state is a node's catalogue, nil when it does not answer.
func (g *group) state(n *client.Client) *client.State {
	s, err := n.State(g.t.Context())
	if err != nil {
		return nil
	}
	return s
}

func (g *group) members(n *client.Client) (count int) {
	members, err := n.Members(g.t.Context())
	if err != nil {
		return 0
	}
	for _, m := range members {
		if m.State == client.MemberAlive {
			count++
		}
	}
	return count
}

// alive are the names of the services that a catalogue has as such.
func alive(s *client.State) map[string]bool {
	out := map[string]bool{}
	if s == nil {
		return out
	}
	for _, h := range s.Servers {
		for _, svc := range h.Services {
			if svc.Status == pancake.Alive {
				out[svc.Name] = true
			}
		}
	}
	return out
}

// statuses is what a catalogue says of services that are not gone, without the times, that
// repetitions change. A host need not know of one that came and went behind its back.
func statuses(s *client.State) map[string]pancake.ServiceStatus {
	out := map[string]pancake.ServiceStatus{}
	for _, h := range s.Servers {
		for id, svc := range h.Services {
			if svc.Status == pancake.Tombstone {
				continue
			}
			out[h.Name+"/"+id+"/"+svc.Name] = svc.Status
		}
	}
	return out
}

var errResurrected = errors.New("a service has come back that had ended")

// differs says what is wrong with the catalogues, nil if they are equal and say what runs.
func (g *group) differs() error {
	want := g.running()
	var first map[string]pancake.ServiceStatus
	var wrong error
	for i, n := range g.nodes {
		s := g.state(n)
		if s == nil {
			return fmt.Errorf("host %d does not answer", i+1)
		}
		got := alive(s)
		for name := range got {
			if g.ended[name] {
				return fmt.Errorf("%w: %s on host %d", errResurrected, name, i+1)
			}
		}
		all := statuses(s)
		if first == nil {
			first = all
		}
		switch {
		case !maps.Equal(got, want):
			wrong = fmt.Errorf("host %d has %d services alive, want %d", i+1, len(got), len(want))
		case !maps.Equal(all, first):
			wrong = fmt.Errorf("host %d and host 1 have different records: %v and %v", i+1, all, first)
		}
	}
	return wrong
}

// converge waits until all catalogues are equal and right, and returns how long that took.
func (g *group) converge(limit time.Duration, when string) time.Duration {
	g.t.Helper()
	begin := time.Now()
	for {
		err := g.differs()
		if err == nil {
			return time.Since(begin)
		}
		if errors.Is(err, errResurrected) || time.Since(begin) > limit {
			g.t.Fatalf("%s, for %s: %v", when, time.Since(begin).Round(10*time.Millisecond), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
