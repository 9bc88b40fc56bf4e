package oldsidecar_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/bridge"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
	"github.com/pancake-stack/pancake/test/oldsidecar"
)

// relay is what stands between the old cluster and a bridge behind another address.
type relay struct {
	tcp      net.Listener
	udp      net.PacketConn
	to       string
	packets  atomic.Int64 // from the old cluster
	streams  atomic.Int64
	mu       sync.Mutex
	upstream map[string]net.Conn // by the address of the peer
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	r := &relay{to: to, upstream: map[string]net.Conn{}}
	var err error
	if r.tcp, err = net.Listen("tcp", "127.62.4.3:0"); err != nil {
		t.Fatal(err)
	}
	if r.udp, err = net.ListenPacket("udp", r.tcp.Addr().String()); err != nil {
		t.Fatal(err)
	}
	go r.carryPackets()
	go r.carryStreams()
	t.Cleanup(func() {
		_, _ = r.tcp.Close(), r.udp.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.upstream {
			_ = c.Close()
		}
	})
	return r
}

func (r *relay) carryPackets() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		r.packets.Add(1)
		r.mu.Lock()
		up := r.upstream[from.String()]
		if up == nil {
			if up, err = net.Dial("udp", r.to); err != nil {
				r.mu.Unlock()
				continue
			}
			r.upstream[from.String()] = up
			go func() { // what comes back
				back := make([]byte, 64<<10)
				for {
					n, err := up.Read(back)
					if errors.Is(err, net.ErrClosed) {
						return
					}
					_, _ = r.udp.WriteTo(back[:n], from)
				}
			}()
		}
		r.mu.Unlock()
		_, _ = up.Write(buf[:n])
	}
}

func (r *relay) carryStreams() {
	for {
		c, err := r.tcp.Accept()
		if err != nil {
			return
		}
		r.streams.Add(1)
		up, err := net.Dial("tcp", r.to)
		if err != nil {
			_ = c.Close()
			continue
		}
		go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
		go func() { _, _ = io.Copy(c, up); _ = c.Close() }()
	}
}

// freePort is a port of 127.62.4.2 that is free for TCP and UDP.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.62.4.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(ln.Addr())
	}
	return addr.Port
}

// TestAdvertise: a bridge that listens at one address and is reached at another stays a
// member of the old cluster, which talks to it there.
func TestAdvertise(t *testing.T) {
	port := freePort(t)
	through := newRelay(t, net.JoinHostPort("127.62.4.2", strconv.Itoa(port)))
	announced, ok := through.tcp.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(through.tcp.Addr())
	}
	peer, err := oldsidecar.New(oldsidecar.Config{
		Name: "o1", Cluster: "bench", BindAddr: "127.62.4.1", PushPull: 300 * time.Millisecond, Gossip: 50 * time.Millisecond,
		ProbeEvery: 100 * time.Millisecond, ProbeTimeout: 50 * time.Millisecond, SuspectFor: 500 * time.Millisecond,
		Log: logger(t, "peer"),
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bridge.New(bridge.Config{
		Ours: bridge.Local{
			State: feed.New(catalog.New("p0", "new").Snapshot()),
			Peers: func() []client.Member { return []client.Member{{Name: "p0", State: client.MemberAlive}} },
			Merge: func(context.Context, []pancake.Service) {},
		},
		Host: "p0", Cluster: "bench", Seeds: []string{peer.Address()}, BindAddr: "127.62.4.2", BindPort: port,
		AdvertiseAddr: "127.62.4.3", AdvertisePort: announced.Port, Log: logger(t, "bridge"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() { _ = peer.Run(ctx) })
	running.Go(func() {
		if err := b.Run(ctx); ctx.Err() == nil {
			t.Errorf("the bridge ended: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	const name = "pancake-bridge-p0"
	// Ten probes, of which one that fails has the peer suspect the bridge, and take it for dead.
	for end := time.Now().Add(time.Minute); through.packets.Load() < 50 || through.streams.Load() < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the old cluster sent %d packets and made %d connections to the address that was announced", through.packets.Load(), through.streams.Load())
		}
	}
	if state, known := peer.Members()[name]; !known || state != oldsidecar.Alive {
		t.Errorf("for the old cluster the bridge is %v", state)
	}
	if got := b.Status().Address; got != through.tcp.Addr().String() {
		t.Errorf("it says that it is at %s", got)
	}
}
