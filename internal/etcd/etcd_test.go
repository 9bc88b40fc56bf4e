package etcd

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
)

func freeURL(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

func TestEmbedKeepsDataAndRefusesASecond(t *testing.T) {
	var logged bytes.Buffer
	cfg := Config{
		DataDir: t.TempDir(), ClientURL: freeURL(t), PeerURL: freeURL(t), Unsafe: true,
		Log: slog.New(slog.NewTextHandler(&logged, nil)),
	}
	s, err := Embed(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}

	if _, err := Embed(t.Context(), cfg); pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("second Embed in the same directory: %v", err)
	}
	other := cfg
	other.DataDir = t.TempDir()
	if _, err := Embed(t.Context(), other); pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), "port is in use") {
		t.Fatalf("second Embed on the same port: %v", err)
	}

	c, err := Dial(t.Context(), []string{s.Endpoint}, Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Embed(t.Context(), cfg)
	if err != nil {
		t.Fatalf("start again: %v", err)
	}
	defer s.Close()
	got, err = s.Client.Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("after a restart: %v, %v", got, err)
	}
	if logged.Len() > 0 {
		t.Errorf("a healthy start warns:\n%s", logged.String())
	}
}

func TestDialNobody(t *testing.T) {
	addr := strings.TrimPrefix(freeURL(t), "http://")
	if _, err := Dial(t.Context(), []string{addr}, Access{}); pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), addr) {
		t.Fatalf("got %v", err)
	}
	if _, err := Dial(t.Context(), nil, Access{}); pancake.KindOf(err) != pancake.Invalid {
		t.Fatalf("got %v", err)
	}
}

func TestCheckVersion(t *testing.T) {
	for v, ok := range map[string]bool{"3.4.0": true, "3.7.3": true, "4.0.1": true, "3.3.27": false, "2.3.8": false, "": false, "x.y": false} {
		t.Run(fmt.Sprintf("%q", v), func(t *testing.T) {
			if err := checkVersion(v); (err == nil) != ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
