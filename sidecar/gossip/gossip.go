// Package gossip spreads the catalogue over the cluster: a change goes to a few
// peers at once, each of which tells a few others (an epidemic, over UDP); a
// record too large for a packet goes over TCP; and every now and then two peers
// compare all that they know. Membership and failure detection are memberlist's.
package gossip

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// Owner holds the catalogue for which gossip works. Its methods are called from
// several goroutines.
type Owner interface {
	// Snapshot is what a peer is told that wants to know everything.
	Snapshot() *catalog.Snapshot
	// Merge takes what a peer said.
	Merge(ctx context.Context, records []pancake.Service)
	// HostGone says that a peer has left or is dead.
	HostGone(ctx context.Context, host string)
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
	// PushPull is how often everything is compared with one peer. Default 20 s, Sidecar's.
	PushPull time.Duration
	// Quiet ends without a goodbye: peers believe this host alive for the seconds
	// that they need to notice, so that a restart within them changes nothing.
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
	// maxMessage bounds a message of a peer once unpacked, maxState a whole
	// state: 200,000 records of 300 bytes.
	maxMessage = 1 << 20
	maxState   = 64 << 20
	// fanout is how many peers are told at once, each of which tells as many: of a
	// large cluster that alone reaches more than 99 of 100.
	fanout = 5
	// burstGap is the least time between two rounds of telling at once; what
	// changes meanwhile shares the packets of the next. burstPackets bounds a round.
	burstGap     = 5 * time.Millisecond
	burstPackets = 16
	// tcpTimeout bounds each connection to a peer, maxStreams how many there are
	// with records that fit no packet: those to peers that do not answer add up.
	tcpTimeout = 5 * time.Second
	maxStreams = 256
)

// Gossip is this host's part of the cluster.
type Gossip struct {
	cfg   Config
	log   *slog.Logger
	queue *queue
	peers *peers
	keys  *memberlist.Keyring // nil: no encryption
	// keysMu keeps two changes of the keys apart.
	keysMu sync.Mutex
	m      metrics

	wake     chan struct{}          // something cannot wait for the next tick
	incoming chan []pancake.Service // from UDP packets
	joined   chan struct{}          // closed by the first answer of a seed

	mu    sync.Mutex
	large map[key][]byte // records that fit no packet

	streams chan struct{} // one element per message that is on its way to a peer
	sending sync.WaitGroup
}

type metrics struct {
	received, sent, refused *prometheus.CounterVec
}

