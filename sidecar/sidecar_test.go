package sidecar_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// node is a Sidecar that runs in the test.
type node struct {
	t    *testing.T
	name string
	*client.Client
	SetGossipKeys func([][]byte) error
	stop          func()
}

// start runs a Sidecar on the loopback address ip until the test ends.
func start(t *testing.T, name, ip string, change func(*sidecar.Config)) *node {
	t.Helper()
	ln, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := sidecar.Config{
		Hostname: name, BindAddr: ip, BindPort: -1, Listener: ln, Agent: t.Name() + "/" + name,
		Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: level()})).With("node", name),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := sidecar.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Run returned %v", name, err)
		}
	})
	t.Cleanup(stop)
	ready, cancelReady := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancelReady()
	if err := s.Ready(ready); err != nil {
		t.Fatalf("%s is not ready: %v", name, err)
	}
	return &node{t: t, name: name, Client: &client.Client{URL: "http://" + ln.Addr().String()}, SetGossipKeys: s.SetGossipKeys, stop: stop}
}

// address is where the node's gossip listens.
func (n *node) address() string {
	n.t.Helper()
	var address string
	eventually(n.t, n.name+" has an address", func() bool {
		members, err := n.Members(n.t.Context())
		for _, m := range members {
			if m.Name == n.name {
				address = m.Address
			}
		}
		return err == nil && address != ""
	})
	return address
}

// cluster starts three Sidecars that know each other.
func cluster(t *testing.T) []*node {
	t.Helper()
	first := start(t, "n1", "127.0.0.1", nil)
	nodes := []*node{first}
	for i := 2; i <= 3; i++ {
		nodes = append(nodes, start(t, fmt.Sprintf("n%d", i), fmt.Sprintf("127.0.0.%d", i), func(c *sidecar.Config) {
			c.Seeds = []string{first.address()}
		}))
	}
	for _, n := range nodes {
		eventually(t, n.name+" knows three members", func() bool { return n.alive() == 3 })
	}
	return nodes
}

func (n *node) alive() (count int) {
	members, err := n.Members(n.t.Context())
	for _, m := range members {
		if err == nil && m.State == client.MemberAlive {
			count++
		}
	}
	return count
}

// find returns what the node knows of a service, nil for nothing.
func (n *node) find(host, id string) *pancake.Service {
	n.t.Helper()
	state, err := n.State(n.t.Context())
	if err != nil {
		n.t.Fatalf("%s: %v", n.name, err)
	}
	if s := state.Servers[host]; s != nil {
		return s.Services[id]
	}
	return nil
}

// all waits until every node has the service in that status.
func all(t *testing.T, nodes []*node, host, id string, want pancake.ServiceStatus) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s sees %s %s as %s", n.name, host, id, want), func() bool {
			s := n.find(host, id)
			return s != nil && s.Status == want
		})
	}
}

// routes fetches Traefik's configuration.
func (n *node) routes() string {
	resp, err := http.Get(n.URL + "/api/traefik")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	line, _ := bufio.NewReader(resp.Body).ReadString('\n') // one line without an end
	return line
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestClusterFollowsContainers(t *testing.T) {
	d := newDocker(t)
	nodes := cluster(t)
	labels := func(n int) map[string]string {
		return map[string]string{
			pancake.LabelAgent: fmt.Sprintf("%s/n%d", t.Name(), n), pancake.LabelServiceName: "hello", pancake.LabelServicePort + "8080": "10080",
			pancake.LabelTask: "task-1", pancake.LabelHealthCheck: "HttpGet", pancake.LabelHealthCheckArgs: "http://{{ host }}:{{ tcp 10080 }}/",
		}
	}
	one, two := d.run("127.0.0.1", labels(1)), d.run("127.0.0.2", labels(2))
	all(t, nodes, "n1", one, pancake.Alive)
	all(t, nodes, "n2", two, pancake.Alive)
	for _, n := range nodes {
		eventually(t, "the route has both servers", func() bool {
			r := n.routes()
			return strings.Contains(r, "hello.localhost") && strings.Contains(r, "http://127.0.0.1:") && strings.Contains(r, "http://127.0.0.2:")
		})
	}
	if s := nodes[2].find("n1", one); s.Task != "task-1" || len(s.Ports) != 1 || s.Ports[0].IP != "127.0.0.1" || s.Ports[0].ServicePort != 10080 {
		t.Errorf("n3 knows %+v", s)
	}

	if err := nodes[0].Drain(t.Context(), two); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("draining a service of another host: %v", err)
	}
	for range 2 { // the second time changes nothing
		if err := nodes[1].Drain(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		all(t, nodes, "n2", two, pancake.Draining)
	}
	eventually(t, "the drained server is out of the route", func() bool { return !strings.Contains(nodes[2].routes(), "127.0.0.2:") })

	d.kill(one)
	all(t, nodes, "n1", one, pancake.Tombstone)

	nodes[1].stop()
	rest := []*node{nodes[0], nodes[2]}
	all(t, rest, "n2", two, pancake.Tombstone)
	for _, n := range rest {
		eventually(t, n.name+" sees that n2 has left", func() bool {
			members, err := n.Members(t.Context())
			return err == nil && len(members) == 3 && members[1].State == client.MemberLeft
		})
	}
}

// TestRestartChangesNothingForOthers restarts one Sidecar of three without a
// goodbye, as an upgrade does, while another watches.
func TestRestartChangesNothingForOthers(t *testing.T) {
	d := newDocker(t)
	quiet := func(c *sidecar.Config) { c.Quiet = true }
	n1 := start(t, "n1", "127.0.0.1", quiet)
	address := n1.address()
	n2 := start(t, "n2", "127.0.0.2", func(c *sidecar.Config) { c.Seeds = []string{address} })
	labels := map[string]string{pancake.LabelAgent: t.Name() + "/n1", pancake.LabelServiceName: "hello"}
	serving, draining := d.run("127.0.0.1", labels), d.run("127.0.0.1", labels)
	all(t, []*node{n1, n2}, "n1", serving, pancake.Alive)
	all(t, []*node{n1, n2}, "n1", draining, pancake.Alive)
	if err := n1.Drain(t.Context(), draining); err != nil {
		t.Fatal(err)
	}
	all(t, []*node{n1, n2}, "n1", draining, pancake.Draining)

	seen := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		watched <- n2.Watch(ctx, func(s *client.State) error {
			services := s.Servers["n1"].Services
			seen <- fmt.Sprint(services[serving].Status, services[draining].Status)
			return nil
		})
	}()
	before := n2.find("n1", serving).Updated
	n1.stop()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	again := start(t, "n1", "127.0.0.1", func(c *sidecar.Config) {
		c.BindPort, _ = strconv.Atoi(port) // a port, as it was one before
		c.Seeds = []string{n2.address()}
	})
	eventually(t, "n2 hears of the service from the new Sidecar", func() bool {
		return n2.find("n1", serving).Updated.After(before)
	})
	all(t, []*node{again, n2}, "n1", draining, pancake.Draining)
	cancel()
	<-watched
	close(seen)
	for s := range seen {
		if want := fmt.Sprint(pancake.Alive, pancake.Draining); s != want {
			t.Errorf("n2 saw %s during the restart, want %s", s, want)
		}
	}
}

