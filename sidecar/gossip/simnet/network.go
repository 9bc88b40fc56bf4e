// Package simnet is for tests: a network in memory that delays, loses and cuts,
// and the smallest possible Sidecar on it. In a testing/synctest bubble hundreds
// of hosts live for an hour within minutes.
package simnet

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Network connects transports in memory. All methods may be called at any time.
type Network struct {
	mu    sync.Mutex
	nodes map[string]*Transport // by host:port
	side  map[string]int        // what has different sides does not reach each other
	loss  float64               // of packets, 0 to 1
	delay time.Duration         // one way
	hangs bool                  // who dials the other side hears nothing, instead of being refused
	rand  *rand.Rand
	bytes int64
}

// New makes a network that delays by a millisecond and loses nothing.
func New(seed uint64) *Network {
	return &Network{
		nodes: map[string]*Transport{}, side: map[string]int{}, delay: time.Millisecond, rand: rand.New(rand.NewPCG(seed, 2)),
	}
}

// Disturb sets the share of packets that are lost and the delay, one way.
func (n *Network) Disturb(loss float64, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.delay = loss, delay
}

// Cut puts hosts on a side: hosts reach those of their own side only.
func (n *Network) Cut(side int, hosts ...*Transport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range hosts {
		n.side[t.String()] = side
	}
}

// Heal ends all cuts but those of hosts on one side.
func (n *Network) Heal(but int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for host, side := range n.side {
		if side != but {
			delete(n.side, host)
		}
	}
}

// Hang has hosts that cannot be reached say nothing to who dials them, or refuse at once.
func (n *Network) Hang(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hangs = on
}

// Bytes is what was sent so far by all, without headers of IP, UDP and TCP.
func (n *Network) Bytes() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bytes
}

// Transport is one host's part of the network: a memberlist.Transport.
type Transport struct {
	net     *Network
	addr    net.TCPAddr
	packets chan *memberlist.Packet
	streams chan net.Conn
}

// Node makes the transport of host number i, 1 to 65,000, in place of an earlier one.
func (n *Network) Node(i int) *Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &Transport{
		net: n, addr: net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)).To4(), Port: 7946},
		packets: make(chan *memberlist.Packet, 4096), streams: make(chan net.Conn, 256),
	}
	n.nodes[t.String()] = t
	delete(n.side, t.String())
	return t
}

// reach returns the host with the address, nil if from cannot reach it, and how
// long it takes, or until one knows that it does not.
func (n *Network) reach(from *Transport, to string, size int, packet bool) (*Transport, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if to == from.String() {
		return n.nodes[to], 0 // it does not leave the host
	}
	n.bytes += int64(size)
	if n.nodes[from.String()] != from || n.side[from.String()] != n.side[to] {
		if n.hangs {
			return nil, time.Hour
		}
		return nil, 0
	}
	if packet && n.loss > 0 && n.rand.Float64() < n.loss {
		return nil, 0
	}
	return n.nodes[to], n.delay
}

// FinalAdvertiseAddr is the host's address.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.IP, t.addr.Port, nil
}

// WriteTo sends a packet, which may be lost.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if to, delay := t.net.reach(t, addr, len(b), true); to != nil {
		p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: &t.addr}
		time.AfterFunc(delay, func() {
			p.Timestamp = time.Now()
			select {
			case to.packets <- p:
			default: // as a socket whose buffer is full
			}
		})
	}
	return now, nil
}

// DialTimeout connects to a host.
func (t *Transport) DialTimeout(addr string, limit time.Duration) (net.Conn, error) {
	to, delay := t.net.reach(t, addr, 0, false)
	if 2*delay > limit {
		to, delay = nil, limit/2
	}
	time.Sleep(2 * delay)
	if to == nil {
		return nil, errors.New("no route to " + addr)
	}
	near, far := net.Pipe()
	select {
	case to.streams <- &conn{far, to, t}:
		return &conn{near, t, to}, nil
	default:
		return nil, errors.New("refused by " + addr)
	}
}

// PacketCh is where packets arrive.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is where connections arrive.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown takes the host off the network.
func (t *Transport) Shutdown() error {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if t.net.nodes[t.String()] == t {
		delete(t.net.nodes, t.String())
	}
	return nil
}

func (t *Transport) String() string { return t.addr.String() }

// conn is a pipe that knows its ends, and breaks where the network is cut.
type conn struct {
	net.Conn
	from, to *Transport
}

func (c *conn) RemoteAddr() net.Addr { return &c.to.addr }

func (c *conn) Write(b []byte) (int, error) {
	to, delay := c.from.net.reach(c.from, c.to.String(), len(b), false)
	if to != c.to {
		_ = c.Close()
		return 0, errors.New("connection lost")
	}
	time.Sleep(delay)
	return c.Conn.Write(b)
}
