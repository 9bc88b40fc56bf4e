//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake/goavail/client"
)

// gsPlaces is how many agents follow the platform.
const gsPlaces = 3

// gsNode is a machine of the platform: a Sidecar that announces an ingress, and the
// ingress itself.
type gsNode struct {
	t       *testing.T
	c       *gaCluster
	name    string
	ip      string
	file    string
	seed    string
	number  int // of the ingress that runs, in its id
	sidecar *process
	ingress *gaTarget
}

func (n *gsNode) id() string { return fmt.Sprintf("ingress-%s-%d", n.name, n.number) }

// newNode makes the node of target i of the cluster. Nothing of it runs yet.
func (c *gaCluster) newNode(i int) *gsNode {
	n := &gsNode{t: c.t, c: c, name: fmt.Sprintf("n%d", i+1), ip: c.value(i), seed: c.value(0), number: 1}
	n.file = filepath.Join(c.dir, n.name+".json")
	n.ingress = &gaTarget{addr: fmt.Sprintf("%s:%d", n.ip, gaPort)}
	c.t.Cleanup(n.ingress.down)
	return n
}

// announce writes what the Sidecar announces: an ingress, whose health it checks.
func (n *gsNode) announce() {
	n.t.Helper()
	text := fmt.Sprintf(`[{
	"Service": {"ID": %q, "Name": "ingress", "Image": "example/ingress:1", "ProxyMode": "http",
		"Ports": [{"Type": "tcp", "Port": %d, "ServicePort": 80}]},
	"Check": {"Type": "HttpGet", "Args": "http://%s:%[2]d/"}
}]`, n.id(), gaPort, n.ip)
	n.c.write(n.name+".next", text)
	if err := os.Rename(filepath.Join(n.c.dir, n.name+".next"), n.file); err != nil {
		n.t.Fatal(err)
	}
}

func (n *gsNode) startSidecar() {
	n.t.Helper()
	n.sidecar = start(n.t, "sidecar", "--hostname", n.name, "--advertise", n.ip, "--seeds", n.seed, "--insecure",
		"--http", n.ip+":7777", "--discovery", "static", "--static-file", n.file, "--check-interval", "500ms")
}

func (n *gsNode) start() {
	n.t.Helper()
	n.announce()
	n.startSidecar()
	n.ingress.up(n.t)
}

// drain has the platform take the ingress out of traffic.
func (n *gsNode) drain() {
	n.t.Helper()
	must(n.t, n.c.dir, "sidecar", "drain", n.id(), "--sidecar", "http://"+n.ip+":7777")
}

// serves fails unless the ingress still takes requests.
func (n *gsNode) serves() {
	n.t.Helper()
	resp, err := http.Get("http://" + n.ingress.addr)
	if err != nil {
		n.t.Fatalf("the ingress of %s is gone before DNS knows: %v", n.name, err)
	}
	resp.Body.Close()
}

// startSource runs BIND and as many agents as places, whose only target is from the platform.
func startSource(t *testing.T, places int, from func(*gaCluster) string) *gaCluster {
	t.Helper()
	n := newGoavailNet(t)
	p := bindProvider(t, n)
	c := &gaCluster{t: t, net: n, provider: p, dir: t.TempDir(), agents: make([]*process, gaPlaces)}
	must(t, c.dir, "goavail", "keygen", filepath.Join(c.dir, "gossip.key"))
	c.write("token", gaToken)
	text := "cluster: source\nplaces:\n"
	for i, h := range n.hosts[:places] {
		text += fmt.Sprintf("  - {name: %s, region: r%d, provider: test, address: \"%s:7951\"}\n", gaPlace(i), i, h.ip)
	}
	listen := "0.0.0.0:7951"
	if places == 1 {
		listen = "127.63.6.1:7951" // there is nobody to talk to
	}
	text += fmt.Sprintf(`gossip: {key_file: %s, listen: "%s"}
provider: %s
check: {kind: http, interval: 500ms, timeout: 500ms, recheck: 200ms, fall: 3, rise: 2}
targets:
  - name: ingress
    from: %s
records:
  - {name: %s, ttl: 60s, targets: [ingress]}
safety: {panic_window: 3s, changes_per_hour: 1000, breaker_percent: 100, damping: {off: true}}
timing: {vote_every: 500ms, vote_ttl: 5s, read_every: 5s, lease: 3s, retry_min: 300ms, retry_max: 2s}
dry_run: false
`, filepath.Join(c.dir, "gossip.key"), listen, p.yaml, from(c), gaName)
	c.write("goavail.yml", text)
	c.watch = watchDNS(t, p.dns)
	return c
}

