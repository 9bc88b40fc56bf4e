// Package testkit starts the real parts that tests run against.
package testkit

import (
	"log/slog"
	"net"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake/internal/etcd"
)

// Etcd starts a real etcd on free ports of 127.0.0.1, without fsync, and stops
// it when the test ends. It listens on the client's first endpoint too.
func Etcd(t testing.TB) *clientv3.Client {
	t.Helper()
	s, err := etcd.Embed(t.Context(), etcd.Config{
		DataDir:   t.TempDir(),
		ClientURL: "http://" + FreeAddr(t),
		PeerURL:   "http://" + FreeAddr(t),
		Log:       slog.New(slog.DiscardHandler),
		Unsafe:    true,
	})
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop etcd: %v", err)
		}
	})
	return s.Client
}

// FreeAddr returns an address of 127.0.0.1 that nothing listens on at the moment.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
