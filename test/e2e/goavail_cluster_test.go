//go:build e2e

package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail/client"
)

const (
	gaPlaces  = 5
	gaTargets = 4
	gaZone    = "example.test"
	gaName    = "www." + gaZone
	gaToken   = "token-of-the-suite"
	gaPort    = 8081 // of targets and canaries
)

// gaLimit is how long anything may take that is waited for.
const gaLimit = 45 * time.Second

// gaOutage is how long the provider is out of order: PANCAKE_GOAVAIL_OUTAGE, or 10 s.
func gaOutage(t *testing.T) time.Duration {
	text := cmp.Or(os.Getenv("PANCAKE_GOAVAIL_OUTAGE"), "10s")
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("PANCAKE_GOAVAIL_OUTAGE: %v", err)
	}
	return d
}

// gaNet is a network with a host for each place. The machine itself has the address 254;
// there are the provider, the targets (101 and up) and the canaries (201 and up). The
// switch between them is in a namespace of its own, where no firewall of Docker's is.
type gaNet struct {
	hub, link, prefix string
	hosts             []host
}

func newGoavailNet(t *testing.T) *gaNet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	id := fmt.Sprintf("gav%x", os.Getpid()&0xffff)
	n := &gaNet{hub: id + "-hub", link: id + "m", prefix: fmt.Sprintf("10.132.%d.", os.Getpid()%250+1)}
	t.Cleanup(func() {
		_, _, _ = runCommand(t, "", []string{"ip", "link", "del", n.link})
		for _, h := range append(n.hosts, host{name: n.hub}) {
			_, _, _ = runCommand(t, "", []string{"ip", "netns", "del", h.name}) // the other links go with it
		}
	})
	ip(t, "netns", "add", n.hub)
	ip(t, "-n", n.hub, "link", "add", "switch", "type", "bridge")
	ip(t, "-n", n.hub, "link", "set", "switch", "up")
	ip(t, "link", "add", n.link, "type", "veth", "peer", "name", "machine", "netns", n.hub)
	ip(t, "-n", n.hub, "link", "set", "machine", "master", "switch", "up")
	for _, last := range []int{254, 101, 102, 103, 104, 201, 202} {
		ip(t, "addr", "add", fmt.Sprintf("%s%d/24", n.prefix, last), "dev", n.link)
	}
	ip(t, "link", "set", n.link, "up")
	for i := range gaPlaces {
		h := host{name: fmt.Sprintf("%s-%d", id, i+1), link: "eth0", ip: fmt.Sprintf("%s%d", n.prefix, i+1)}
		port := fmt.Sprintf("port%d", i+1)
		n.hosts = append(n.hosts, h)
		ip(t, "netns", "add", h.name)
		ip(t, "link", "add", h.link, "netns", h.name, "type", "veth", "peer", "name", port, "netns", n.hub)
		ip(t, "-n", n.hub, "link", "set", port, "master", "switch", "up")
		ip(t, "-n", h.name, "link", "set", "lo", "up")
		ip(t, "-n", h.name, "addr", "add", h.ip+"/24", "dev", h.link)
		ip(t, "-n", h.name, "link", "set", h.link, "up")
	}
	return n
}

// cut makes the host drop all packets to addresses that end in these numbers; mend undoes it.
func (n *gaNet) cut(t *testing.T, place int, last ...int) {
	for _, l := range last {
		ip(t, "-n", n.hosts[place].name, "route", "add", "blackhole", fmt.Sprintf("%s%d/32", n.prefix, l))
	}
}

func (n *gaNet) mend(t *testing.T) {
	for _, h := range n.hosts {
		ip(t, "-n", h.name, "route", "flush", "type", "blackhole")
	}
}

// gaTarget is an HTTP server that can die.
type gaTarget struct {
	addr string
	mu   sync.Mutex
	srv  *http.Server
}

func newGoavailTarget(t *testing.T, addr string) *gaTarget {
	t.Helper()
	g := &gaTarget{addr: addr}
	g.up(t)
	t.Cleanup(g.down)
	return g
}

