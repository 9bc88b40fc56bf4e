// Package oldsidecar is a peer that speaks NinesStack Sidecar's gossip, byte for
// byte as it is on the wire: the fork of memberlist with the cluster's name in
// its messages, one service's JSON per message, the state's JSON in exchanges of
// states, and Sidecar's rules for who believes what. Tests of the bridge use it
// as the other side. It shares no code with the bridge, so that a mistake in one
// does not hide behind the same in the other.
//
// It does what a Sidecar does to its peers and for HTTP; it discovers and checks
// nothing. Set, Drain and Remove say what runs on its host.
package oldsidecar

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says how a Peer works. Name and Cluster are required. The defaults of
// all durations are Sidecar's, and memberlist's for a LAN.
type Config struct {
	Name     string
	Cluster  string
	BindAddr string // default 127.0.0.1
	BindPort int    // default: a free one
	HTTPAddr string // default: a free port of BindAddr
	Seeds    []string

	AliveFor     time.Duration // 80 s
	DrainingFor  time.Duration // 10 min
	TombstoneFor time.Duration // 3 h
	RefreshEvery time.Duration // 1 min: how often its own services are repeated
	ResendEvery  time.Duration // 1 s: between the repetitions of a change
	PushPull     time.Duration // 20 s
	Gossip       time.Duration // 200 ms
	ProbeEvery   time.Duration // 1 s
	ProbeTimeout time.Duration // 500 ms
	SuspectFor   time.Duration // 5 s

	Log *slog.Logger // default: none
}

func (c Config) withDefaults() Config {
	c.BindAddr = cmp.Or(c.BindAddr, "127.0.0.1")
	c.HTTPAddr = cmp.Or(c.HTTPAddr, net.JoinHostPort(c.BindAddr, "0"))
	c.AliveFor = cmp.Or(c.AliveFor, 80*time.Second)
	c.DrainingFor = cmp.Or(c.DrainingFor, 10*time.Minute)
	c.TombstoneFor = cmp.Or(c.TombstoneFor, 3*time.Hour)
	c.RefreshEvery = cmp.Or(c.RefreshEvery, time.Minute)
	c.ResendEvery = cmp.Or(c.ResendEvery, time.Second)
	c.PushPull = cmp.Or(c.PushPull, 20*time.Second)
	c.Gossip = cmp.Or(c.Gossip, 200*time.Millisecond)
	c.ProbeEvery = cmp.Or(c.ProbeEvery, time.Second)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, 500*time.Millisecond)
	c.SuspectFor = cmp.Or(c.SuspectFor, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Peer is one Sidecar.
type Peer struct {
	cfg  Config
	udp  *net.UDPConn
	tcp  net.Listener
	http net.Listener
	ip   net.IP
	port int

	mu       sync.Mutex
	seq      int
	acks     map[int]chan struct{}
	members  map[string]*member
	queue    []*outgoing
	leaving  bool
	servers  map[string]*server
	own      map[string]bool
	changed  time.Time
	watchers chan struct{} // closed by the next change
	counts   Counts
	runs     *errgroup.Group
	ctx      context.Context // of Run, for what a message sets off
}

// Counts is what a Peer has seen.
type Counts struct {
	Messages int // services that came one by one
	Accepted int // records that were news
	States   int // states of peers
	Refused  int // what named another cluster or none, or was broken
}

// New makes a Peer that listens. Run lets it work.
func New(cfg Config) (*Peer, error) {
	cfg = cfg.withDefaults()
	p := &Peer{
		cfg: cfg, ip: net.ParseIP(cfg.BindAddr).To4(), acks: map[int]chan struct{}{}, members: map[string]*member{},
		servers: map[string]*server{}, own: map[string]bool{}, watchers: make(chan struct{}), changed: time.Unix(0, 0).UTC(),
	}
	var err error
	if p.tcp, err = net.Listen("tcp", net.JoinHostPort(cfg.BindAddr, strconv.Itoa(cfg.BindPort))); err != nil {
		return nil, err
	}
	addr, ok := p.tcp.Addr().(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("%v is no TCP address", p.tcp.Addr())
	}
	p.port = addr.Port
	if p.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: p.ip, Port: p.port}); err != nil {
		return nil, err
	}
	if p.http, err = net.Listen("tcp", cfg.HTTPAddr); err != nil {
		return nil, err
	}
	p.members[cfg.Name] = &member{name: cfg.Name, addr: p.ip, port: p.port, inc: 1, meta: p.meta(), vsn: version()}
	return p, nil
}

// Address is where the peer's gossip listens.
func (p *Peer) Address() string { return p.tcp.Addr().String() }

// URL is where its API listens.
func (p *Peer) URL() string { return "http://" + p.http.Addr().String() }

// Counts returns what the peer has seen.
func (p *Peer) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Run works until ctx ends, and ends without a goodbye, as Sidecar does.
func (p *Peer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	p.mu.Lock()
	p.runs, p.ctx = group, ctx
	p.broadcast(p.cfg.Name, p.aliveMessage(p.members[p.cfg.Name]))
	p.mu.Unlock()
	web := &http.Server{Handler: p.handler(), ReadHeaderTimeout: time.Second}
	group.Go(func() error {
		<-ctx.Done()
		for _, c := range []io.Closer{p.udp, p.tcp, web} {
			_ = c.Close()
		}
		return ctx.Err()
	})
	group.Go(func() error { return quiet(ctx, web.Serve(p.http)) })
	group.Go(func() error { return p.receive(ctx) })
	group.Go(func() error { return p.accept(ctx) })
	every := func(d time.Duration, fn func()) {
		group.Go(func() error {
			t := time.NewTicker(d)
			defer t.Stop()
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-t.C:
					fn()
				}
			}
		})
	}
	group.Go(func() error { p.join(ctx); return nil })
	every(p.cfg.Gossip, p.gossip)
	every(p.cfg.ProbeEvery, func() { p.probe(ctx) })
	every(p.cfg.PushPull, func() { p.exchangeWithOne(ctx) })
	every(p.cfg.RefreshEvery, p.refresh)
	every(p.cfg.ResendEvery, p.sweep)
	return group.Wait()
}

// quiet drops the error of a listener that was closed because ctx ended.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// join tries the seeds until one answers.
func (p *Peer) join(ctx context.Context) {
	for len(p.cfg.Seeds) > 0 {
		for _, seed := range p.cfg.Seeds {
			err := p.exchange(ctx, seed, true)
			if err == nil {
				return
			}
			p.cfg.Log.Info("join failed", "seed", seed, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// later runs fn after d, unless the peer ends before. The caller holds the lock.
func (p *Peer) later(d time.Duration, fn func()) {
	if p.runs == nil {
		return
	}
	ctx := p.ctx
	p.runs.Go(func() error {
		select {
		case <-ctx.Done():
		case <-time.After(d):
			fn()
		}
		return nil
	})
}
