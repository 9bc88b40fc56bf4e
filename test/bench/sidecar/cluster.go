package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// node is one Sidecar of a cluster that runs in this process.
type node struct {
	*sidecar.Sidecar
	name, ip, url string
	engine        *engine
	stop          func()
	ended         error // how Run did; set when stop has returned
}

// cluster are Sidecars in this process, each with an address of its own on loopback.
type cluster struct {
	nodes []*node
	wire  *wire
	// backend answers the checks of services.
	backend *http.Server
	checked string // its URL
	gone    atomic.Int64
	next    int
	started time.Duration // until all nodes knew everything
}

// shape says what a cluster is like.
type shape struct {
	nodes, services int // services are those of each node
	loss            float64
	real            discover.Engine // instead of one for each node
}

func (s shape) String() string {
	return fmt.Sprintf("%d nodes, %g %% loss", s.nodes, 100*s.loss)
}

// settleWithin bounds the start of a cluster.
const settleWithin = 90 * time.Second

// batch is how many nodes start at a time: all of them at once are more than the
// processors of one machine bear.
const batch = 20

// startCluster returns when all nodes know all services of all nodes.
func startCluster(ctx context.Context, s shape) (*cluster, error) {
	c := &cluster{wire: newWire(s.loss)}
	if err := c.serveChecks(ctx); err != nil {
		return nil, err
	}
	begin := time.Now()
	for len(c.nodes) < s.nodes {
		for range min(batch, s.nodes-len(c.nodes)) {
			if err := c.add(len(c.nodes), s); err != nil {
				return nil, errors.Join(err, c.close())
			}
		}
		if err := c.settle(ctx, s); err != nil {
			return nil, errors.Join(fmt.Errorf("start of %s: %w; %s", s, err, c.census(s)), c.close())
		}
	}
	c.started = time.Since(begin)
	return c, nil
}

// settle returns when all nodes that have been started know each other and all services.
func (c *cluster) settle(ctx context.Context, s shape) error {
	if err := c.untilMembers(ctx, settleWithin, c.nodes, len(c.nodes)); err != nil {
		return err
	}
	return c.until(ctx, settleWithin, c.nodes, func(snap *catalog.Snapshot) bool {
		return count(snap, pancake.Alive) == len(c.nodes)*s.services
	})
}

// census says how far a start has come.
func (c *cluster) census(s shape) string {
	var members, services []int
	for _, n := range c.nodes {
		snap, _ := n.Catalog()
		members, services = append(members, alive(n.Members())), append(services, count(snap, pancake.Alive))
	}
	return fmt.Sprintf("of %d members the nodes know %d to %d, of %d services %d to %d", s.nodes, slices.Min(members), slices.Max(members),
		s.nodes*s.services, slices.Min(services), slices.Max(services))
}

func count(snap *catalog.Snapshot, status pancake.ServiceStatus) (n int) {
	for _, h := range snap.Hosts {
		for _, svc := range h.Services {
			if svc.Status == status {
				n++
			}
		}
	}
	return n
}

func (c *cluster) serveChecks(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.24.0.1:0")
	if err != nil {
		return err
	}
	c.checked = "http://" + ln.Addr().String() + "/"
	c.backend = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}), ReadHeaderTimeout: time.Minute}
	go func() { _ = c.backend.Serve(ln) }() // ends with Close
	return nil
}

func nodeIP(i int) string { return fmt.Sprintf("127.24.%d.%d", 1+i/250, 1+i%250) }

func (c *cluster) add(i int, s shape) error {
	var seeds []string
	for _, n := range c.nodes[:min(i, 3)] {
		seeds = append(seeds, fmt.Sprintf("%s:%d", n.ip, port))
	}
	return c.addAs(i, s, seeds...)
}

