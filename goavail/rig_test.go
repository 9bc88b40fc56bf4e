package goavail_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/vote"
	"github.com/pancake-stack/pancake/internal/testkit"
)

// zone is a provider in memory. It refuses what no provider may be asked for.
type zone struct {
	t testing.TB

	mu     sync.Mutex
	sets   map[dns.Key]dns.Set
	fail   error            // of every call
	refuse map[string]error // of every call of one place
	sealed map[string]error // of every change by one place, "" by any
	broken map[dns.Key]bool // cannot be read
	slow   time.Duration    // of reading
	late   bool             // the next change is made, and its answer lost
	writes []written
}

type written struct {
	by     string
	at     time.Time
	change dns.Change
}

func newZone(t testing.TB) *zone { return &zone{t: t, sets: map[dns.Key]dns.Set{}} }

// of is the zone as one place sees it.
func (z *zone) of(place string) dns.Provider { return door{z, place} }

type door struct {
	*zone
	place string
}

func (d door) Capabilities() dns.Capabilities {
	return dns.Capabilities{Name: "memory", Types: []string{dns.A, dns.AAAA, dns.CNAME, dns.Pool}, Sets: true, PerValue: true, Atomic: true, Compares: true}
}

func (d door) Check(context.Context, []dns.Key) error { return nil }

func (d door) Read(_ context.Context, keys []dns.Key) ([]dns.Set, error) {
	time.Sleep(d.slow)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := cmp.Or(d.fail, d.refuse[d.place]); err != nil {
		return nil, err
	}
	var out []dns.Set
	for _, k := range keys {
		if d.broken[k] {
			return nil, &dns.Error{Reason: dns.Refused, Err: fmt.Errorf("there is no %s", k)}
		}
		s := d.sets[k].Clone()
		s.Key = k
		out = append(out, s)
	}
	return out, nil
}

func (d door) Apply(ctx context.Context, changes []dns.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := cmp.Or(d.fail, d.refuse[d.place], d.sealed[d.place], d.sealed[""]); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) <= 0 {
		d.t.Errorf("%s writes without a lease", d.place)
	}
	for _, c := range changes {
		if live := d.sets[c.Before.Key]; !slices.Equal(live.Members, c.Before.Members) {
			return &dns.Error{Reason: dns.Conflict, Err: errors.New("it has been changed")}
		}
		for _, m := range c.Before.Members {
			if _, kept := c.After.Find(m.Value); !kept && m.Owner != "test" {
				d.t.Errorf("%s removes the foreign %s", d.place, m.Value)
			}
		}
		if len(c.Before.Values()) > 0 && len(c.After.Values()) == 0 {
			d.t.Errorf("%s empties %s", d.place, c.Before.Key)
		}
		d.sets[c.Before.Key] = c.After.Clone()
		d.writes = append(d.writes, written{d.place, time.Now(), c})
	}
	if d.late {
		d.late = false
		return &dns.Error{Reason: dns.Unknown, Err: errors.New("no answer")}
	}
	return nil
}

// put makes a record by hand.
func (z *zone) put(key dns.Key, owner string, values ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	s := dns.Set{Key: key, TTL: 60}
	for _, v := range values {
		s.Members = append(s.Members, dns.Member{Value: v, On: true, Owner: owner})
	}
	z.sets[key] = s
}

func (z *zone) values(key dns.Key) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.sets[key]
	return strings.Join(s.Values(), " ")
}

func (z *zone) failing(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fail = err
}

// refusing makes the zone fail for one place, in all that it is asked for or in changes only.
func (z *zone) refusing(place string, all, changes error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refuse, z.sealed = map[string]error{place: all}, map[string]error{place: changes}
}

func (z *zone) written() []written {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.writes)
}

// web is a target that can die and come back.
type web struct {
	t    testing.TB
	addr string
	ln   net.Listener
}

func (w *web) up() {
	w.t.Helper()
	if w.ln != nil {
		return
	}
	ln, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ln = ln
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
}

func (w *web) down() {
	if w.ln != nil {
		w.ln.Close()
		w.ln = nil
	}
}

// cables is the network between agents; it can be cut.
type cables struct {
	mu   sync.Mutex
	side map[string]int // by gossip address
}

func (c *cables) connected(a, b string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.side[a] == c.side[b]
}

func (c *cables) move(side int, addrs ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range addrs {
		c.side[a] = side
	}
}

// plug is one agent's end.
type plug struct {
	*memberlist.NetTransport
	me     string
	cables *cables
}

var errCut = errors.New("the cable is cut")

func (p plug) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	if !p.cables.connected(p.me, to.Addr) {
		return time.Now(), nil // lost on the way
	}
	return p.NetTransport.WriteToAddress(b, to)
}

func (p plug) DialAddressTimeout(to memberlist.Address, d time.Duration) (net.Conn, error) {
	if !p.cables.connected(p.me, to.Addr) {
		return nil, errCut
	}
	return p.NetTransport.DialAddressTimeout(to, d)
}

// rig is some agents, four targets and a zone.
type rig struct {
	t      *testing.T
	zone   *zone
	webs   []*web
	cables *cables
	places []goavail.Place
	dirs   []string
	agents []*agent
	change func(*goavail.Config)
}

type agent struct {
	*goavail.Agent
	place string
	stop  func()
}

var www = dns.Key{Name: "www.example.org", Type: dns.A}

var gossipKey = []byte("0123456789abcdef0123456789abcdef")

