package sidecar_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
)

func TestBadConfig(t *testing.T) {
	for want, cfg := range map[string]sidecar.Config{
		"bind address":  {BindAddr: "localhost"},
		"advertise IP":  {AdvertiseIP: "0.0.0.0"},
		"gossip key":    {GossipKeys: [][]byte{[]byte("short")}},
		"domain":        {TraefikDomain: "not a domain"},
		"default rule":  {TraefikRule: "{{"},
		"cluster name ": {ClusterName: strings.Repeat("x", 300)},
	} {
		if _, err := sidecar.New(cfg); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for name, cfg := range map[string]sidecar.Config{
		"HTTP":   {HTTPAddr: ln.Addr().String(), BindAddr: "127.0.0.1", BindPort: -1},
		"gossip": {HTTPAddr: "127.0.0.1:0", BindAddr: "127.0.0.1", BindPort: ln.Addr().(*net.TCPAddr).Port},
	} {
		cfg.Passive = true
		s, err := sidecar.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// noDocker is an engine that nobody answers for.
type noDocker struct{}

func (noDocker) ContainerList(context.Context, client.ContainerListOptions) (client.ContainerListResult, error) {
	return client.ContainerListResult{}, errors.New("no such socket")
}

func (noDocker) Events(context.Context, client.EventsListOptions) client.EventsResult {
	errs := make(chan error, 1)
	errs <- errors.New("no such socket")
	return client.EventsResult{Err: errs}
}

// TestWithoutDocker has a Sidecar that cannot know what runs on its host: it
// must not tell an ingress that nothing does.
func TestWithoutDocker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := sidecar.New(sidecar.Config{
		Hostname: "n1", BindAddr: "127.0.0.1", BindPort: -1, Listener: ln, Engine: noDocker{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	wait, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if err := s.Ready(wait); pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), "docker") {
		t.Errorf("ready: %v", err)
	}
	for path, want := range map[string]int{"/api/traefik": 503, "/readyz": 503, "/healthz": 200, "/api/state.json": 200, "/metrics": 200} {
		resp, err := http.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func TestPassiveIsReadyAtOnce(t *testing.T) {
	n := start(t, "n1", "127.0.0.1", func(c *sidecar.Config) { c.Passive, c.Engine = true, noDocker{} })
	eventually(t, "it has complete routes", func() bool { return n.routes() == "{}" })
}
