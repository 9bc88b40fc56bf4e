package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// Owner holds the catalogue for which gossip works. Its methods are called from
// several goroutines.
type Owner interface {
	// Snapshot is what there is.
	Snapshot() *catalog.Snapshot
	// Merge takes what a peer said; from is its name, "" if that is not known.
	Merge(ctx context.Context, from string, records []pancake.Service)
	// HostJoined says that a peer is a member, HostGone that it has left or is dead.
	HostJoined(ctx context.Context, host string)
	HostGone(ctx context.Context, host string)
	// Heard says that a bridge speaks for a host, whose live records have the digest.
	Heard(ctx context.Context, host string, digest uint64)
}

// Config says how a Gossip works. Name, Cluster and Owner are required.
type Config struct {
	Name    string // of this host: what its records carry as Hostname
	Cluster string // peers of another cluster are not talked to
	Owner   Owner
	// BindAddr is the IP to listen on, TCP and UDP. Default 0.0.0.0.
	BindAddr string
	// BindPort is the port to listen on. Default 7946; -1 picks a free one.
	BindPort int
	// AdvertiseAddr and AdvertisePort are what peers connect to. Default: BindAddr,
	// or a private address of this host if that is 0.0.0.0, and BindPort.
	AdvertiseAddr string
	AdvertisePort int
	// Seeds are host or host:port of some peers. They need not answer: this host
	// then starts alone and goes on trying.
	Seeds []string
	// Keys encrypt all traffic with AES; 16, 24 or 32 bytes each. The first one
	// encrypts, all decrypt; SetKeys replaces them. None: no encryption.
	Keys [][]byte
	// PushPull is how often memberlist exchanges its list of members. Default: see pushPullEvery.
	PushPull time.Duration
	// Version, HTTP and Zone are what all members are told of this host: its
	// release, where its API listens, and where it is. Default: nothing.
	Version, HTTP, Zone string
	// Quiet ends with the word that this host will be back: peers believe it alive for
	// 10 s more, so that a restart within them changes nothing.
	Quiet   bool
	Log     *slog.Logger          // default: none
	Metrics prometheus.Registerer // default: none
	// Transport replaces the network, for tests.
	Transport memberlist.Transport
}

const (
	// packetSize is what memberlist puts into one UDP packet, in bytes: it
	// passes any Ethernet.
	packetSize = 1400
	// overhead is taken off for memberlist's own headers, the cluster's label
	// and encryption, in bytes.
	overhead = 200
	// fanout is how many peers are told at once, each of which tells as many: of a
	// large cluster that alone reaches more than 99 of 100.
	fanout = 5
	// burstGap is the least time between two rounds of telling at once; what
	// changes meanwhile shares the packets of the next. burstPackets bounds a round; what
	// is beyond it is offered as a comparison.
	burstGap     = 5 * time.Millisecond
	burstPackets = 8
	// tcpTimeout bounds each connection to a peer, maxStreams how many there are
	// with records that fit no packet: those to peers that do not answer add up.
	tcpTimeout = 5 * time.Second
	maxStreams = 256
)

// Gossip is this host's part of the cluster.
type Gossip struct {
	cfg   Config
	log   *slog.Logger
	about about
	queue *queue
	peers *peers
	keys  *memberlist.Keyring // nil: no encryption
	// keysMu keeps two changes of the keys apart.
	keysMu     sync.Mutex
	m          metrics
	pulse      pulse
	ages       ages
	complaints complaints

	wake        chan struct{}          // something cannot wait for the next tick
	incoming    chan []pancake.Service // from UDP packets
	comparisons chan comparison
	sightings   chan sighting
	hurry       chan struct{} // compare soon
	joined      chan struct{} // closed by the first answer of a seed
	exchanging  atomic.Bool
	tellMu      sync.Mutex // events of members reach the owner in order

	streams chan struct{} // one element per message that is on its way to a peer
	doubts  chan struct{} // one element per member that is doubted
	sending sync.WaitGroup

	knockMu sync.Mutex
	knocked time.Time // when a member that is doubted was last connected to

	transport memberlist.Transport // set when Run begins

	runMu sync.Mutex
	list  *memberlist.Memberlist // nil while Run does not work
}