// because waits until the history of place 0 says that a node left by this rule.
func (c *gaCluster) because(n *gsNode, rule string, since time.Time) {
	c.t.Helper()
	eventually(c.t, gaLimit, n.name+" to be out by "+rule, func() error {
		changes := c.changes(0, since)
		for _, e := range changes {
			if slices.ContainsFunc(e.Moves, func(m client.Move) bool { return m.Value == n.ip && !m.In && m.Rule == rule }) {
				return nil
			}
		}
		return fmt.Errorf("changes: %+v", changes)
	})
}

// TestGoavailSource lets agents take their targets from Sidecars, all of them processes,
// while nodes come, are drained and are lost, and Sidecars die.
func TestGoavailSource(t *testing.T) {
	c := startSource(t, gsPlaces, func(c *gaCluster) string {
		return fmt.Sprintf("{sidecar: \"http://%s:7777\", service: ingress, service_port: 80}", c.value(0))
	})
	one, two, three := c.newNode(0), c.newNode(1), c.newNode(2)
	for i := range gsPlaces {
		c.start(i)
	}
	c.agents[0].waitFor("waits for the platform") // which does not run yet
	one.start()
	two.start()
	c.answers(0, 1)
	c.watch.arm()

	t.Log("a node that the platform has, and that does not answer, does not enter DNS")
	three.announce()
	three.startSidecar()
	eventually(t, gaLimit, "the new node to be a target that is down", func() error { return c.target(0, three, "down") })
	c.stays(2*time.Second, 0, 1)
	three.ingress.up(t)
	c.answers(0, 1, 2)

	t.Log("a node that is drained leaves DNS, and ends after that")
	since := time.Now()
	two.drain()
	c.answers(0, 2)
	two.serves()
	c.because(two, "out", since)
	two.ingress.down()
	c.stays(time.Second, 0, 2)
	two.number++ // the next one that runs there
	two.announce()
	two.ingress.up(t)
	c.answers(0, 1, 2)

	t.Log("the Sidecar that is asked dies: what it said last stays, and the probes decide")
	one.sidecar.stop(syscall.SIGKILL)
	c.stays(4*time.Second, 0, 1, 2)
	since = time.Now()
	three.ingress.down()
	c.answers(0, 1)
	c.because(three, "down", since)
	three.ingress.up(t)
	c.answers(0, 1, 2)
	c.stop(1) // a restart without the platform
	c.start(1)
	eventually(t, gaLimit, "the restarted agent to know the nodes", func() error {
		return errors.Join(c.target(1, one, "up"), c.target(1, two, "up"), c.target(1, three, "up"))
	})
	c.stays(time.Second, 0, 1, 2)

	t.Log("it comes back, at first without knowing anybody, and all goes on")
	one.seed = two.ip
	one.startSidecar()
	c.stays(4*time.Second, 0, 1, 2)
	since = time.Now()
	three.drain()
	c.answers(0, 1)
	three.serves()
	c.because(three, "out", since)
	if least := c.watch.fewest(); least < 2 {
		t.Errorf("at some time DNS answered with %d records", least)
	}
	t.Logf("%d answers of DNS, none with fewer than %d records", c.watch.queries.Load(), c.watch.fewest())
}

// target fails unless a place says this of the target that a node is.
func (c *gaCluster) target(place int, n *gsNode, verdict string) error {
	s, err := c.status(place)
	if err != nil {
		return err
	}
	for _, t := range s.Targets {
		if t.Name != "ingress/"+n.name {
			continue
		}
		if t.Verdict != verdict {
			return fmt.Errorf("%s is %s", t.Name, t.Verdict)
		}
		return nil
	}
	return fmt.Errorf("%s knows no target of %s", gaPlace(place), n.name)
}

// TestGoavailSourceEtcd is TestGoavailSource with the nodes in an etcd.
func TestGoavailSourceEtcd(t *testing.T) {
	store := ""
	c := startSource(t, 1, func(c *gaCluster) string {
		store = startEtcd(t, filepath.Join(c.dir, "etcd"))
		return fmt.Sprintf("{etcd: [\"http://%s\"], prefix: /ingress/}", store)
	})
	here := *c.net
	here.hosts = []host{{ip: c.net.prefix + "254"}} // the agent runs where etcd does
	c.net = &here
	db, err := clientv3.New(clientv3.Config{Endpoints: []string{store}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // nothing is lost
	put := func(n *gsNode, drain bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := db.Put(ctx, "/ingress/"+n.name, fmt.Sprintf(`{"address": %q, "port": %d, "drain": %t}`, n.ip, gaPort, drain)); err != nil {
			t.Fatal(err)
		}
	}
	one, two := c.newNode(0), c.newNode(1)
	one.ingress.up(t)
	put(one, false)
	c.start(0)
	c.answers(0)
	c.watch.arm()
	put(two, false)
	c.stays(time.Second, 0) // it does not answer yet
	two.ingress.up(t)
	c.answers(0, 1)
	put(one, true)
	c.answers(1)
	one.serves()
	if least := c.watch.fewest(); least < 1 {
		t.Errorf("at some time DNS answered with %d records", least)
	}
}