func TestAgentsShareAnEngine(t *testing.T) {
	d := newDocker(t)
	one := start(t, "one", "127.0.0.1", nil)
	two := start(t, "two", "127.0.0.2", nil)
	mine := d.run("127.0.0.1", map[string]string{pancake.LabelAgent: t.Name() + "/one", pancake.LabelHealthCheck: "Tcp"})
	unlabelled := d.run("127.0.0.1", nil)
	all(t, []*node{one}, "one", mine, pancake.Alive)
	foreign := start(t, "foreign", "127.0.0.3", func(c *sidecar.Config) { c.ForeignContainers = true })
	eventually(t, "the one that takes foreign containers has the unlabelled one", func() bool {
		return foreign.find("foreign", unlabelled) != nil
	})
	if one.find("one", unlabelled) != nil || two.find("two", mine) != nil || foreign.find("foreign", mine) != nil {
		t.Error("a Sidecar announces containers that are not its own")
	}
}

// TestDockersProxyDoesNotFool checks a container that listens to nothing:
// Docker accepts connections in its name.
func TestDockersProxyDoesNotFool(t *testing.T) {
	d := newDocker(t)
	n := start(t, "n1", "127.0.0.1", nil)
	labels := map[string]string{pancake.LabelAgent: t.Name() + "/n1", pancake.LabelHealthCheck: "Tcp"}
	deaf, well := d.run("127.0.0.1", labels, "LISTEN=no"), d.run("127.0.0.1", labels)
	all(t, []*node{n}, "n1", well, pancake.Alive)
	eventually(t, "the check says why it fails", func() bool {
		s := n.find("n1", deaf)
		return s != nil && s.Status == pancake.Sick && strings.Contains(s.Note, "nothing listens")
	})
}

// oldState is what a consumer of NinesStack Sidecar decodes.
type oldState struct {
	Servers map[string]struct {
		Name     string
		Services map[string]struct {
			ID, Name, Image, Hostname, ProxyMode string
			Created, Updated                     time.Time
			Status                               int
			Ports                                []struct {
				Type              string
				Port, ServicePort int64
				IP                string
			}
		}
		LastUpdated, LastChanged time.Time
	}
	LastChanged           time.Time
	ClusterName, Hostname string
}

func TestOldConsumersReadTheWatch(t *testing.T) {
	d := newDocker(t)
	n := start(t, "n1", "127.0.0.1", nil)
	resp, err := http.Get(n.URL + "/watch?by_service=false")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	documents := json.NewDecoder(resp.Body)
	var s oldState
	if err := documents.Decode(&s); err != nil || len(s.Servers) != 0 || s.Hostname != "n1" || s.ClusterName != "default" {
		t.Fatalf("first document %+v, %v", s, err)
	}
	id := d.run("127.0.0.1", map[string]string{pancake.LabelAgent: t.Name() + "/n1", pancake.LabelServiceName: "hello"})
	for s.Servers["n1"].Services[id].Status != 0 || s.Servers["n1"].Services[id].ID == "" {
		s = oldState{}
		if err := documents.Decode(&s); err != nil {
			t.Fatal(err)
		}
	}
	if svc := s.Servers["n1"].Services[id]; svc.Name != "hello" || svc.Hostname != "n1" || svc.Ports[0].Port == 0 || svc.ProxyMode != "http" || svc.Image != helloImage {
		t.Errorf("%+v", svc)
	}
}

// testLog writes a Sidecar's log into the test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil { // a test that has ended takes no more
		l.t.Log(string(b))
	}
	return len(b), nil
}

func level() slog.Level {
	if os.Getenv("PANCAKE_TEST_DEBUG") != "" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