// New makes a Gossip. Run starts it.
func New(cfg Config) (*Gossip, error) {
	if cfg.Name == "" || cfg.Owner == nil {
		return nil, pancake.Errorf(pancake.Internal, "gossip needs a name and an owner")
	}
	if len(cfg.Name) > maxName {
		return nil, pancake.Errorf(pancake.Invalid, "hostname of %d characters: %d are allowed", len(cfg.Name), maxName)
	}
	if len("pancake/"+cfg.Cluster) > memberlist.LabelMaxSize {
		return nil, pancake.Errorf(pancake.Invalid, "cluster name %q is too long: %d characters are allowed", cfg.Cluster, memberlist.LabelMaxSize-len("pancake/"))
	}
	keys, err := newKeyring(cfg.Keys)
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		cfg: cfg, log: cfg.Log, about: about{cfg.Version, cfg.HTTP, cfg.Zone}, keys: keys, m: newMetrics(cfg.Metrics),
		wake: make(chan struct{}, 1), incoming: make(chan []pancake.Service, 1024), comparisons: make(chan comparison, 256),
		sightings: make(chan sighting, 16), hurry: make(chan struct{}, 1), joined: make(chan struct{}),
		streams: make(chan struct{}, maxStreams), doubts: make(chan struct{}, maxDoubts),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.peers = newPeers(cfg.Name, g.log)
	g.queue = newQueue(func(c class) int { return times(c, g.peers.alive()+1) })
	return g, nil
}

// Publish tells the peers of changes. It does not block.
func (g *Gossip) Publish(changes []catalog.Change) {
	if g.peers.alive() == 0 {
		return // whoever comes gets the whole state
	}
	wake := false
	for _, c := range changes {
		if !c.Local && !c.Removed {
			g.queue.add(classOf(c), c.Service)
			wake = true
		}
	}
	if wake {
		g.wakeUp()
	}
}

func (g *Gossip) wakeUp() {
	select {
	case g.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Run joins the cluster and stays in it until ctx ends; then it says goodbye.
// It fails at once if it cannot listen.
func (g *Gossip) Run(ctx context.Context) error {
	list, err := g.open(ctx)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "gossip cannot start on %s: %w", net.JoinHostPort(g.cfg.BindAddr, fmt.Sprint(g.cfg.BindPort)), err)
	}
	g.peers.setSelf(list.LocalNode())
	g.setList(list)
	g.log.InfoContext(ctx, "gossip listens", "address", g.peers.selfAddress(), "cluster", g.cfg.Cluster)
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context, *memberlist.Memberlist) error{
		g.deliver, g.spread, g.join, g.retry, g.compare, g.reply, g.mirror,
	} {
		group.Go(func() error { return part(ctx, list) })
	}
	group.Go(func() error { return g.pulse.run(ctx) })
	err = group.Wait()
	g.setList(nil)
	g.sending.Wait() // bounded by tcpTimeout
	if g.peers.alive() > 0 {
		g.leave(list)
	}
	if shutErr := list.Shutdown(); shutErr != nil {
		g.log.Warn("gossip did not stop cleanly", "err", shutErr)
	}
	return err
}

func (g *Gossip) setList(list *memberlist.Memberlist) {
	g.runMu.Lock()
	defer g.runMu.Unlock()
	g.list = list
}

// leave says goodbye, or that this host will be back.
func (g *Gossip) leave(list *memberlist.Memberlist) {
	kind := byte(kindGoodbye)
	if g.cfg.Quiet {
		kind = kindPause
	}
	// memberlist does not tell a peer that left from one that died: this does. Twice, for packets may be lost.
	for range 2 {
		g.burst(list, g.peers.random(g.peers.alive()), named(kind, g.cfg.Name))
	}
	if g.cfg.Quiet {
		return
	}
	if err := list.Leave(time.Second); err != nil {
		g.log.Warn("peers may not know that this host has left; they will find out within seconds", "err", err)
	}
}