// newRig makes n places on 127.30.net.x, which do not run yet.
func newRig(t *testing.T, n, net int, change func(*goavail.Config)) *rig {
	r := &rig{t: t, zone: newZone(t), cables: &cables{side: map[string]int{}}, change: change}
	_, port, _ := strings.Cut(testkit.FreeAddr(t), ":")
	for i := range 4 {
		w := &web{t: t, addr: fmt.Sprintf("127.30.%d.%d:%s", net, 101+i, port)}
		w.up()
		t.Cleanup(w.down)
		r.webs = append(r.webs, w)
	}
	for i := range n {
		r.places = append(r.places, goavail.Place{Name: fmt.Sprint("p", i), Region: fmt.Sprint("r", i), Address: fmt.Sprintf("127.30.%d.%d:%s", net, 1+i, port)})
		r.dirs = append(r.dirs, t.TempDir())
		r.agents = append(r.agents, nil)
	}
	t.Cleanup(func() {
		for _, a := range r.agents {
			if a != nil {
				a.stop()
			}
		}
	})
	return r
}

// work is what every agent watches and keeps.
func (r *rig) work() (targets []goavail.Target, records []goavail.Record) {
	rec := goavail.Record{Key: www, TTL: 30}
	for i, w := range r.webs {
		host, port, _ := net.SplitHostPort(w.addr)
		number, _ := net.LookupPort("tcp", port)
		name := fmt.Sprint("t", i)
		targets = append(targets, goavail.Target{Name: name, Check: probe.Check{Address: host, Port: number, Interval: 100 * time.Millisecond, Fall: 2, Rise: 2}})
		rec.Members = append(rec.Members, goavail.Member{Target: name})
	}
	return targets, []goavail.Record{rec}
}

func (r *rig) config(i int) goavail.Config {
	p := r.places[i]
	host, port, _ := net.SplitHostPort(p.Address)
	number, _ := net.LookupPort("tcp", port)
	transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: number, Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)})
	if err != nil {
		r.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := goavail.Config{
		Cluster: "test", Place: p.Name, Places: r.places, Provider: r.zone.of(p.Name), DataDir: r.dirs[i], NoDryRun: true,
		VoteEvery: 100 * time.Millisecond, ReadEvery: 500 * time.Millisecond, Lease: time.Second, RetryMin: 100 * time.Millisecond, RetryMax: time.Second,
		BindAddr: host, BindPort: number, GossipKeys: [][]byte{gossipKey}, Transport: plug{transport, p.Address, r.cables},
		Listener: ln, Rules: vote.Rules{ChangesPerHour: 1000, BreakerPercent: 100, Damping: vote.Damping{HalfLife: -1}},
	}
	cfg.Targets, cfg.Records = r.work()
	if os.Getenv("PANCAKE_TEST_DEBUG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("agent", p.Name)
	}
	if r.change != nil {
		r.change(&cfg)
	}
	return cfg
}

func (r *rig) start(places ...int) {
	r.t.Helper()
	for _, i := range places {
		a, err := goavail.New(r.config(i))
		if err != nil {
			r.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		r.agents[i] = &agent{a, r.places[i].Name, sync.OnceFunc(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				r.t.Errorf("%s: Run returned %v", r.places[i].Name, err)
			}
		})}
	}
}

func (r *rig) stop(places ...int) {
	for _, i := range places {
		r.agents[i].stop()
		r.agents[i] = nil
	}
}

func (r *rig) all() (out []int) {
	for i := range r.places {
		out = append(out, i)
	}
	return out
}

// ip are the addresses of targets, as the zone shows them.
func (r *rig) ip(targets ...int) string {
	var out []string
	for _, i := range targets {
		host, _, _ := net.SplitHostPort(r.webs[i].addr)
		out = append(out, host)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// await waits for a condition with a limit that only a defect reaches.
func (r *rig) await(what string, fn func() bool) {
	r.t.Helper()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if fn() {
			return
		}
	}
	for _, a := range r.agents {
		if a != nil {
			s := a.Status(r.t.Context(), false)
			r.t.Logf("%s: writer %+v\nplaces %+v\ntargets %+v\nsets %+v\nprovider %+v", s.Place, s.Writer, s.Places, s.Targets, s.Sets, s.Provider)
		}
	}
	r.t.Fatalf("never happened: %s; the zone holds %q", what, r.zone.values(www))
}

func (r *rig) live(targets ...int) {
	r.t.Helper()
	want := r.ip(targets...)
	r.await("records are "+want, func() bool { return r.zone.values(www) == want })
}

// steady sees to it that the records stay as they are for a while.
func (r *rig) steady(d time.Duration, targets ...int) {
	r.t.Helper()
	want := r.ip(targets...)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got := r.zone.values(www); got != want {
			r.t.Fatalf("records are %q, should stay %q", got, want)
		}
	}
}

// writer is the index of the agent that writes, among those that are asked.
func (r *rig) writer(among ...int) int {
	r.t.Helper()
	found := -1
	r.await("a writer", func() bool {
		for _, i := range among {
			if r.agents[i].Status(r.t.Context(), false).Writer.Me {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

// knows waits until the places say this of a target, as an agent sees it.
func (r *rig) knows(i int, target, verdict string) {
	r.t.Helper()
	r.await(target+" "+verdict, func() bool {
		for _, t := range r.agents[i].Status(r.t.Context(), false).Targets {
			if t.Name == target {
				return t.Verdict == verdict
			}
		}
		return false
	})
}

func (r *rig) entries(i int, kind string) (out []client.Entry) {
	for _, e := range r.agents[i].History(0) {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}
