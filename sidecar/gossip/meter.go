package gossip

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// traffic counts bytes, without the headers of IP, UDP and TCP, and UDP packets.
type traffic struct {
	sent, received, packetsSent, packetsReceived prometheus.Counter
}

// meter counts what passes a transport.
type meter struct {
	memberlist.Transport
	m       traffic
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{} // closed when nobody takes anything any more
	ended   chan struct{} // closed when the transport has ended
	close   func() error
}

func newMeter(t memberlist.Transport, m traffic) *meter {
	w := &meter{Transport: t, m: m, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}), ended: make(chan struct{})}
	w.close = sync.OnceValue(func() error {
		close(w.done)
		defer close(w.ended)
		return t.Shutdown()
	})
	go w.forward()
	return w
}

func (w *meter) forward() {
	for {
		select {
		case <-w.ended:
			return
		case p := <-w.Transport.PacketCh():
			w.m.received.Add(float64(len(p.Buf)))
			w.m.packetsReceived.Inc()
			select {
			case w.packets <- p:
			case <-w.done: // memberlist's transport ends when somebody has taken what it holds
			}
		case c := <-w.Transport.StreamCh():
			select {
			case w.streams <- &metered{c, w.m}:
			case <-w.done:
				_ = c.Close() // nobody would read it
			}
		}
	}
}

// WriteTo sends a packet.
func (w *meter) WriteTo(b []byte, addr string) (time.Time, error) {
	w.m.sent.Add(float64(len(b)))
	w.m.packetsSent.Inc()
	return w.Transport.WriteTo(b, addr)
}

// DialTimeout connects to a peer.
func (w *meter) DialTimeout(addr string, limit time.Duration) (net.Conn, error) {
	conn, err := w.Transport.DialTimeout(addr, limit)
	if err != nil {
		return nil, err
	}
	return &metered{conn, w.m}, nil
}

// PacketCh is where packets arrive.
func (w *meter) PacketCh() <-chan *memberlist.Packet { return w.packets }

// StreamCh is where connections arrive.
func (w *meter) StreamCh() <-chan net.Conn { return w.streams }

// Shutdown closes the transport.
func (w *meter) Shutdown() error { return w.close() }

// metered is a connection whose bytes are counted.
type metered struct {
	net.Conn
	m traffic
}

func (c *metered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.m.received.Add(float64(n))
	return n, err
}

func (c *metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.m.sent.Add(float64(n))
	return n, err
}
