package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake"
)

// wire is the network: UDP and TCP on one port. memberlist's own keeps 64 KiB for
// each packet until it is handled, which a burst makes much, and counts for all
// the process in one.
type wire struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	close   func() error
	wg      sync.WaitGroup
}

const (
	// receiveBuffer is what the kernel may keep for us, in bytes; it allows less by default.
	receiveBuffer = 2 << 20
	// freePorts is how many free TCP ports are tried until one is free for UDP, too.
	freePorts = 10
)

// listen opens the port; 0 picks a free one.
func listen(addr string, port int) (*wire, error) {
	ip := net.ParseIP(addr)
	if ip == nil {
		return nil, pancake.Errorf(pancake.Invalid, "%q is no IP address", addr)
	}
	w := &wire{packets: make(chan *memberlist.Packet, 64), streams: make(chan net.Conn), done: make(chan struct{})}
	var err error
	for range freePorts {
		if w.tcp, err = net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: port}); err != nil {
			return nil, err
		}
		free := port
		if tcp, ok := w.tcp.Addr().(*net.TCPAddr); ok {
			free = tcp.Port
		}
		if w.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: ip, Port: free}); err == nil {
			break
		}
		err = errors.Join(err, w.tcp.Close())
		if port != 0 {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	_ = w.udp.SetReadBuffer(receiveBuffer) // the kernel gives what it allows
	w.close = sync.OnceValue(func() error {
		close(w.done)
		err := errors.Join(w.udp.Close(), w.tcp.Close())
		w.wg.Wait()
		return err
	})
	w.wg.Go(w.receive)
	w.wg.Go(w.accept)
	return w, nil
}

func (w *wire) port() int {
	if tcp, ok := w.tcp.Addr().(*net.TCPAddr); ok {
		return tcp.Port
	}
	return 0
}

func (w *wire) receive() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := w.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == 0 {
			continue // of one packet, such as that an earlier one had no receiver
		}
		p := &memberlist.Packet{Buf: append(make([]byte, 0, n), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}
		select {
		case w.packets <- p:
		case <-w.done:
			return
		}
	}
}

func (w *wire) accept() {
	for {
		conn, err := w.tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(100 * time.Millisecond): // out of files, for example
				continue
			case <-w.done:
				return
			}
		}
		select {
		case w.streams <- conn:
		case <-w.done:
			_ = conn.Close()
			return
		}
	}
}

// FinalAdvertiseAddr is what peers connect to: ip, or where we listen, or a private
// address of this host.
func (w *wire) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip != "" {
		addr := net.ParseIP(ip)
		if addr == nil {
			return nil, 0, fmt.Errorf("advertise address %q is no IP address", ip)
		}
		return short(addr), port, nil
	}
	if tcp, ok := w.tcp.Addr().(*net.TCPAddr); ok && !tcp.IP.IsUnspecified() {
		return short(tcp.IP), tcp.Port, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, 0, fmt.Errorf("list the addresses of this host: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsPrivate() {
			return short(n.IP), w.port(), nil
		}
	}
	return nil, 0, errors.New("this host has no private address; give one to advertise")
}

func short(ip net.IP) net.IP {
	if v4 := ip.To4(); v4 != nil {
		return v4
	}
	return ip
}

// WriteTo sends a packet.
func (w *wire) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %q: %w", addr, err)
	}
	_, err = w.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// DialTimeout connects to a peer.
func (w *wire) DialTimeout(addr string, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// PacketCh is where packets arrive.
func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

// StreamCh is where connections arrive.
func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

// Shutdown closes the port.
func (w *wire) Shutdown() error { return w.close() }
