// Package api serves Sidecar's HTTP API: the paths and JSON are NinesStack
// Sidecar's, so that what reads one reads the other, and a few paths of our own.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// Config is what the API shows. All fields but Log are required.
type Config struct {
	State *feed.Feed[*catalog.Snapshot]
	// Routes is Traefik's configuration, empty until it is
	// complete for the first time.
	Routes  *feed.Feed[Routes]
	Members func() []client.Member
	// Drain takes a service of this host out of traffic. It fails with NotFound
	// for any other.
	Drain func(ctx context.Context, id string) (pancake.Service, error)
	// Ready says what this Sidecar is still waiting for, nil for nothing.
	Ready   func() error
	Metrics prometheus.Gatherer
	Log     *slog.Logger
}

// Routes is Traefik's configuration in the two forms that its consumers need;
// see traefik.Configuration.
type Routes struct {
	Line     []byte // for the stream
	Document []byte // for a plain GET, as Traefik's HTTP provider makes
}

const (
	// repeat is how often a watcher hears something though nothing has changed.
	repeat = 10 * time.Second
	// patience is how long a watcher may take to read one document.
	patience = 10 * time.Second
)

type api struct {
	Config
	docs documents
}

// Handler makes the handler of all paths.
func Handler(cfg Config) http.Handler {
	a := &api{Config: cfg}
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Access-Control-Allow-Methods", "GET")
			if err := fn(w, r); err != nil {
				answerError(w, r, err)
			}
		})
	}
	for _, root := range []string{"/api", ""} { // those without /api are Sidecar's old ones
		handle("GET "+root+"/services.json", a.services)
		handle("GET "+root+"/state.json", a.state)
		handle("GET "+root+"/watch", a.watch)
	}
	handle("GET /api/services/{name}", a.service)
	handle("POST /api/services/{id}/drain", a.drain)
	handle("GET /api/members.json", a.members)
	handle("GET /api/traefik", a.traefik)
	handle("OPTIONS /api/{path...}", func(http.ResponseWriter, *http.Request) error { return nil })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	handle("GET /readyz", a.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}))
	return mux
}

// answerError answers in the form of Sidecar.
func answerError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client is gone
	}
	_ = serve.JSON(w, serve.Status(pancake.KindOf(err)), map[string]string{"status": "error", "message": err.Error()}) // it may have left by now
}

// member is Sidecar's ApiServer.
type member struct {
	Name         string
	LastUpdated  time.Time
	ServiceCount int
}

// services is the answer of /api/services.json and /api/services/<name>.json.
type services struct {
	Services       map[string][]*pancake.Service
	ClusterMembers map[string]member `json:",omitempty"`
	ClusterName    string
}

func (a *api) services(w http.ResponseWriter, _ *http.Request) error {
	snap, _ := a.State.Get()
	members := map[string]member{}
	for _, m := range a.Members() {
		if m.State != client.MemberAlive {
			continue
		}
		s := member{Name: m.Name, LastUpdated: time.Unix(0, 0).UTC()}
		if h := snap.Hosts[m.Name]; h != nil {
			s.LastUpdated, s.ServiceCount = h.LastUpdated, len(h.Services)
		}
		members[m.Name] = s
	}
	return indented(w, services{snap.ByService(), members, snap.Cluster})
}

func (a *api) service(w http.ResponseWriter, r *http.Request) error {
	name, ok := strings.CutSuffix(r.PathValue("name"), ".json")
	if !ok {
		return pancake.Errorf(pancake.NotFound, "Not Found - Invalid content type extension")
	}
	snap, _ := a.State.Get()
	instances := snap.ByService()[name]
	if len(instances) == 0 {
		return pancake.Errorf(pancake.NotFound, "no instances of %s found", name)
	}
	return indented(w, services{Services: map[string][]*pancake.Service{name: instances}, ClusterName: snap.Cluster})
}

// indented answers with JSON laid out as Sidecar does.
func indented(w http.ResponseWriter, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return write(w, b)
}

func write(w http.ResponseWriter, b []byte) error {
	w.Header().Set("Content-Type", "application/json")
	return serve.Send(w, b)
}

func (a *api) state(w http.ResponseWriter, _ *http.Request) error {
	snap, _ := a.State.Get()
	b, err := a.docs.state(snap)
	if err != nil {
		return err
	}
	return write(w, b)
}

func (a *api) members(w http.ResponseWriter, _ *http.Request) error {
	return serve.JSON(w, http.StatusOK, struct{ Members []client.Member }{append([]client.Member{}, a.Members()...)})
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