// addAs starts node number i.
func (c *cluster) addAs(i int, s shape, seeds ...string) error {
	n := &node{name: fmt.Sprintf("bench-%03d", i), ip: nodeIP(i), engine: newEngine()}
	for k := range s.services { // those that it has all the time
		n.engine.run(fmt.Sprintf("%06x%06x", i+1, k), fmt.Sprintf("service-%d", k), "AlwaysSuccessful", "", uint16(31000+k%30000))
	}
	ln, err := net.Listen("tcp", n.ip+":0")
	if err != nil {
		return err
	}
	n.url = "http://" + ln.Addr().String()
	t, err := c.wire.attach(n.ip)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	cfg := sidecar.Config{
		Hostname: n.name, AdvertiseIP: n.ip, BindAddr: n.ip, BindPort: port, Listener: ln, Engine: n.engine, ForeignContainers: true,
		ClusterName: "bench", Seeds: seeds, Transport: t, Quiet: true, Log: slog.New(&goneCounter{n: &c.gone}),
	}
	if s.real != nil {
		cfg.Engine, cfg.ForeignContainers, cfg.Agent = s.real, false, n.name
	}
	if n.Sidecar, err = sidecar.New(cfg); err != nil {
		return errors.Join(err, ln.Close(), t.Shutdown())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.ended = n.Run(ctx)
	}()
	n.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	c.nodes = append(c.nodes, n)
	return nil
}

func (c *cluster) close() error {
	var wait sync.WaitGroup
	for _, n := range c.nodes {
		wait.Go(n.stop)
	}
	wait.Wait()
	var failed error
	for _, n := range c.nodes {
		if !errors.Is(n.ended, context.Canceled) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", n.name, n.ended))
		}
	}
	return errors.Join(failed, c.backend.Close())
}

// any picks a node.
func (c *cluster) any() *node { return c.nodes[rand.IntN(len(c.nodes))] }

// id makes up a container's, which no other has.
func (c *cluster) id() string {
	c.next++
	return fmt.Sprintf("ffff%08x%052x", c.next, 0)
}

// until returns when a condition holds on all nodes.
func (c *cluster) until(ctx context.Context, limit time.Duration, nodes []*node, ok func(*catalog.Snapshot) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		group.Go(func() error {
			for {
				snap, changed := n.Catalog()
				if ok(snap) {
					return nil
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return fmt.Errorf("%s: %w", n.name, context.Cause(ctx))
				}
			}
		})
	}
	return group.Wait()
}

// untilStatus is until all nodes have a service of a host in a status.
func (c *cluster) untilStatus(ctx context.Context, host, id string, want ...pancake.ServiceStatus) error {
	return c.until(ctx, time.Minute, c.nodes, func(snap *catalog.Snapshot) bool {
		h := snap.Hosts[host]
		if h == nil || h.Services[id] == nil {
			return false
		}
		return len(want) == 0 || slices.Contains(want, h.Services[id].Status)
	})
}

// untilMembers returns when all nodes count that many living members.
func (c *cluster) untilMembers(ctx context.Context, limit time.Duration, nodes []*node, want int) error {
	deadline := time.Now().Add(limit)
	for _, n := range nodes {
		for alive(n.Members()) != want {
			if time.Now().After(deadline) {
				return fmt.Errorf("%s has %d members after %s, want %d", n.name, alive(n.Members()), limit, want)
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func alive(members []client.Member) (n int) {
	for _, m := range members {
		if m.State == client.MemberAlive {
			n++
		}
	}
	return n
}

// goneCounter counts what the nodes log of members that die.
type goneCounter struct{ n *atomic.Int64 }

func (g *goneCounter) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (g *goneCounter) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "member changed") {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "state" && a.Value.String() == string(client.MemberDead) {
				g.n.Add(1)
			}
			return true
		})
	}
	return nil
}

func (g *goneCounter) WithAttrs([]slog.Attr) slog.Handler { return g }
func (g *goneCounter) WithGroup(string) slog.Handler      { return g }