func (g *gaTarget) up(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.srv != nil {
		return
	}
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	g.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "fine") })}
	go func(s *http.Server) { _ = s.Serve(ln) }(g.srv) // ends with Close
}

func (g *gaTarget) down() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.srv != nil {
		_ = g.srv.Close()
		g.srv = nil
	}
}

// gaProvider holds the records in a suite.
type gaProvider struct {
	name string
	yaml string   // of the key provider
	env  []string // credentials
	dns  string   // where its zone is answered, host:port
	// fail breaks it in one way after another for a while, and calls during when it is broken.
	fail func(t *testing.T, outage time.Duration) (mend func())
	// evidence looks at the provider's own log for what must never happen.
	evidence func(c *gaCluster) []string
}

// gaBan is a time in which a place must not write.
type gaBan struct {
	place       int
	from, until time.Time
}

// gaCluster is five agents, four targets, and a provider.
type gaCluster struct {
	t        *testing.T
	net      *gaNet
	provider *gaProvider
	dir      string
	targets  []*gaTarget
	agents   []*process // by place; nil is stopped
	banned   []gaBan
	watch    *gaWatch
	rows     [][]string
	took     time.Duration // of the last change that was waited for
}

func gaPlace(i int) string { return "p" + fmt.Sprint(i+1) }

func (c *gaCluster) value(i int) string { return fmt.Sprintf("%s%d", c.net.prefix, 101+i) }

func startGoavail(t *testing.T, n *gaNet, p *gaProvider) *gaCluster {
	t.Helper()
	c := &gaCluster{t: t, net: n, provider: p, dir: t.TempDir(), agents: make([]*process, gaPlaces)}
	for i := range gaTargets {
		c.targets = append(c.targets, newGoavailTarget(t, fmt.Sprintf("%s:%d", c.value(i), gaPort)))
	}
	for i := range 2 {
		newGoavailTarget(t, fmt.Sprintf("%s%d:%d", n.prefix, 201+i, gaPort))
	}
	must(t, c.dir, "goavail", "keygen", filepath.Join(c.dir, "gossip.key"))
	c.write("token", gaToken)
	c.write("goavail.yml", c.config())
	for i := range gaPlaces {
		c.start(i)
	}
	c.watch = watchDNS(t, p.dns)
	return c
}

func (c *gaCluster) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *gaCluster) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster: suite\nplaces:\n")
	for i, h := range c.net.hosts {
		fmt.Fprintf(&b, "  - {name: %s, region: r%d, provider: test, address: \"%s:7951\"}\n", gaPlace(i), i, h.ip)
	}
	fmt.Fprintf(&b, "gossip: {key_file: %s}\n", filepath.Join(c.dir, "gossip.key"))
	fmt.Fprintf(&b, "provider: %s\n", c.provider.yaml)
	fmt.Fprintf(&b, "check: {kind: http, port: %d, interval: 500ms, timeout: 500ms, recheck: 200ms, fall: 3, rise: 2}\ntargets:\n", gaPort)
	for i := range gaTargets {
		fmt.Fprintf(&b, "  - {name: t%d, address: %s}\n", i+1, c.value(i))
	}
	fmt.Fprintf(&b, "canaries:\n  - {name: c1, address: %[1]s201}\n  - {name: c2, address: %[1]s202}\n", c.net.prefix)
	fmt.Fprintf(&b, "records:\n  - {name: %s, ttl: 60s, min_healthy: 1, targets: [t1, t2, t3, t4]}\n", gaName)
	b.WriteString(`safety: {panic_window: 3s, changes_per_hour: 1000, breaker_percent: 75}
timing: {vote_every: 500ms, vote_ttl: 5s, read_every: 5s, lease: 3s, retry_min: 300ms, retry_max: 2s}
`)
	fmt.Fprintf(&b, "resolvers: [\"%s\"]\n", c.provider.dns)
	return b.String()
}

// start runs the agent of a place.
func (c *gaCluster) start(i int) { c.startWith(i, "gossip.key") }

