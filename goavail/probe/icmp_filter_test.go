package probe

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/icmp"
)

// TestRawSocketsAreFiltered: a raw socket hears its own replies, and no other pinger's.
func TestRawSocketsAreFiltered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("raw sockets need root")
	}
	for _, address := range []string{"127.30.1.7", "::1"} {
		addr := netip.MustParseAddr(address)
		network, from := "ip4:icmp", "0.0.0.0"
		if addr.Is6() {
			network, from = "ip6:ipv6-icmp", "::"
		}
		conn := mustListen(t, network, from)
		p := &pinger{six: addr.Is6(), log: slog.New(slog.DiscardHandler), conn: conn, raw: true, id: 1, waiting: map[nonce]wait{}}
		p.filter(conn)
		p.reading.Go(func() { p.read(conn) })
		defer p.close()
		once := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			return p.ping(ctx, addr)
		}
		if err := once(); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		if addr.Is6() {
			continue // only requests are kept out there
		}
		deaf := &pinger{log: p.log, conn: mustListen(t, network, from), raw: true, id: 2, waiting: map[nonce]wait{}}
		deaf.filter(deaf.conn)
		if err := once(); err != nil {
			t.Fatal(err)
		}
		_ = deaf.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, _, err := deaf.conn.ReadFrom(make([]byte, 1500)); err == nil {
			t.Errorf("a packet of %d bytes passed the filter of another pinger", n)
		}
		_ = deaf.conn.Close()
	}
}

func mustListen(t *testing.T, network, from string) *icmp.PacketConn {
	t.Helper()
	conn, err := icmp.ListenPacket(network, from)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