// New makes a Gossip. Run starts it.
func New(cfg Config) (*Gossip, error) {
	if cfg.Name == "" || cfg.Owner == nil {
		return nil, pancake.Errorf(pancake.Internal, "gossip needs a name and an owner")
	}
	if len("pancake/"+cfg.Cluster) > memberlist.LabelMaxSize {
		return nil, pancake.Errorf(pancake.Invalid, "cluster name %q is too long: %d characters are allowed", cfg.Cluster, memberlist.LabelMaxSize-len("pancake/"))
	}
	keys, err := newKeyring(cfg.Keys)
	if err != nil {
		return nil, err
	}
	reg := promauto.With(cfg.Metrics)
	counter := func(name, help, label string) *prometheus.CounterVec {
		return reg.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	g := &Gossip{
		cfg: cfg, log: cfg.Log, keys: keys, wake: make(chan struct{}, 1), incoming: make(chan []pancake.Service, 1024), joined: make(chan struct{}), large: map[key][]byte{},
		streams: make(chan struct{}, maxStreams),
		m: metrics{
			received: counter("sidecar_gossip_received_total", "Messages of peers by kind: packet, stream or state.", "kind"),
			sent:     counter("sidecar_gossip_sent_total", "Messages to peers by kind: burst, packet, stream or state.", "kind"),
			refused:  counter("sidecar_gossip_refused_total", "Messages of peers that were not taken, by reason: broken or busy.", "reason"),
		},
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.peers = newPeers(cfg.Name, g.log)
	g.queue = newQueue(g.times)
	return g, nil
}

// times is how often a record is sent by each host that learns of it: enough
// for an epidemic to reach everybody though packets are lost, as memberlist does
// for its own messages. What takes a service out of traffic is sent twice as often.
func (g *Gossip) times(c class) int {
	n := 4 * int(math.Ceil(math.Log10(float64(g.peers.alive()+2))))
	if c == urgent {
		return 2 * n
	}
	return n
}

// Publish tells the peers of changes. It does not block.
func (g *Gossip) Publish(changes []catalog.Change) {
	if g.peers.alive() == 0 {
		return // whoever comes gets the whole state
	}
	wake := false
	for _, c := range changes {
		if c.Local || c.Removed {
			continue
		}
		k := key{c.Service.Hostname, c.Service.ID}
		data := appendRecord(nil, c.Service)
		if headerLen+len(data) > packetSize-overhead {
			g.mu.Lock()
			g.large[k] = data
			g.mu.Unlock()
			wake = true
			continue
		}
		class := classOf(c)
		g.queue.add(k, class, data)
		wake = wake || class != refresh
	}
	if wake {
		select {
		case g.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// Run joins the cluster and stays in it until ctx ends; then it says goodbye.
// It fails at once if it cannot listen.
func (g *Gossip) Run(ctx context.Context) error {
	d := &delegate{g: g, ctx: ctx}
	list, err := memberlist.Create(g.memberlistConfig(d))
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "gossip cannot start on %s: %w", net.JoinHostPort(g.cfg.BindAddr, fmt.Sprint(g.cfg.BindPort)), err)
	}
	g.peers.setSelf(list.LocalNode())
	g.log.InfoContext(ctx, "gossip listens", "address", g.peers.selfAddress(), "cluster", g.cfg.Cluster)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.deliver(ctx) })
	group.Go(func() error { return g.spread(ctx, list) })
	group.Go(func() error { return g.join(ctx, list) })
	err = group.Wait()
	g.sending.Wait() // bounded by tcpTimeout
	if !g.cfg.Quiet && g.peers.alive() > 0 {
		g.leave(list)
	}
	if shutErr := list.Shutdown(); shutErr != nil {
		g.log.Warn("gossip did not stop cleanly", "err", shutErr)
	}
	return err
}

// leave says goodbye.
func (g *Gossip) leave(list *memberlist.Memberlist) {
	// memberlist does not tell a peer that left from one that died: this does.
	g.burst(list, g.peers.random(g.peers.alive()), goodbye(g.cfg.Name))
	if err := list.Leave(time.Second); err != nil {
		g.log.Warn("peers may not know that this host has left; they will find out within seconds", "err", err)
	}
}

func (g *Gossip) memberlistConfig(d *delegate) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label = g.cfg.Name, "pancake/"+g.cfg.Cluster
	c.BindAddr = cmp.Or(g.cfg.BindAddr, "0.0.0.0")
	c.BindPort = max(cmp.Or(g.cfg.BindPort, 7946), 0)
	c.AdvertiseAddr = g.cfg.AdvertiseAddr
	c.AdvertisePort = cmp.Or(g.cfg.AdvertisePort, c.BindPort)
	c.PushPullInterval = cmp.Or(g.cfg.PushPull, 20*time.Second)
	c.TCPTimeout = tcpTimeout
	c.UDPBufferSize = packetSize
	c.EnableCompression = false // small packets gain nothing, and large messages are compressed by us
	// A host that died may come back under another address.
	c.DeadNodeReclaimTime = 10 * time.Second
	c.Keyring = g.keys
	c.Delegate, c.Events, c.Conflict = d, g.peers, g.peers
	c.Logger = bridge(g.log)
	c.Transport = g.cfg.Transport
	return c
}

// deliver hands to the owner what came in packets and who has gone.
func (g *Gossip) deliver(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case records := <-g.incoming:
			g.cfg.Owner.Merge(ctx, records)
		case <-g.peers.changed:
			for _, host := range g.peers.takeGone() {
				g.cfg.Owner.HostGone(ctx, host)
			}
		}
	}
}

// spread tells a few peers at once what cannot wait for memberlist's next tick.
func (g *Gossip) spread(ctx context.Context, list *memberlist.Memberlist) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.wake:
		}
		for range burstPackets {
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
		g.spreadLarge(ctx, list)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(burstGap):
		}
	}
}

func (g *Gossip) burst(list *memberlist.Memberlist, targets []memberlist.Node, packet []byte) {
	for i := range targets {
		if err := list.SendBestEffort(&targets[i], packet); err != nil {
			g.log.Debug("a packet was not sent", "peer", targets[i].Name, "err", err)
			continue
		}
		g.m.sent.WithLabelValues("burst").Inc()
	}
}

// spreadLarge sends records that fit no packet to some peers over TCP. Each of
// them does the same with what was new to it. It does not wait: one that has
// died a moment ago would hold up what the others are told next.
func (g *Gossip) spreadLarge(ctx context.Context, list *memberlist.Memberlist) {
	g.mu.Lock()
	large := g.large
	g.large = map[key][]byte{}
	g.mu.Unlock()
	if len(large) == 0 {
		return
	}
	message := append([]byte(nil), header...)
	for _, data := range large {
		message = append(message, data...)
	}
	for _, target := range g.peers.random(fanout + int(math.Ceil(math.Log2(float64(g.peers.alive()+1))))) {
		select {
		case g.streams <- struct{}{}:
		case <-ctx.Done():
			return
		}
		g.sending.Go(func() {
			defer func() { <-g.streams }()
			if err := list.SendReliable(&target, message); err != nil {
				g.log.DebugContext(ctx, "a message was not sent", "peer", target.Name, "err", err)
				return
			}
			g.m.sent.WithLabelValues("stream").Inc()
		})
	}
}
