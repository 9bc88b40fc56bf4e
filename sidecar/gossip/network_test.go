package gossip_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// network connects transports in memory. It delays packets by a millisecond,
// loses some, and can be cut in two.
type network struct {
	mu    sync.Mutex
	nodes map[string]*transport // by host:port
	loss  float64               // of packets, 0 to 1
	side  map[string]int        // what has different sides does not reach each other
	hangs bool                  // who dials the other side hears nothing, instead of being refused
	rand  *rand.Rand
}

func newNetwork(loss float64) *network {
	return &network{nodes: map[string]*transport{}, side: map[string]int{}, loss: loss, rand: rand.New(rand.NewPCG(1, 2))}
}

// transport is one host's part of the network: a memberlist.Transport.
type transport struct {
	net     *network
	addr    net.TCPAddr
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (n *network) node(i int) *transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &transport{
		net: n, addr: net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(i)), Port: 7946},
		packets: make(chan *memberlist.Packet, 1000), streams: make(chan net.Conn, 100),
	}
	n.nodes[t.addr.String()] = t
	return t
}

// cut puts hosts on a side.
func (n *network) cut(side int, hosts ...*transport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range hosts {
		n.side[t.addr.String()] = side
	}
}

// hang has hosts that cannot be reached say nothing to who dials them, or refuse at once.
func (n *network) hang(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hangs = on
}

// silence is how long somebody waits for a host that cannot be reached.
func (n *network) silence(limit time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hangs {
		return limit
	}
	return 0
}

// reach returns the host with the address, nil if from cannot reach it.
func (n *network) reach(from *transport, to string, packet bool) *transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.side[from.addr.String()] != n.side[to] || packet && n.rand.Float64() < n.loss {
		return nil
	}
	return n.nodes[to]
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.IP, t.addr.Port, nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if to := t.net.reach(t, addr, true); to != nil {
		p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: &t.addr}
		time.AfterFunc(time.Millisecond, func() {
			p.Timestamp = time.Now()
			select {
			case to.packets <- p:
			default: // as a socket whose buffer is full
			}
		})
	}
	return now, nil
}

func (t *transport) DialTimeout(addr string, limit time.Duration) (net.Conn, error) {
	to := t.net.reach(t, addr, false)
	if to == nil {
		time.Sleep(t.net.silence(limit))
		return nil, errors.New("no route to " + addr)
	}
	near, far := net.Pipe()
	select {
	case to.streams <- &conn{far, &t.addr}:
		return &conn{near, &to.addr}, nil
	default:
		return nil, errors.New("refused by " + addr)
	}
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) Shutdown() error {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	delete(t.net.nodes, t.addr.String())
	return nil
}

func (t *transport) String() string { return t.addr.IP.String() + ":" + strconv.Itoa(t.addr.Port) }

// conn is a pipe that knows its peer.
type conn struct {
	net.Conn
	peer net.Addr
}

func (c *conn) RemoteAddr() net.Addr { return c.peer }