// startWith is start with another key for gossip, in a file of the folder.
func (c *gaCluster) startWith(i int, key string) {
	c.t.Helper()
	dir := filepath.Join(c.dir, gaPlace(i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	h := c.net.hosts[i]
	text, err := os.ReadFile(filepath.Join(c.dir, "goavail.yml"))
	if err != nil {
		c.t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "gossip.key", key, 1))
	name := gaPlace(i) + ".yml"
	c.write(name, string(text)+fmt.Sprintf("data_dir: %s\napi: {listen: \"%s:7950\", token_file: %s, plain_http: true}\n", dir, h.ip, filepath.Join(c.dir, "token")))
	args := append([]string{"env"}, c.provider.env...)
	line := []string{binary(c.t, "pancake"), "goavail", "run", "-f", filepath.Join(c.dir, name), "--place", gaPlace(i)}
	if h.name != "" { // else it is this machine
		line = h.on(line...)
	}
	args = append(args, line...)
	c.agents[i] = startProgram(c.t, args[0], args[1:]...)
}

func (c *gaCluster) stop(i int) {
	c.agents[i].stop(syscall.SIGTERM)
	c.agents[i] = nil
}

func (c *gaCluster) client(i int) *client.Client {
	return &client.Client{URL: "http://" + c.net.hosts[i].ip + ":7950", Token: gaToken, Timeout: 5 * time.Second}
}

// status asks a place, and fails if it does not answer.
func (c *gaCluster) status(i int) (client.Status, error) {
	return c.client(i).Status(c.t.Context(), false)
}

// writer waits until a majority of the places that are up name the same writer, which does
// too, and returns its index.
func (c *gaCluster) writer(among ...int) int {
	c.t.Helper()
	found := -1
	eventually(c.t, gaLimit, "a writer", func() error {
		for _, i := range among {
			s, err := c.status(i)
			if err == nil && s.Writer.Me && !s.Provider.Read.IsZero() {
				found = i
				return nil
			}
		}
		return errors.New("nobody writes")
	})
	return found
}

// answers waits until DNS answers with exactly these targets, and returns how long it took.
func (c *gaCluster) answers(targets ...int) time.Duration {
	c.t.Helper()
	var want []string
	for _, i := range targets {
		want = append(want, c.value(i))
	}
	slices.Sort(want)
	begin := time.Now()
	eventually(c.t, gaLimit, fmt.Sprintf("%s to be %v", gaName, want), func() error {
		if got := c.watch.now(); !slices.Equal(got, want) {
			return fmt.Errorf("DNS answers %v", got)
		}
		return nil
	})
	return time.Since(begin)
}

// stays makes sure that DNS goes on answering with exactly these targets for a while.
func (c *gaCluster) stays(length time.Duration, targets ...int) {
	c.t.Helper()
	var want []string
	for _, i := range targets {
		want = append(want, c.value(i))
	}
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got := c.watch.now(); !slices.Equal(got, want) {
			c.t.Fatalf("DNS answers %v instead of %v", got, want)
		}
	}
}

// pardon forgets the falls of a target, so that steps do not depend on each other.
func (c *gaCluster) pardon(targets ...int) {
	c.t.Helper()
	for _, i := range targets {
		eventually(c.t, gaLimit, "an order to be taken", func() error {
			_, err := c.client(0).Restore(c.t.Context(), client.Request{About: fmt.Sprintf("t%d", i+1), By: "suite"})
			return err
		})
	}
}

// history is what a place knows of all that happened.
func (c *gaCluster) history(i int) []client.Entry {
	c.t.Helper()
	var out []client.Entry
	eventually(c.t, gaLimit, "the history", func() (err error) {
		out, err = c.client(i).History(c.t.Context(), 0)
		return err
	})
	return out
}

// changes are the entries that changed records, or tried to, since a time.
func (c *gaCluster) changes(i int, since time.Time) []client.Entry {
	return slices.DeleteFunc(c.history(i), func(e client.Entry) bool { return e.Kind != client.KindChange || e.At.Before(since) })
}

// row adds a line to the table of what happened.
func (c *gaCluster) row(step, what string, took time.Duration) {
	c.rows = append(c.rows, []string{step, what, took.Round(10 * time.Millisecond).String()})
}
