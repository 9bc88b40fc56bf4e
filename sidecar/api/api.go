// Package api serves Sidecar's HTTP API: the paths and JSON are NinesStack
// Sidecar's, so that what reads one reads the other, and a few paths of our own.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/api/document"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// Config is what the API shows. Fields are required unless they say otherwise.
type Config struct {
	State *feed.Feed[*catalog.Snapshot]
	// Routes is Traefik's configuration, empty until it is
	// complete for the first time.
	Routes *feed.Feed[Routes]
	// Events are the changes of the catalogue. Optional: without it nothing ever
	// changes on /v1/events.
	Events  *feed.Events
	Members func() []client.Member
	// Drain takes a service of this host out of traffic. It fails with NotFound
	// for any other.
	Drain func(ctx context.Context, id string) (pancake.Service, error)
	// Registrar takes services that are not found but say themselves that they
	// run. Optional: without it nothing can be registered.
	Registrar Registrar
	// Ready says what this Sidecar is still waiting for, nil for nothing.
	Ready func() error
	// ProxyIP is where listeners of Envoy's first API listen. Default
	// 192.168.168.168, NinesStack Sidecar's ENVOY_BIND_IP.
	ProxyIP string
	// Docs are shared with others who encode the same State. Default: an own one.
	Docs *document.Cache
	// UI is served under /ui/. Default: the page of /servers.
	UI      http.Handler
	Metrics prometheus.Gatherer
	Log     *slog.Logger // optional
}

// Registrar is where processes register that are not containers.
type Registrar interface {
	// Register announces the service that body, a JSON document, describes. Doing so
	// again replaces it.
	Register(ctx context.Context, id string, body []byte) (pancake.Service, error)
	// Deregister ends it.
	Deregister(ctx context.Context, id string) error
	// Beat is its sign of life, with what it says of its health.
	Beat(ctx context.Context, id string, status pancake.ServiceStatus, note string) error
}

// Routes is Traefik's configuration in the two forms that its consumers need;
// see traefik.Configuration.
type Routes struct {
	Line     []byte // for the stream
	Document []byte // for a plain GET, as Traefik's HTTP provider makes
}

// sending is how long a client may take to send a body.
const sending = 30 * time.Second

type api struct{ Config }

// Handler makes the handler of all paths.
func Handler(cfg Config) http.Handler {
	if cfg.Events == nil {
		cfg.Events = feed.NewEvents()
	}
	if cfg.ProxyIP == "" {
		cfg.ProxyIP = "192.168.168.168"
	}
	if cfg.Docs == nil {
		cfg.Docs = &document.Cache{}
	}
	a := &api{cfg}
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Access-Control-Allow-Methods", "GET")
			if r.Method != http.MethodGet { // which may be a stream, and is never behind a body
				// The server reads a body to its end before it answers, also where nobody wants it.
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(sending)) // one that knows none has no slow client
			}
			if err := fn(w, r); err != nil {
				answerError(w, err)
			}
		})
	}
	for _, root := range []string{"/api", ""} { // those without /api are Sidecar's old ones
		handle("GET "+root+"/services.json", a.services)
		handle("GET "+root+"/state.json", a.state)
		handle("GET "+root+"/watch", a.watch)
		handle("GET "+root+"/services/{name}", a.service)
		handle("POST "+root+"/services/{id}/drain", a.drain)
	}
	handle("PUT /api/services/{id}", a.register)
	handle("DELETE /api/services/{id}", a.deregister)
	handle("PUT /api/services/{id}/ttl", a.beat)
	handle("GET /api/members.json", a.members)
	handle("GET /api/traefik", a.traefik)
	handle("GET /v1/members", a.members)
	handle("GET /v1/services", a.list)
	handle("GET /v1/events", a.events)
	a.envoy(handle)
	a.pages(mux)
	for _, path := range []string{"/api/{path...}", "/v1/{path...}", "/services.json", "/state.json", "/watch"} {
		handle("OPTIONS "+path, func(http.ResponseWriter, *http.Request) error { return nil })
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	handle("GET /readyz", a.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}))
	return Protect(mux)
}

// Protect lets pages in a browser on this host read but not change anything: neither those
// of other sites nor those under a name, since whoever owns a name can make it mean this
// host (DNS rebinding). Programs that are no browsers send no Origin.
func Protect(next http.Handler) http.Handler {
	site := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		if site.Check(r) != nil || !safe && r.Header.Get("Origin") != "" && !numeric(r.Host) {
			answerError(w, pancake.Errorf(pancake.Forbidden, "a page in a browser must not change anything here"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// numeric reports whether a host, with or without a port, is an address, or localhost.
func numeric(host string) bool {
	u := url.URL{Host: host}
	_, err := netip.ParseAddr(u.Hostname())
	return err == nil || u.Hostname() == "localhost"
}

// answerError answers in the form of Sidecar.
func answerError(w http.ResponseWriter, err error) {
	status := serve.Status(pancake.KindOf(err))
	if errors.Is(err, context.Canceled) { // this Sidecar ends; or the client is gone, and it does not matter
		status = http.StatusServiceUnavailable
	}
	_ = serve.JSON(w, status, map[string]string{"status": "error", "message": err.Error()}) // it may have left by now
}

func (a *api) services(w http.ResponseWriter, r *http.Request) error {
	snap, _ := a.State.Get()
	doc, err := a.Docs.Services(snap, a.Members())
	if err != nil {
		return err
	}
	return answer(w, r, doc)
}

func (a *api) service(w http.ResponseWriter, r *http.Request) error {
	name, ok := strings.CutSuffix(r.PathValue("name"), ".json")
	if !ok {
		return pancake.Errorf(pancake.NotFound, "Not Found - Invalid content type extension")
	}
	snap, _ := a.State.Get()
	instances := named(snap, name)
	if len(instances) == 0 {
		return pancake.Errorf(pancake.NotFound, "no instances of %s found", name)
	}
	out := document.Services{Services: map[string][]*pancake.Service{name: instances}, ClusterName: snap.Cluster}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("encode service %s: %w", name, err)
	}
	return answer(w, r, document.New(b))
}

func (a *api) state(w http.ResponseWriter, r *http.Request) error {
	snap, _ := a.State.Get()
	doc, err := a.Docs.State(snap)
	if err != nil {
		return err
	}
	return answer(w, r, doc)
}

func (a *api) members(w http.ResponseWriter, r *http.Request) error {
	return answerJSON(w, r, struct{ Members []client.Member }{append([]client.Member{}, a.Members()...)})
}

func (a *api) drain(w http.ResponseWriter, r *http.Request) error {
	svc, err := a.Drain(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return serve.JSON(w, http.StatusAccepted, struct{ Message string }{
		fmt.Sprintf("Service %q instance %q set to DRAINING", svc.Name, svc.ID),
	})
}

func (a *api) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := a.Ready(); err != nil {
		return err
	}
	return serve.JSON(w, http.StatusOK, map[string]string{"status": "ok"})
}
