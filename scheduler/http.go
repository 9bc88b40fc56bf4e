package scheduler

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/api"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// forwarded marks a call that another scheduler has handed on. It is not
// handed on again: two schedulers that each take the other for the leader would never stop.
const forwarded = "X-Pancake-Forwarded"

// handler serves what every scheduler answers itself, and hands the rest to the leader.
func (s *Scheduler) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.Handle("GET /readyz", serve.Handler(s.ready))
	if s.cfg.Guard == nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
		mux.Handle("GET /v1/leader", serve.Handler(s.whoLeads))
	}
	mux.Handle("/v1/", s.route(s.proxy()))
	// Whoever can reach the API may use it, which the pages in their browser must not.
	site := http.NewCrossOriginProtection()
	site.SetDenyHandler(serve.Handler(func(http.ResponseWriter, *http.Request) error {
		return pancake.Errorf(pancake.Invalid, "a page of another site must not change anything here")
	}))
	if s.cfg.Guard == nil {
		return site.Handler(mux)
	}
	mux.Handle("GET /metrics", s.viewers(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})))
	mux.Handle("GET /v1/leader", s.viewers(serve.Handler(s.whoLeads)))
	mux.Handle("GET /v1/ca", serve.Handler(s.cfg.Guard.CA))
	return site.Handler(s.cfg.Guard.Protect(mux, "GET /healthz", "GET /readyz", "GET /v1/ca"))
}

// viewers lets through those who may read.
func (s *Scheduler) viewers(next http.Handler) http.Handler {
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		if err := s.cfg.Guard.Authorize(r.Context(), identity.ActionRead, r.URL.Path); err != nil {
			return err
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// api is what this scheduler answers while it leads.
func (s *Scheduler) api(l *lead) http.Handler {
	if s.cfg.Guard == nil {
		return api.New(l, s.links, l.events, nil)
	}
	return s.cfg.Guard.Handler(api.New(l, s.links, l.events, s.cfg.Guard))
}

// listener is where the API is served, with TLS if the scheduler is secure.
func (s *Scheduler) listener() net.Listener {
	if s.cfg.Guard == nil {
		return s.cfg.HTTP
	}
	return tls.NewListener(s.cfg.HTTP, s.cfg.Guard.ServerTLS())
}

func (s *Scheduler) ready(w http.ResponseWriter, _ *http.Request) error {
	if _, err := s.leading(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// leading returns who leads. It fails with Unavailable while nobody does, or
// while this scheduler does but has not restored the state yet.
func (s *Scheduler) leading() (state.Leader, error) {
	if s.current.Load() != nil {
		return state.Leader{ID: s.cfg.ID, HTTP: s.cfg.AdvertiseHTTP, GRPC: s.cfg.AdvertiseGRPC}, nil
	}
	l := s.leader.Load()
	if l == nil || l.ID == "" || l.ID == s.cfg.ID {
		return state.Leader{}, pancake.Errorf(pancake.Unavailable, "no scheduler leads at the moment; try again in a few seconds")
	}
	return *l, nil
}

func (s *Scheduler) whoLeads(w http.ResponseWriter, _ *http.Request) error {
	l, err := s.leading()
	if err != nil {
		return err
	}
	return serve.JSON(w, http.StatusOK, client.LeaderView{ID: l.ID, HTTP: l.HTTP, GRPC: l.GRPC, Self: l.ID == s.cfg.ID})
}

// route answers if this scheduler leads, and otherwise has the leader answer.
func (s *Scheduler) route(proxy http.Handler) http.Handler {
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		if l := s.current.Load(); l != nil {
			l.handler.ServeHTTP(w, r)
			return nil
		}
		leader, err := s.leading()
		if err != nil {
			return err
		}
		if r.Header.Get(forwarded) != "" {
			return pancake.Errorf(pancake.Unavailable, "the lead is changing hands; try again in a few seconds")
		}
		if s.cfg.Guard != nil && r.Header.Get("Authorization") == "" {
			// A certificate cannot be handed on: who has shown one asks the leader.
			http.Redirect(w, r, "https://"+leader.HTTP+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			return nil
		}
		proxy.ServeHTTP(w, r)
		return nil
	})
}

// proxy hands calls on to the leader; what streams is passed on at once.
func (s *Scheduler) proxy() http.Handler {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 3 * time.Second,
		ForceAttemptHTTP2:   true, // which a TLS configuration of our own switches off, though it offers it
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     time.Minute,
	}
	scheme := "http"
	if s.cfg.Guard != nil {
		transport.TLSClientConfig, scheme = s.cfg.Guard.PeerTLS(), "https"
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			if l := s.leader.Load(); l != nil {
				r.SetURL(&url.URL{Scheme: scheme, Host: l.HTTP})
			}
			r.Out.Header.Set(forwarded, s.cfg.ID)
			if s.cfg.Guard != nil {
				if host, _, err := net.SplitHostPort(r.In.RemoteAddr); err == nil {
					r.Out.Header.Set("X-Forwarded-For", host) // for the leader's audit log
				}
			}
			r.Out.Header.Del("Origin") // it names this host, which the leader would take for another site
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			serve.Error(w, r, pancake.Errorf(pancake.Unavailable, "the leading scheduler does not answer: %w; try again in a few seconds", err))
		},
	}
}
