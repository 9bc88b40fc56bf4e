package bridge

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/bridge/mirror"
	"github.com/pancake-stack/pancake/sidecar/bridge/wire"
)

const (
	// rejoinEvery is how often the seeds are joined again though there are other
	// members, so that a partition that outlasted memberlist's patience ends.
	rejoinEvery = time.Minute
	// gossipEvery and gossipTo let the bridge, which speaks for many hosts, send
	// ten times as much as one Sidecar, which does 200 ms and 3: with a few records
	// to a packet, and each told several times, about 140 records a second.
	gossipEvery = 50 * time.Millisecond
	gossipTo    = 8
	// leaveFor is how long the goodbye may take.
	leaveFor = time.Second
	// rememberGone is how long a Sidecar that has gone is remembered: as long as
	// the tombstones of its services, which may have to be passed on.
	rememberGone = 3 * time.Hour
)

// member is the bridge as a member of the old cluster. It is what memberlist calls.
type member struct {
	cfg     Config
	cluster *wire.Cluster
	loop    *loop
	report  *report
	meta    []byte
	queue   *memberlist.TransmitLimitedQueue

	mu     sync.Mutex
	nodes  map[string]node
	listen string // host:port, as it is announced
}

type node struct {
	bridge string // the host of ours on which the bridge runs that it is, or ""
	alive  bool
	since  time.Time
}

func newMember(cfg Config, cluster *wire.Cluster, l *loop, r *report) (*member, error) {
	m := &member{cfg: cfg, cluster: cluster, loop: l, report: r, nodes: map[string]node{}}
	var err error
	if m.meta, err = json.Marshal(meta{ClusterName: cfg.Cluster, State: "Running", Bridge: cfg.Host}); err != nil {
		return nil, err
	}
	if len(m.meta) > memberlist.MetaMaxSize {
		return nil, pancake.Errorf(pancake.Invalid, "the names of the old cluster and of this host have %d bytes together; about %d are allowed",
			len(cfg.Cluster)+len(cfg.Host), memberlist.MetaMaxSize-64)
	}
	m.queue = &memberlist.TransmitLimitedQueue{NumNodes: m.size, RetransmitMult: 4}
	return m, nil
}

func (m *member) run(ctx context.Context) error {
	if err := m.portIsFree(ctx); err != nil {
		return err
	}
	list, err := m.create(ctx)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "the bridge cannot listen on %s port %d: %w", m.cfg.BindAddr, m.cfg.BindPort, err)
	}
	m.mu.Lock()
	m.listen = list.LocalNode().Address()
	m.mu.Unlock()
	m.report.log.InfoContext(ctx, "bridge listens", "announced", m.address(), "cluster", m.cfg.Cluster, "name", m.cfg.Name)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.join(ctx, list) })
	err = group.Wait()
	if !m.cfg.Quiet {
		if leaveErr := list.Leave(leaveFor); leaveErr != nil {
			m.report.log.Debug("the old cluster may not know that this bridge has left", "err", leaveErr)
		}
	}
	if stopErr := list.Shutdown(); stopErr != nil {
		m.report.log.Warn("the bridge did not stop cleanly", "err", stopErr)
	}
	return err
}

// portIsFree opens the port and closes it again: memberlist, which opens it for good, does
// not tell one that is taken from other failures.
func (m *member) portIsFree(ctx context.Context) error {
	addr := net.JoinHostPort(m.cfg.BindAddr, strconv.Itoa(m.cfg.BindPort))
	tcp, err := serve.Listen(ctx, addr)
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	_ = tcp.Close() // it was not used
	udp, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return pancake.Errorf(pancake.Conflict, "bridge: cannot listen on %s, UDP: another program already does; stop it or choose another address: %w", addr, err)
	}
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "bridge: cannot listen on %s, UDP: %w", addr, err)
	}
	_ = udp.Close() // the same
	return nil
}

func (m *member) create(ctx context.Context) (*memberlist.Memberlist, error) {
	logger := log.New(logWriter{m.report.log}, "", 0)
	carrier, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{m.cfg.BindAddr}, BindPort: m.cfg.BindPort, Logger: logger})
	if err != nil {
		return nil, err
	}
	transport := wire.NewTransport(carrier, m.cluster, func(err error) {
		m.report.refuse(ctx, wire.Cause(err), "", "something that came from the old cluster's network was not taken", err)
	})
	c := memberlist.DefaultLANConfig()
	c.Name, c.BindAddr, c.BindPort = m.cfg.Name, m.cfg.BindAddr, carrier.GetAutoBindPort()
	c.AdvertiseAddr, c.AdvertisePort = m.cfg.AdvertiseAddr, cmp.Or(m.cfg.AdvertisePort, c.BindPort)
	c.PushPullInterval = m.cfg.PushPull
	c.GossipInterval, c.GossipNodes = gossipEvery, gossipTo
	c.EnableCompression = false // the cluster's name has to be added to what is sent
	c.DeadNodeReclaimTime = 10 * time.Second
	c.Delegate, c.Events, c.Logger, c.Transport = m, m, logger, transport
	list, err := memberlist.Create(c)
	if err != nil {
		_ = transport.Shutdown() // it is the failure to start that matters
	}
	return list, err
}

