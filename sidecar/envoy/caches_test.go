package envoy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	status "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/pancake-stack/pancake/sidecar/envoy/export"
)

// TestZonesThatBecomeKnown: a host says where it is some time after its services are known.
func TestZonesThatBecomeKnown(t *testing.T) {
	c := newCaches()
	clusters := []export.Cluster{{
		Name: "web:80", Service: "web", Port: 80, Mode: "http",
		Endpoints: []export.Endpoint{{IP: "10.0.0.1", Port: 31000, Host: "n1", ID: "a"}},
	}}
	for _, want := range []string{"", "rack 1", "rack 2"} {
		if _, err := c.set(clusters, "10.9.9.9", func(string) string { return want }); err != nil {
			t.Fatal(err)
		}
		got, ok := c.endpoints.GetResources()["web:80"].(*endpoint.ClusterLoadAssignment)
		if !ok || len(got.Endpoints) != 1 || got.Endpoints[0].Locality.GetZone() != want {
			t.Errorf("%v, want zone %q", got, want)
		}
	}
}

// TestRefusalsAreLoggedOnce though a proxy refuses each change, and in short.
func TestRefusalsAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	w := newWatcher(slog.New(slog.NewTextHandler(&log, nil)))
	for i := range 30 {
		problem := strings.Repeat("x", 1<<20)
		if i >= 20 {
			problem = "another"
		}
		w.request(&core.Node{Id: "proxy"}, "type", &status.Status{Message: problem})
	}
	if n := strings.Count(log.String(), "refuses"); n != 2 || log.Len() > 2000 {
		t.Errorf("%d lines of %d bytes", n, log.Len())
	}
}
