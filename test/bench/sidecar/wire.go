package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// wire is what the nodes of a cluster share: it loses packets, and hosts fall off it.
type wire struct {
	loss float64 // of packets, 0 to 1

	mu   sync.Mutex
	dead map[string]bool // by IP
	sent atomic.Int64    // bytes, with 28 of IP and UDP per packet
}

func newWire(loss float64) *wire { return &wire{loss: loss, dead: map[string]bool{}} }

// cut takes a host off the wire, as if its power had failed.
func (w *wire) cut(ip string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[ip] = true
}

func (w *wire) isCut(ips ...string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ip := range ips {
		if w.dead[ip] {
			return true
		}
	}
	return false
}

const (
	// port is where gossip listens; each node has an address of its own.
	port = 7946
	// udpHeader is that of UDP and IPv4 together, in bytes.
	udpHeader = 28
	// maxPacket is the largest that UDP carries, in bytes.
	maxPacket = 64 << 10
	// socketBuffer is what memberlist asks the kernel for, in bytes.
	socketBuffer = 2 << 20
)

// transport is a node's real UDP and TCP on the wire. memberlist's own takes 64 KiB of
// memory anew for each packet, which with hundreds of nodes in one process is most of the work.
type transport struct {
	wire    *wire
	ip      string
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	readers sync.WaitGroup
}

func (w *wire) attach(ip string) (*transport, error) {
	addr := net.ParseIP(ip)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: addr, Port: port})
	if err != nil {
		return nil, err
	}
	if err := udp.SetReadBuffer(socketBuffer); err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: addr, Port: port})
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	t := &transport{wire: w, ip: ip, udp: udp, tcp: tcp, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closed: make(chan struct{})}
	t.readers.Go(t.readPackets)
	t.readers.Go(t.accept)
	return t, nil
}

// readPackets hands on packets until the socket is closed.
func (t *transport) readPackets() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := t.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			select {
			case t.packets <- &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}:
			case <-t.closed:
			}
		}
	}
}

// accept hands on connections until the socket is closed.
func (t *transport) accept() {
	for {
		c, err := t.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			select {
			case t.streams <- c:
			case <-t.closed:
				_ = c.Close() // nobody will read it
			}
		}
	}
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.ParseIP(t.ip).To4(), port, nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

// Shutdown ends the readers. It is called once.
func (t *transport) Shutdown() error {
	close(t.closed)
	err := errors.Join(t.udp.Close(), t.tcp.Close())
	t.readers.Wait()
	return err
}

// WriteTo sends a packet, unless it is lost.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return now, err
	}
	t.wire.sent.Add(int64(len(b)) + udpHeader)
	if ip := to.IP.String(); ip != t.ip && (t.wire.isCut(t.ip, ip) || rand.Float64() < t.wire.loss) { // what a host sends to itself never leaves it
		return now, nil
	}
	_, err = t.udp.WriteTo(b, to)
	return now, err
}

var errCut = errors.New("no answer")

// DialTimeout connects. A lost SYN, or its answer, is sent again after a second.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if t.wire.isCut(t.ip, host) {
		time.Sleep(timeout)
		return nil, errCut
	}
	for wait := time.Second; rand.Float64() < 1-(1-t.wire.loss)*(1-t.wire.loss); wait *= 2 {
		if timeout -= wait; timeout <= 0 {
			return nil, errCut
		}
		time.Sleep(wait)
	}
	c, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, err
	}
	return &conn{c, t.wire}, nil
}

// conn counts what goes over a connection, in both directions.
type conn struct {
	net.Conn
	wire *wire
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.sent.Add(int64(n))
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wire.sent.Add(int64(n))
	return n, err
}
