// Package gossip carries votes, orders and the election of a writer between the
// agents of a cluster, over memberlist.
//
// Who can say what: traffic is encrypted with the cluster's keys, so that without one
// nobody is heard. Every message is signed with a key of the agent's own. If the
// configuration lists a place's public key, only who holds its other half speaks for
// that place. If it does not, the key is the one that the living member of that name
// published when it joined; memberlist ties the name to one address as long as that
// member lives. A place then speaks only for itself, unless somebody who has the
// cluster's key takes its name while it is down. Places that are not configured are
// not let in. Messages carry an incarnation and a sequence number and count once; of
// those sequence numbers a restart remembers nothing, so that a recorded message of a
// sender's current run can count again until the next one of that sender arrives.
package gossip

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// Peer is one of the configured places, this one included.
type Peer struct {
	Place   string
	Address string            // host:port of its gossip; "" if it will call us
	Key     ed25519.PublicKey // nil: the one it publishes
}

// Body is what State gives to somebody who asks for everything.
type Body struct {
	Kind Kind
	Body []byte
}

// Config says how a Gossip works. Place, Cluster, Peers, Private, Receive and State are required.
type Config struct {
	Place   string // this agent's
	Cluster string // agents of another cluster are not talked to
	Peers   []Peer
	// BindAddr and BindPort are where it listens, TCP and UDP. Defaults 0.0.0.0 and 7951;
	// port -1 picks a free one.
	BindAddr string
	BindPort int
	// AdvertiseAddr and AdvertisePort are what peers connect to. Default: the same.
	AdvertiseAddr string
	AdvertisePort int
	// Keys encrypt all traffic with AES; 16, 24 or 32 bytes each. The first one encrypts,
	// all decrypt. None: no encryption.
	Keys [][]byte
	// Private signs what this agent says.
	Private ed25519.PrivateKey
	// Incarnation has to be greater than at any start before.
	Incarnation uint64
	// Seen is what Seen returned before a restart, so that nothing old counts as new.
	Seen map[string]uint64
	// Known is what Known returned before a restart: where peers were last.
	Known map[string]string
	// Receive takes each message that is to be believed. It must not wait.
	Receive func(Message)
	// State is everything that this agent has to say, for peers that join and, now and
	// then, for all.
	State func() []Body
	// PushPull is how often everything is compared with one peer. Default 20 s.
	PushPull time.Duration
	// Rejoin is how often peers that are not members are tried again, for ever. Default 5 s.
	Rejoin  time.Duration
	Log     *slog.Logger          // default: none
	Metrics prometheus.Registerer // default: none
	// Transport replaces the network, for tests.
	Transport memberlist.Transport
}

const (
	defaultPort = 7951
	// tcpTimeout bounds each connection to a peer, maxStreams how many there are at once.
	tcpTimeout = 5 * time.Second
	maxStreams = 64
)

// Gossip is this agent's part of the cluster.
type Gossip struct {
	cfg     Config
	log     *slog.Logger
	members *members
	keys    *memberlist.Keyring

	sent, received, refused *prometheus.CounterVec

	mu      sync.Mutex
	seq     uint64
	windows map[string]*window // by place
	list    *memberlist.Memberlist

	streams chan struct{}
	sending sync.WaitGroup
}

// New makes a Gossip. Run starts it.
func New(cfg Config) (*Gossip, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if err := validate(cfg); err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, log: cfg.Log, windows: map[string]*window{}, streams: make(chan struct{}, maxStreams)}
	g.members = newMembers(cfg)
	if len(cfg.Keys) > 0 {
		ring, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "gossip keys: %w", err)
		}
		g.keys = ring
	}
	for place, incarnation := range cfg.Seen {
		g.windows[place] = &window{last: vote.Stamp{Incarnation: incarnation}}
	}
	reg := promauto.With(cfg.Metrics)
	counter := func(name, help, label string) *prometheus.CounterVec {
		return reg.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	g.sent = counter("goavail_gossip_sent_total", "Messages to peers by way: packet or stream.", "way")
	g.received = counter("goavail_gossip_received_total", "Messages of peers that were taken, by place.", "place")
	g.refused = counter("goavail_gossip_refused_total", "Messages that were not taken, by reason: broken, stranger, signature or repeated.", "reason")
	return g, nil
}

func validate(cfg Config) error {
	label := "goavail/" + cfg.Cluster
	switch {
	case cfg.Place == "" || len(cfg.Place) > maxPlace:
		return pancake.Errorf(pancake.Invalid, "a place needs a name of at most %d bytes", maxPlace)
	case len(label) > memberlist.LabelMaxSize:
		return pancake.Errorf(pancake.Invalid, "cluster name %q is too long", cfg.Cluster)
	case len(cfg.Private) != ed25519.PrivateKeySize || cfg.Receive == nil || cfg.State == nil:
		return pancake.Errorf(pancake.Internal, "gossip needs a private key, Receive and State")
	}
	for _, k := range cfg.Keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return pancake.Errorf(pancake.Invalid, "gossip key: %d bytes long; an AES key has 16, 24 or 32", len(k))
		}
	}
	for _, p := range cfg.Peers {
		if p.Place == cfg.Place && p.Key != nil && !p.Key.Equal(cfg.Private.Public()) {
			return pancake.Errorf(pancake.Invalid, "the key that is configured for place %s is not this agent's; is it the right place?", p.Place)
		}
		if p.Address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(p.Address); err != nil {
			return pancake.Errorf(pancake.Invalid, "address %q of place %s is not host:port", p.Address, p.Place)
		}
	}
	return nil
}

