package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Transport is a memberlist transport that speaks to NinesStack Sidecars over
// another one, which carries the bytes.
type Transport struct {
	memberlist.NodeAwareTransport
	cluster *Cluster
	refused func(error)
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	stop    sync.Once
	running sync.WaitGroup
}

// NewTransport wraps carrier. refused is told of each message that is not
// passed on, from several goroutines; it must not block. Shutdown ends both.
func NewTransport(carrier memberlist.NodeAwareTransport, cluster *Cluster, refused func(error)) *Transport {
	t := &Transport{
		NodeAwareTransport: carrier, cluster: cluster, refused: refused,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	t.running.Go(t.receive)
	t.running.Go(t.accept)
	return t
}

// receive opens packets.
func (t *Transport) receive() {
	for {
		select {
		case <-t.done:
			return
		case p := <-t.NodeAwareTransport.PacketCh():
			messages, err := t.cluster.Open(p.Buf)
			if err != nil {
				t.refused(err)
			}
			for _, m := range messages {
				select {
				case t.packets <- &memberlist.Packet{Buf: m, From: p.From, Timestamp: p.Timestamp}:
				case <-t.done:
					return
				}
			}
		}
	}
}

func (t *Transport) accept() {
	for {
		select {
		case <-t.done:
			return
		case c := <-t.NodeAwareTransport.StreamCh():
			select {
			case t.streams <- t.wrap(c):
			case <-t.done:
				_ = c.Close() // nobody is left to serve it
				return
			}
		}
	}
}

// PacketCh returns the messages that came in packets, one each.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the connections that peers have made.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo sends a packet.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet.
func (t *Transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	sealed, err := t.cluster.Seal(b)
	if err != nil {
		return time.Time{}, err
	}
	return t.NodeAwareTransport.WriteToAddress(sealed, addr)
}

// DialTimeout connects to a peer.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout connects to a peer.
func (t *Transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := t.NodeAwareTransport.DialAddressTimeout(addr, timeout)
	if err != nil {
		return nil, err
	}
	return t.wrap(c), nil
}

// Shutdown stops listening. memberlist reads on until it returns.
func (t *Transport) Shutdown() error {
	err := t.NodeAwareTransport.Shutdown() // it waits for what it has still to hand over
	t.stop.Do(func() { close(t.done) })
	t.running.Wait()
	return err
}

func (t *Transport) wrap(c net.Conn) net.Conn { return &conn{Conn: c, t: t} }

// conn is a connection over which one message goes each way.
type conn struct {
	net.Conn
	t     *Transport
	in    io.Reader // nil until the first Read
	fault error
	wrote bool
}

func (c *conn) Read(p []byte) (int, error) {
	if c.in == nil && c.fault == nil {
		if c.in, c.fault = c.t.cluster.OpenStream(c.Conn); Cause(c.fault) != "" {
			c.t.refused(c.fault)
		}
	}
	if c.fault != nil {
		return 0, c.fault
	}
	n, err := c.in.Read(p)
	if errors.Is(err, ErrTooLarge) {
		c.fault = err
		c.t.refused(err)
	}
	return n, err
}

// Write adds the cluster's name to a state. memberlist writes a message at once.
func (c *conn) Write(p []byte) (int, error) {
	if c.wrote {
		return c.Conn.Write(p)
	}
	c.wrote = true
	sealed, err := c.t.cluster.SealStream(p)
	if err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(sealed); err != nil {
		return 0, err
	}
	return len(p), nil
}
