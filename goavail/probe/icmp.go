package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// pinger sends echo requests of one family from one socket and hands the replies to
// who waits for them. The socket is opened with the first ping.
type pinger struct {
	six bool
	log *slog.Logger

	mu      sync.Mutex
	conn    *icmp.PacketConn
	raw     bool
	id      uint16 // of our requests
	waiting map[nonce]wait
	reading sync.WaitGroup
}

// nonce tells replies apart: the kernel rewrites the id on unprivileged sockets.
type nonce [16]byte

type wait struct {
	from  netip.Addr
	reply chan error
}

func (t *tools) ping(c Check) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		addr, err := netip.ParseAddr(c.Address)
		if err != nil {
			ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", c.Address)
			if err != nil {
				return err
			}
			addr = ips[0] // LookupNetIP gives one or an error
		}
		addr = addr.Unmap()
		if addr.Is4() {
			return t.v4.ping(ctx, addr)
		}
		return t.v6.ping(ctx, addr)
	}
}

func (p *pinger) ping(ctx context.Context, addr netip.Addr) error {
	var n nonce
	_, _ = rand.Read(n[:]) // never fails
	reply := make(chan error, 1)
	conn, id, raw, err := p.expect(n, wait{addr, reply})
	if err != nil {
		return err
	}
	defer p.forget(n)
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(id), Seq: 1, Data: n[:]}}
	if p.six {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	b, err := m.Marshal(nil) // for IPv6 the kernel fills in the checksum
	if err != nil {
		return fmt.Errorf("make an echo request: %w", err)
	}
	var to net.Addr = &net.UDPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}
	if raw {
		to = &net.IPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}
	}
	if _, err := conn.WriteTo(b, to); err != nil {
		return plain(err)
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return errLate
	}
}

// expect opens the socket if it is not and registers for a reply.
func (p *pinger) expect(n nonce, w wait) (conn *icmp.PacketConn, id uint16, raw bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		if err := p.open(); err != nil {
			return nil, 0, false, err
		}
	}
	p.waiting[n] = w
	return p.conn, p.id, p.raw, nil
}

func (p *pinger) forget(n nonce) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, n)
}

// open prefers the socket that needs no privilege.
func (p *pinger) open() error {
	unprivileged, privileged, any := "udp4", "ip4:icmp", "0.0.0.0"
	if p.six {
		unprivileged, privileged, any = "udp6", "ip6:ipv6-icmp", "::"
	}
	conn, err := icmp.ListenPacket(unprivileged, any)
	p.raw = false
	if err != nil {
		var rawErr error
		if conn, rawErr = icmp.ListenPacket(privileged, any); rawErr != nil {
			return fmt.Errorf("%w: ping is not permitted here; put this user's group into net.ipv4.ping_group_range, or grant CAP_NET_RAW: %w", errOwn, err)
		}
		p.raw = true
	}
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	p.id = binary.BigEndian.Uint16(id[:])
	if p.raw {
		p.filter(conn)
	}
	p.conn, p.waiting = conn, map[nonce]wait{}
	p.reading.Go(func() { p.read(conn) })
	return nil
}

// filter has the kernel drop what is not for us: a raw socket gets a copy of all ICMP that
// comes to this machine. Without it, take does.
func (p *pinger) filter(conn *icmp.PacketConn) {
	if p.six {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv6.ICMPTypeEchoReply)
		_ = conn.IPv6PacketConn().SetICMPFilter(&f)
		return
	}
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadMemShift{Off: 0}, // the length of the IP header
		bpf.LoadIndirect{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(ipv4.ICMPTypeEchoReply), SkipTrue: 3},
		bpf.LoadIndirect{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(p.id), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err == nil {
		_ = conn.IPv4PacketConn().SetBPF(program) // only Linux has it
	}
}

// read hands out the replies until the socket is closed.
func (p *pinger) read(conn *icmp.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.log.Debug("ping: cannot read", "err", err)
			time.Sleep(10 * time.Millisecond) // such errors come at once, again and again
			continue
		}
		p.take(b[:n], from)
	}
}

// take looks at one packet: on a raw socket everybody's, so most are not for us.
func (p *pinger) take(b []byte, from net.Addr) {
	protocol, wanted := 1, icmp.Type(ipv4.ICMPTypeEchoReply) // of ICMP, and below of ICMPv6: IANA's numbers
	if p.six {
		protocol, wanted = 58, ipv6.ICMPTypeEchoReply
	}
	m, err := icmp.ParseMessage(protocol, b)
	if err != nil || m.Type != wanted {
		return
	}
	echo, ok := m.Body.(*icmp.Echo)
	if !ok || len(echo.Data) != len(nonce{}) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.waiting[nonce(echo.Data)]; ok && w.from.WithZone("") == source(from) {
		w.reply <- nil // it is taken off the list, so there is one
		delete(p.waiting, nonce(echo.Data))
	}
}

func source(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.IPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip) // of anything else the zero address, which nobody waits for
	return addr.Unmap()
}

func (p *pinger) close() {
	p.mu.Lock()
	conn := p.conn
	p.conn = nil
	p.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // nothing is left to be sent
		p.reading.Wait()
	}
}