func (g *Gossip) open(ctx context.Context) (*memberlist.Memberlist, error) {
	d := &delegate{g: g, ctx: ctx}
	lines := &bridge{g.log, g.m.refused, &g.complaints}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label = g.cfg.Name, g.label()
	c.BindAddr = cmp.Or(g.cfg.BindAddr, "0.0.0.0")
	c.BindPort = max(cmp.Or(g.cfg.BindPort, 7946), 0)
	c.ProbeInterval, c.ProbeTimeout = probeEvery, probeTimeout
	// They cost the most when there is the least to spare; who is accused is connected to by us.
	c.DisableTcpPings = true
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	c.GossipInterval, c.GossipNodes = gossipEvery, gossipNodes
	c.PushPullInterval = cmp.Or(g.cfg.PushPull, pushPullEvery)
	c.TCPTimeout = tcpTimeout
	c.UDPBufferSize = packetSize
	c.EnableCompression = false // small packets gain nothing, and large messages are compressed by us
	// A host that died may come back under another address.
	c.DeadNodeReclaimTime = 10 * time.Second
	c.Keyring = g.keys
	c.Delegate, c.Ping, c.Events, c.Conflict = d, d, g.peers, g.peers
	c.Logger = lines.logger()
	if g.cfg.Transport == nil {
		w, err := listen(c.BindAddr, c.BindPort)
		if err != nil {
			return nil, err
		}
		c.Transport, c.BindPort = newMeter(w, g.m.traffic), w.port()
	} else {
		c.Transport = newMeter(g.cfg.Transport, g.m.traffic)
	}
	g.transport = c.Transport
	c.AdvertiseAddr = g.cfg.AdvertiseAddr
	c.AdvertisePort = cmp.Or(g.cfg.AdvertisePort, c.BindPort)
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, errors.Join(err, c.Transport.Shutdown())
	}
	return list, nil
}

// label is what keeps clusters apart.
func (g *Gossip) label() string { return "pancake/" + g.cfg.Cluster }

// deliver hands to the owner what came in packets and what is new of members.
func (g *Gossip) deliver(ctx context.Context, list *memberlist.Memberlist) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case records := <-g.incoming:
			g.cfg.Owner.Merge(ctx, "", records)
		case <-g.peers.changed:
			for _, name := range g.tellMembers(ctx) {
				g.ask(ctx, list, name)
			}
		}
	}
}

// tellMembers tells the owner what is new of members, and returns those that are doubted.
func (g *Gossip) tellMembers(ctx context.Context) (doubts []string) {
	g.tellMu.Lock()
	defer g.tellMu.Unlock()
	for _, e := range g.peers.take() {
		switch e.what {
		case joined:
			if h := g.cfg.Owner.Snapshot().Hosts[e.name]; h != nil && h.Gone {
				g.soon() // somebody has to vouch for what it had
			}
			g.cfg.Owner.HostJoined(ctx, e.name)
		case gone:
			g.cfg.Owner.HostGone(ctx, e.name)
		case doubted:
			doubts = append(doubts, e.name)
		}
	}
	return doubts
}

// ask doubts that a member is dead, in the background.
func (g *Gossip) ask(ctx context.Context, list *memberlist.Memberlist, name string) {
	g.sending.Go(func() {
		select {
		case g.doubts <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-g.doubts }()
		g.doubt(ctx, list, name)
	})
}

// spread tells a few peers at once what cannot wait for memberlist's next tick.
func (g *Gossip) spread(ctx context.Context, list *memberlist.Memberlist) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.wake:
		}
		sent := 0
		for ; sent < burstPackets; sent++ {
			targets := g.peers.random(fanout)
			if len(targets) == 0 {
				break
			}
			packet := g.queue.take(packetSize-overhead, len(targets), true)
			if packet == nil {
				break
			}
			g.burst(list, targets, packet)
		}
		gap := burstGap
		if hosts := g.queue.takeLarge(sent == burstPackets); len(hosts) > 0 {
			g.offer(ctx, list, hosts)
			gap = offerGap
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(gap):
		}
	}
}

func (g *Gossip) burst(list *memberlist.Memberlist, targets []*memberlist.Node, packet []byte) {
	for _, target := range targets {
		if err := list.SendBestEffort(target, packet); err != nil {
			g.log.Debug("a packet was not sent", "peer", target.Name, "err", err)
			continue
		}
		g.m.sent.WithLabelValues("burst").Inc()
	}
}

// offer compares what some hosts have with a few peers: there is more to say than
// packets are good for. Each of them does the same with what was new to it.
func (g *Gossip) offer(ctx context.Context, list *memberlist.Memberlist, hosts []string) {
	g.m.compared.WithLabelValues("offer").Inc()
	c := begin(g.cfg.Owner.Snapshot(), hosts...)
	for _, target := range g.peers.random(fanout) {
		g.sendAll(ctx, list, target, c)
	}
}
