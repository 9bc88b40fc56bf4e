package health_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// first returns the first result of a check.
func first(t *testing.T, cfg health.Config, target health.Target) health.Result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan health.Result, 100)
	var wg sync.WaitGroup
	wg.Go(func() { health.New(cfg).Watch(ctx, target, func(r health.Result) { results <- r }) })
	defer wg.Wait()
	defer cancel()
	select {
	case r := <-results:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("no result within 30 s")
		return health.Result{}
	}
}

// service has one TCP port, which is addr.
func service(t *testing.T, addr string) pancake.Service {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pancake.Service{ID: "1", Name: "x", Ports: []pancake.ServicePort{
		{Type: "udp", Port: 53, ServicePort: 10080, IP: host}, {Type: "tcp", Port: n, ServicePort: 10080, IP: host},
	}}
}

// web answers /ok with 204, /moved with a redirect to /ok, /away with one to
// elsewhere, /hang not at all and everything else with 500.
func web(t *testing.T) string {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok", "/version":
			w.WriteHeader(http.StatusNoContent)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "http://127.0.0.99:1/", http.StatusFound)
		case "/hang":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		default:
			http.Error(w, "database is\ndown "+strings.Repeat("!", 1000), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(func() { close(release); s.Close() })
	return s.Listener.Addr().String()
}

// deaf accepts connections and closes them at once, as Docker's proxy does for
// a container in which nothing listens.
func deaf(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close() // that is all it does
		}
	}()
	return ln.Addr().String()
}

// script writes an executable file.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestChecks(t *testing.T) {
	up, closed := web(t), deaf(t)
	t.Setenv("SECRET", "leaked")
	for name, tt := range map[string]struct {
		target health.Target
		want   pancake.ServiceStatus
		note   string
	}{
		"http":                 {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "http://{{ host }}:{{ tcp 10080 }}/ok"}}, pancake.Alive, ""},
		"http, redirected":     {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "http://{{ host }}:{{ tcp 10080 }}/moved"}}, pancake.Alive, ""},
		"http, sent elsewhere": {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "http://{{ host }}:{{ tcp 10080 }}/away"}}, pancake.Sick, "302"},
		"http, failing":        {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "http://{{ host }}:{{ tcp 10080 }}/"}}, pancake.Sick, "500 Internal Server Error database is down !!"},
		"http, hanging":        {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "http://{{ host }}:{{ tcp 10080 }}/hang"}}, pancake.Sick, "no answer in time"},
		"http, nobody":         {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "http://127.0.0.1:1/"}}, pancake.Sick, "connection refused"},
		"default":              {health.Target{}, pancake.Alive, ""},
		"unknown type":         {health.Target{Spec: health.Spec{Type: "Magic"}}, pancake.Alive, ""},
		"no such service port": {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "http://{{ host }}:{{ tcp 1 }}/"}}, pancake.Sick, "no published tcp port has the service port 1"},
		"bad template":         {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "{{ nonsense }}"}}, pancake.Sick, "nonsense"},
		"a loop":               {health.Target{Spec: health.Spec{Type: "HttpGet", Args: "{{ range 1000000000000 }}{{ end }}"}}, pancake.Sick, "not allowed"},
		"tcp":                  {health.Target{Spec: health.Spec{Type: "Tcp", Args: "{{ host }}:{{ tcp 10080 }}"}}, pancake.Alive, ""},
		"tcp by default":       {health.Target{Spec: health.Spec{Type: "Tcp"}}, pancake.Alive, ""},
		"tcp, closed at once":  {health.Target{Spec: health.Spec{Type: "Tcp", Args: closed}}, pancake.Sick, "nothing listens"},
		"tcp, nobody":          {health.Target{Spec: health.Spec{Type: "Tcp", Args: "127.0.0.1:1"}}, pancake.Sick, "connection refused"},
		"always":               {health.Target{Spec: health.Spec{Type: "AlwaysSuccessful"}}, pancake.Alive, ""},
		"external":             {health.Target{Spec: health.Spec{Type: "External", Args: "/bin/true {{ container }}"}}, pancake.Alive, ""},
		"external, failing":    {health.Target{Spec: health.Spec{Type: "External", Args: script(t, `echo "bad $1 $SECRET."; exit 3`) + " {{ container }}"}}, pancake.Sick, "exit status 3: bad node ."},
		"external, no shell":   {health.Target{Spec: health.Spec{Type: "External", Args: "/bin/echo $(exit 1) ; false"}}, pancake.Alive, ""},
		"external, hanging":    {health.Target{Spec: health.Spec{Type: "External", Args: script(t, "sleep 1000")}}, pancake.Sick, "no answer in time"},
		"external, missing":    {health.Target{Spec: health.Spec{Type: "External", Args: "/no/such/program"}}, pancake.Sick, "no such file"},
		"external, nothing":    {health.Target{Spec: health.Spec{Type: "External"}}, pancake.Sick, "names no program"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.target.Service = service(t, up)
			got := first(t, health.Config{Hostname: "node", Interval: 500 * time.Millisecond}, tt.target)
			if got.ID != "1" || got.Status != tt.want || !strings.Contains(got.Note, tt.note) || tt.note == "" && got.Note != "" {
				t.Errorf("%+v, want %s and %q", got, tt.want, tt.note)
			}
			if len(got.Note) > health.MaxNote {
				t.Errorf("a note of %d bytes", len(got.Note))
			}
		})
	}
}

func TestWithoutPorts(t *testing.T) {
	bare := pancake.Service{ID: "1"}
	for kind, want := range map[string]pancake.ServiceStatus{"": pancake.Alive, "Tcp": pancake.Sick, "HttpGet": pancake.Sick} {
		if got := first(t, health.Config{}, health.Target{Service: bare, Spec: health.Spec{Type: kind}}); got.Status != want {
			t.Errorf("%q: %+v", kind, got)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestFollowsAService goes from starting over serving and failing to serving again.
func TestFollowsAService(t *testing.T) {
	var status atomic.Int64
	status.Store(503)
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	defer s.Close()
	results := make(chan health.Result, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		health.New(health.Config{Interval: 200 * time.Millisecond, Fall: 2}).Watch(ctx, health.Target{Service: service(t, s.Listener.Addr().String())}, func(r health.Result) { results <- r })
	}()
	next := func(want pancake.ServiceStatus, note string) {
		t.Helper()
		select {
		case r := <-results:
			if r.Status != want || !strings.Contains(r.Note, note) {
				t.Fatalf("%+v, want %s %q", r, want, note)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no %s within 30 s", want)
		}
	}
	next(pancake.Sick, "503")
	status.Store(200)
	next(pancake.Alive, "")
	status.Store(500)
	next(pancake.Alive, "500") // one failure of two
	next(pancake.Sick, "500")
	status.Store(200)
	next(pancake.Alive, "")
	checks := asked.Load()
	for asked.Load() < checks+3 { // it goes on, and has nothing new to say
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if len(results) != 0 {
		t.Errorf("reported again: %+v", <-results)
	}
}
