// Package api serves an agent over HTTP.
package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/internal/serve"
)

// Agent is what is served.
type Agent interface {
	Status(ctx context.Context, answers bool) client.Status
	History(limit int) []client.Entry
	Plan(ctx context.Context) (client.Plan, error)
	Orders
}

// Orders are what people may tell the agent.
type Orders interface {
	Apply(context.Context, client.Request) ([]client.Order, error)
	Hold(context.Context, client.Request) ([]client.Order, error)
	Drain(context.Context, client.Request) ([]client.Order, error)
	Restore(context.Context, client.Request) ([]client.Order, error)
	Adopt(context.Context, client.Request) ([]client.Order, error)
}

// Config is what the API shows. Agent and Metrics are required.
type Config struct {
	Agent   Agent
	Token   string // that everybody has to bring, except for /healthz and /readyz; "" is none
	Metrics prometheus.Gatherer
}

// maxRequest bounds a request, in bytes.
const maxRequest = 64 << 10

// Handler makes the handler of all paths.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, guard(cfg.Token, serve.Handler(fn)))
	}
	handle("GET /v1/status", func(w http.ResponseWriter, r *http.Request) error {
		return serve.JSON(w, http.StatusOK, cfg.Agent.Status(r.Context(), r.URL.Query().Get("answers") == "1"))
	})
	handle("GET /v1/history", func(w http.ResponseWriter, r *http.Request) error {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil && r.URL.Query().Has("limit") || limit < 0 {
			return pancake.Errorf(pancake.Invalid, "limit has to be a number of entries")
		}
		entries := cfg.Agent.History(limit)
		if entries == nil {
			entries = []client.Entry{}
		}
		return serve.JSON(w, http.StatusOK, entries)
	})
	handle("GET /v1/plan", func(w http.ResponseWriter, r *http.Request) error {
		plan, err := cfg.Agent.Plan(r.Context())
		if err != nil {
			return pancake.Errorf(pancake.Unavailable, "%w", err)
		}
		return serve.JSON(w, http.StatusOK, plan)
	})
	for path, fn := range map[string]func(context.Context, client.Request) ([]client.Order, error){
		"apply": cfg.Agent.Apply, "hold": cfg.Agent.Hold, "drain": cfg.Agent.Drain, "restore": cfg.Agent.Restore, "adopt": cfg.Agent.Adopt,
	} {
		handle("POST /v1/"+path, orders(fn))
	}
	mux.Handle("GET /metrics", guard(cfg.Token, promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.Handle("GET /readyz", serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		return ready(w, cfg.Agent.Status(r.Context(), false))
	}))
	return mux
}

// ready fails while this agent is of no use: the live records are not known, or it sees
// no writer, so that most places are out of reach.
func ready(w http.ResponseWriter, s client.Status) error {
	switch {
	case s.Provider.Read.IsZero():
		return pancake.Errorf(pancake.Unavailable, "the live records have not been read yet: %s", s.Provider.Error)
	case s.Writer.Place == "":
		return pancake.Errorf(pancake.Unavailable, "there is no writer; are more than half of the places up, and do they reach each other?")
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func orders(fn func(context.Context, client.Request) ([]client.Order, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		// A page in a browser on this machine can post plain text here, but no JSON.
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			return pancake.Errorf(pancake.Invalid, "send the header Content-Type: application/json")
		}
		var req client.Request
		if err := serve.ReadJSON(w, r, maxRequest, &req); err != nil {
			return err
		}
		given, err := fn(r.Context(), req)
		if err != nil {
			return err
		}
		return serve.JSON(w, http.StatusOK, given)
	}
}

// direct lets pass who asked for an address rather than a name: a page in a browser on this
// machine can have its own name point here, and would then be taken for one of ours.
func direct(next http.Handler) http.Handler {
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if r.TLS == nil && host != "localhost" && net.ParseIP(strings.Trim(host, "[]")) == nil {
			return pancake.Errorf(pancake.Forbidden, "ask for goavail by its address or as localhost, not as %q", host)
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// guard lets pass who brings the token.
func guard(token string, next http.Handler) http.Handler {
	if token == "" {
		return direct(next)
	}
	want := sha256.Sum256([]byte(token))
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if got := sha256.Sum256([]byte(given)); subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return pancake.Errorf(pancake.Unauthenticated, "send goavail's token as Authorization: Bearer …")
		}
		next.ServeHTTP(w, r)
		return nil
	})
}
