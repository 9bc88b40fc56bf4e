package oldsidecar_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/bridge"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/test/oldsidecar"
)

const staticServices = `[{"Service":{"Name":"new-web","Image":"registry/new:1","Ports":[{"Type":"tcp","Port":31000,"ServicePort":8080}],"ProxyMode":"http"},
	"Check":{"Type":"AlwaysSuccessful"}}]`

// realSidecar is a Pancake Sidecar.
type realSidecar struct {
	inner *sidecar.Sidecar
	*client.Client
	*runner
	t *testing.T
}

func pancakeSidecar(t *testing.T, name string, change func(*sidecar.Config)) *realSidecar {
	t.Helper()
	ln, err := net.Listen("tcp", "127.23.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := sidecar.Config{Hostname: name, BindAddr: "127.23.0.3", BindPort: -1, Listener: ln, Quiet: true, Log: logger(t, name)}
	change(&cfg)
	s, err := sidecar.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &realSidecar{s, &client.Client{URL: "http://" + ln.Addr().String()}, run(t, s.Run), t}
}

// status is what the Sidecar says of a service of a host, found by its name.
func (s *realSidecar) status(host, name string) (id string, status pancake.ServiceStatus, ok bool) {
	state, err := s.State(s.t.Context())
	if err != nil || state.Servers[host] == nil {
		return "", 0, false
	}
	for _, svc := range state.Servers[host].Services {
		if svc.Name == name {
			return svc.ID, svc.Status, true
		}
	}
	return "", 0, false
}

func (s *realSidecar) has(host, name string, want pancake.ServiceStatus) func() bool {
	return func() bool {
		_, status, ok := s.status(host, name)
		return ok && status == want
	}
}

// Two Sidecars of ours over their real gossip, one with the bridge, and two of
// theirs: what happens on one side is seen on all hosts of the other.
func TestWithRealSidecars(t *testing.T) {
	t.Parallel()
	peers := old(t, 2)
	first := pancakeSidecar(t, "p0", func(c *sidecar.Config) { c.Passive = true })
	var seed string
	eventually(t, "the first Sidecar", func() bool {
		members, err := first.Members(t.Context())
		if err == nil && len(members) == 1 {
			seed = members[0].Address
		}
		return seed != ""
	})
	file := filepath.Join(t.TempDir(), "static.json")
	if err := os.WriteFile(file, []byte(staticServices), 0o600); err != nil {
		t.Fatal(err)
	}
	second := pancakeSidecar(t, "p1", func(c *sidecar.Config) {
		c.Seeds, c.Discovery, c.StaticFile = []string{seed}, []sidecar.Method{sidecar.ByStatic}, file
	})
	b, err := bridge.New(bridge.Config{
		Ours: first.inner.Ours(), Host: "p0", Cluster: "bench", Seeds: []string{peers[0].Address()}, BindAddr: "127.23.0.2", BindPort: -1,
		PushPull: 500 * time.Millisecond, Refresh: time.Second, Log: logger(t, "bridge"), Metrics: first.inner.Metrics(),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, b.Run)
	peers[1].Set(service("a1"))
	eventually(t, "a service of theirs with us", second.has("o2", "old-a1", pancake.Alive))
	eventually(t, "our own service", second.has("p1", "new-web", pancake.Alive))
	id, _, _ := second.status("p1", "new-web")
	eventually(t, "a service of ours with them", is(peers, "p1", id, oldsidecar.ServiceAlive))

	stays(t, "both, though theirs forget within 4 s", 6*time.Second, func() bool {
		return second.has("o2", "old-a1", pancake.Alive)() && is(peers, "p1", id, oldsidecar.ServiceAlive)()
	})
	peers[1].Drain("a1")
	if err := second.Drain(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "their drain with us", second.has("o2", "old-a1", pancake.Draining))
	eventually(t, "our drain with them", is(peers, "p1", id, oldsidecar.ServiceDraining))
	peers[1].Remove("a1")
	eventually(t, "their end with us", second.has("o2", "old-a1", pancake.Tombstone))

	peers[1].Set(service("a2"))
	eventually(t, "another service of theirs", second.has("o2", "old-a2", pancake.Alive))
	peers[1].stop()
	eventually(t, "the end of a dead host's service", second.has("o2", "old-a2", pancake.Tombstone))
	second.stop()
	eventually(t, "the end of our dead host's service", is(peers[:1], "p1", id, oldsidecar.ServiceTombstone))
}