// Run joins the cluster and stays in it until ctx ends. It fails at once if it cannot listen.
func (g *Gossip) Run(ctx context.Context) error {
	list, err := memberlist.Create(g.memberlistConfig())
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "gossip cannot start on %s: %w", net.JoinHostPort(g.cfg.BindAddr, strconv.Itoa(g.cfg.BindPort)), err)
	}
	g.mu.Lock()
	g.list = list
	g.mu.Unlock()
	g.members.self(list.LocalNode())
	g.log.InfoContext(ctx, "gossip listens", "address", list.LocalNode().Address(), "cluster", g.cfg.Cluster)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.join(ctx, list) })
	err = group.Wait()
	g.mu.Lock()
	g.list = nil
	g.mu.Unlock()
	g.sending.Wait() // bounded by tcpTimeout
	if shutErr := list.Shutdown(); shutErr != nil {
		g.log.Warn("gossip did not stop cleanly", "err", shutErr)
	}
	return err
}

func (g *Gossip) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label = g.cfg.Place, "goavail/"+g.cfg.Cluster
	c.BindAddr = cmp.Or(g.cfg.BindAddr, "0.0.0.0")
	c.BindPort = max(cmp.Or(g.cfg.BindPort, defaultPort), 0)
	c.AdvertiseAddr = g.cfg.AdvertiseAddr
	c.AdvertisePort = cmp.Or(g.cfg.AdvertisePort, c.BindPort)
	c.PushPullInterval = cmp.Or(g.cfg.PushPull, 20*time.Second)
	c.TCPTimeout = tcpTimeout
	c.ProbeTimeout, c.ProbeInterval = time.Second, 2*time.Second // peers may be on other continents
	c.UDPBufferSize = packetSize
	c.EnableCompression = false
	c.DeadNodeReclaimTime = time.Second // an agent may come back under another address
	c.Keyring = g.keys
	c.Delegate, c.Events, c.Alive, c.Conflict = delegate{g}, g.members, g.members, g.members
	c.Logger = bridge(g.log)
	c.Transport = g.cfg.Transport
	return c
}

// Broadcast tells all other agents, as far as they can be reached.
func (g *Gossip) Broadcast(kind Kind, body []byte) {
	g.mu.Lock()
	list := g.list
	g.mu.Unlock()
	if list == nil {
		return
	}
	for _, node := range g.members.others() {
		g.send(list, node, g.envelope(kind, body))
	}
}

// Send tells one place, if it can be reached.
func (g *Gossip) Send(place string, kind Kind, body []byte) {
	g.mu.Lock()
	list := g.list
	g.mu.Unlock()
	if node, ok := g.members.node(place); ok && list != nil {
		g.send(list, node, g.envelope(kind, body))
	}
}

func (g *Gossip) envelope(kind Kind, body []byte) []byte {
	g.mu.Lock()
	g.seq++
	stamp := vote.Stamp{Incarnation: g.cfg.Incarnation, Seq: g.seq}
	g.mu.Unlock()
	return seal(Message{From: g.cfg.Place, Stamp: stamp, Kind: kind, Body: body}, g.cfg.Cluster, g.cfg.Private)
}

// send does not wait: what fits no packet goes over a connection of its own.
func (g *Gossip) send(list *memberlist.Memberlist, to member, envelope []byte) {
	if len(envelope) <= packetSize-overhead/2 {
		if err := list.SendBestEffort(&to.Node, envelope); err != nil {
			g.log.Debug("a packet was not sent", "place", to.Name, "err", err)
			return
		}
		g.sent.WithLabelValues("packet").Inc()
		return
	}
	if !to.alive {
		return // it gets everything when it comes back
	}
	select {
	case g.streams <- struct{}{}:
	default:
		return // so many are under way; the next comparison of states repairs it
	}
	g.sending.Go(func() {
		defer func() { <-g.streams }()
		if err := list.SendReliable(&to.Node, envelope); err != nil {
			g.log.Debug("a message was not sent", "place", to.Name, "err", err)
			return
		}
		g.sent.WithLabelValues("stream").Inc()
	})
}

// take looks at what came from the network and passes on what is to be believed.
func (g *Gossip) take(b []byte) {
	m, err := open(b)
	reason := "broken"
	switch {
	case err != nil:
	case m.From == g.cfg.Place:
		return // our own words, sent back
	case !g.members.configured(m.From):
		reason = "stranger"
	case !verify(b, g.cfg.Cluster, g.members.key(m.From)):
		reason = "signature"
	case !g.fresh(m):
		reason = "repeated"
	default:
		g.received.WithLabelValues(m.From).Inc()
		g.members.heard(m.From, time.Now())
		g.cfg.Receive(m)
		return
	}
	g.refused.WithLabelValues(reason).Inc()
	g.log.Debug("a message was not taken", "reason", reason, "from", m.From, "err", err)
}

func (g *Gossip) fresh(m Message) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.windows[m.From]
	if w == nil {
		w = &window{}
		g.windows[m.From] = w
	}
	return w.take(m.Stamp)
}

// Seen is the incarnation of every place that was heard of.
func (g *Gossip) Seen() map[string]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[string]uint64{}
	for place, w := range g.windows {
		out[place] = w.last.Incarnation
	}
	return out
}