// join joins the seeds until one answers, and now and then from there on.
func (m *member) join(ctx context.Context, list *memberlist.Memberlist) error {
	seeds := make([]string, len(m.cfg.Seeds))
	for i, s := range m.cfg.Seeds {
		seeds[i] = seedAddress(s)
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 500*time.Millisecond, 30*time.Second
	for {
		done := make(chan error, 1)
		go func() { // it cannot be cancelled; memberlist's own limits end it
			_, err := list.Join(seeds)
			done <- err
		}()
		pause := rejoinEvery
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-done:
			if err == nil {
				wait.Reset()
			} else if m.size() < 2 {
				pause = wait.NextBackOff()
				m.report.once(ctx, "join", "no Sidecar of the old cluster can be joined; the bridge keeps trying. One that closes the connection may be of a cluster with another name",
					"seeds", seeds, "cluster", m.cfg.Cluster, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (m *member) address() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listen
}

// size counts the living members, this one included.
func (m *member) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, node := range m.nodes {
		if node.alive {
			n++
		}
	}
	return n
}

// hosts implements oldSide.
func (m *member) hosts(now time.Time) (map[string]mirror.Presence, map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sidecars, bridges := make(map[string]mirror.Presence, len(m.nodes)), map[string]string{}
	for name, n := range m.nodes {
		switch {
		case !n.alive && now.Sub(n.since) > rememberGone:
			delete(m.nodes, name)
		case n.bridge != "":
			if n.alive {
				bridges[name] = n.bridge
			}
		case n.alive:
			sidecars[name] = mirror.Present
		default:
			sidecars[name] = mirror.Gone
		}
	}
	return sidecars, bridges
}

// send implements oldSide.
func (m *member) send(records []pancake.Service) {
	for i := range records {
		b, err := json.Marshal(&records[i])
		if err != nil || len(b) > maxRecord {
			m.report.refused.WithLabelValues("oversized").Inc() // shape has seen to it
			continue
		}
		m.queue.QueueBroadcast(broadcast{records[i].Hostname + "/" + records[i].ID, b})
	}
}

// broadcast is one record on its way. A newer one of the same service replaces it.
type broadcast struct {
	name string
	b    []byte
}

func (b broadcast) Name() string    { return b.name }
func (b broadcast) Message() []byte { return b.b }
func (b broadcast) Finished()       {}
func (b broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(broadcast)
	return ok && o.name == b.name
}

// What follows is called by memberlist, which may hold its lock: nothing waits.

func (m *member) NotifyJoin(n *memberlist.Node)   { m.set(n, true) }
func (m *member) NotifyUpdate(n *memberlist.Node) { m.set(n, true) }
func (m *member) NotifyLeave(n *memberlist.Node)  { m.set(n, false) }

func (m *member) set(n *memberlist.Node, alive bool) {
	m.mu.Lock()
	old, known := m.nodes[n.Name]
	next := node{bridge: bridgeOf(n.Meta), alive: alive, since: time.Now()}
	m.nodes[n.Name] = next
	m.mu.Unlock()
	if !known || old.alive != alive {
		m.report.log.Info("member of the old cluster changed", "name", n.Name, "address", n.Address(), "alive", alive, "bridge", next.bridge != "")
	}
	m.loop.poke()
}

func (m *member) NodeMeta(int) []byte { return m.meta }

// NotifyMsg takes one record.
func (m *member) NotifyMsg(b []byte) {
	m.report.received.WithLabelValues("message").Inc()
	s, err := decodeRecord(b)
	if err != nil {
		m.report.refuse(context.Background(), "record", "", "a message of the old cluster is no service; it was not taken", err)
		return
	}
	if !m.loop.hear([]pancake.Service{s}) {
		m.report.refused.WithLabelValues("busy").Inc()
	}
}

func (m *member) GetBroadcasts(overhead, limit int) [][]byte {
	return m.queue.GetBroadcasts(overhead, limit)
}

// LocalState is the whole catalogue of the old side, what was mirrored there included.
func (m *member) LocalState(bool) []byte {
	b, err := encodeState(m.loop.old.Load())
	if err != nil {
		m.report.refuse(context.Background(), "encode", "", "the catalogue cannot be written as JSON", err)
		return nil
	}
	return b
}

// MergeRemoteState takes the whole catalogue of a peer.
func (m *member) MergeRemoteState(b []byte, _ bool) {
	m.report.received.WithLabelValues("state").Inc()
	cluster, records, err := decodeState(b)
	if err != nil {
		m.report.refuse(context.Background(), "state", "", "a part of a state of the old cluster was not taken", err)
	}
	if len(records) == 0 {
		return
	}
	if cluster != m.cfg.Cluster {
		m.report.refuse(context.Background(), "cluster", "", "a state of another cluster was not taken",
			fmt.Errorf("it names %.80q, not %q", cluster, m.cfg.Cluster))
		return
	}
	if !m.loop.hear(records) {
		m.report.refused.WithLabelValues("busy").Inc()
	}
}

// logWriter passes memberlist's log lines on. Its errors are about single
// packets and peers, and it goes on.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	line := bytes.TrimSpace(b)
	level := slog.LevelDebug
	if bytes.HasPrefix(line, []byte("[WARN]")) || bytes.HasPrefix(line, []byte("[ERR]")) {
		level = slog.LevelInfo
	}
	_, text, found := bytes.Cut(line, []byte("memberlist: "))
	if !found {
		text = line
	}
	w.log.Log(context.Background(), level, "memberlist of the old cluster", "text", string(text))
	return len(b), nil
}

var (
	_ memberlist.Delegate       = (*member)(nil)
	_ memberlist.EventDelegate  = (*member)(nil)
	_ memberlist.NamedBroadcast = broadcast{}
	_ oldSide                   = (*member)(nil)
)
