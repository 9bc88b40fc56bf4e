package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/api"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// example is a small cluster as "n1" knows it.
func example() *catalog.Catalog {
	c := catalog.New("n1", "default")
	c.Settle(noon)
	c.Discover(pancake.Service{
		ID: "deadbeef0001", Name: "hello", Image: "registry/hello:1", Created: noon.Add(-time.Hour), ProxyMode: "http", Task: "prod_hello-1",
		Ports:  []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 10080, IP: "10.0.0.1", ContainerPort: 80}},
		Labels: map[string]string{"traefik.http.routers.hello.rule": "Host(`a`) && Path(`/<b>`)"},
	}, noon)
	c.SetStatus("deadbeef0001", pancake.Sick, "GET http://10.0.0.1:31000/version: 503", noon)
	c.Merge([]pancake.Service{
		{ID: "deadbeef0002", Name: "hello", Image: "registry/hello:1", Hostname: "n2", Created: noon.Add(-time.Hour), Updated: noon.Add(time.Second), ProxyMode: "tcp", Status: pancake.Alive},
		{ID: "deadbeef0003", Name: "other", Image: "registry/other:1", Hostname: "n2", Created: noon.Add(-time.Hour), Updated: noon, ProxyMode: "ws", Status: pancake.Tombstone},
		{
			ID: "deadbeef0004", Name: "web", Image: "registry:5000/web:2", Hostname: "n2", Created: noon.Add(-time.Hour), Updated: noon, ProxyMode: "http",
			Ports: []pancake.ServicePort{{Type: "tcp", Port: 31004, ServicePort: 8080, IP: "10.0.0.2"}},
		},
		{
			ID: "deadbeef0005", Name: "wire", Image: "wire", Hostname: "n2", Created: noon.Add(-time.Hour), Updated: noon, ProxyMode: "tcp",
			Ports: []pancake.ServicePort{{Type: "tcp", Port: 31005, ServicePort: 8081, IP: "10.0.0.2"}},
		},
	}, noon.Add(time.Second))
	return c
}

// fixture is an API that shows the example.
type fixture struct {
	http.Handler
	state     *feed.Feed[*catalog.Snapshot]
	routes    *feed.Feed[api.Routes]
	events    *feed.Events
	registrar *registrar
	ready     error
}

// registrar keeps what was registered last.
type registrar struct {
	id, body, note string
	status         pancake.ServiceStatus
	gone           bool
}

func (r *registrar) Register(_ context.Context, id string, body []byte) (pancake.Service, error) {
	r.id, r.body = id, string(body)
	return pancake.Service{ID: id, Name: "registered"}, nil
}

func (r *registrar) Deregister(_ context.Context, id string) error {
	if id != r.id {
		return pancake.Errorf(pancake.NotFound, "no service %q is registered", id)
	}
	r.gone = true
	return nil
}

func (r *registrar) Beat(_ context.Context, id string, status pancake.ServiceStatus, note string) error {
	if id != r.id {
		return pancake.Errorf(pancake.NotFound, "no service %q is registered", id)
	}
	r.status, r.note = status, note
	return nil
}

func newFixture() *fixture {
	f := &fixture{
		state: feed.New(example().Snapshot()), routes: feed.New(api.Routes{}), events: feed.NewEvents(), registrar: &registrar{},
	}
	f.Handler = api.Handler(api.Config{
		State: f.state, Routes: f.routes, Events: f.events, Registrar: f.registrar, ProxyIP: "10.9.9.9", Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		Members: func() []client.Member {
			return []client.Member{
				{Name: "n1", Address: "10.0.0.1:7946", State: client.MemberAlive, Since: noon},
				{Name: "n2", Address: "10.0.0.2:7946", State: client.MemberDead, Since: noon},
				{Name: "n3", Address: "10.0.0.3:7946", State: client.MemberAlive, Since: noon},
			}
		},
		Drain: func(ctx context.Context, id string) (pancake.Service, error) {
			if ctx.Err() != nil {
				return pancake.Service{}, ctx.Err()
			}
			if id != "deadbeef0001" {
				return pancake.Service{}, pancake.Errorf(pancake.NotFound, "service with ID %q not found on host %q", id, "n1")
			}
			return pancake.Service{ID: id, Name: "hello"}, nil
		},
		Ready: func() error { return f.ready },
	})
	return f
}

func (f *fixture) do(method, path string) *httptest.ResponseRecorder {
	return f.send(method, path, "", nil)
}

func (f *fixture) send(method, path, body string, header map[string]string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	f.ServeHTTP(w, r)
	return w
}

// TestGolden pins the documents: other programs read them.
func TestGolden(t *testing.T) {
	f := newFixture()
	for file, path := range map[string]string{
		"state.json": "/api/state.json", "services.json": "/api/services.json", "service.json": "/api/services/hello.json", "members.json": "/api/members.json",
		"registration.json": "/v1/registration/web:8080", "clusters.json": "/v1/clusters", "listeners.json": "/v1/listeners/cluster/node", "list.json": "/v1/services?status=all&sort=-name",
	} {
		w := f.do(http.MethodGet, path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		golden := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(golden, w.Body.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if w.Body.String() != string(want) {
			t.Errorf("%s is now\n%s\nwant\n%s", path, w.Body, want)
		}
	}
}

func TestPaths(t *testing.T) {
	f := newFixture()
	f.ready = pancake.Errorf(pancake.Unavailable, "waiting")
	for _, tt := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/services.json", 200, `"Services": {`},
		{"GET", "/state.json", 200, `{"Servers":{`},
		{"GET", "/api/services/none.json", 404, `{"message":"no instances of none found","status":"error"}`},
		{"GET", "/api/services/hello.xml", 404, `"status":"error"`},
		{"POST", "/api/services/deadbeef0001/drain", 202, `{"Message":"Service \"hello\" instance \"deadbeef0001\" set to DRAINING"}`},
		{"POST", "/api/services/deadbeef0002/drain", 404, `not found on host \"n1\"`},
		{"GET", "/api/services/deadbeef0001/drain", 405, ""},
		{"OPTIONS", "/api/state.json", 200, ""},
		{"GET", "/api/traefik", 503, "not complete"},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/readyz", 503, "waiting"},
		{"GET", "/metrics", 200, ""},
		{"GET", "/nothing", 404, ""},
		{"GET", "/", 301, "/ui/"},
		{"GET", "/ui/", 200, "deadbeef0001"},
		{"GET", "/servers", 200, "Unhealthy"},
		{"GET", "/services/hello.json", 200, "deadbeef0002"},
		{"GET", "/v1/members", 200, `"Name":"n3"`},
		{"OPTIONS", "/v1/services", 200, ""},
		{"OPTIONS", "/state.json", 200, ""},
		{"GET", "/v1/registration/hello", 404, "Not Found - "},
		{"GET", "/v1/registration/none:80", 200, `"hosts":[]`},
		{"GET", "/v1/clusters/a/b", 200, `"lb_type":"round_robin"`},
		{"GET", "/v1/events?nmae=a", 400, "no filter"},
	} {
		if w := f.do(tt.method, tt.path); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
	}
	f.ready = nil
	f.routes.Set(api.Routes{Document: []byte(`{"http":{}}`)})
	if w := f.do("GET", "/api/traefik"); w.Body.String() != `{"http":{}}` {
		t.Errorf("routes: %s", w.Body)
	}
	if w := f.do("GET", "/readyz"); w.Code != 200 {
		t.Errorf("ready: %d %s", w.Code, w.Body)
	}
}

// stream opens a path of the API over a connection in memory, in simulated time.
func stream(t *testing.T, path string, fn func(f *fixture, lines *bufio.Reader, near net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.stream(t, path, "", func(lines *bufio.Reader, near net.Conn) { fn(f, lines, near) })
		synctest.Wait()
	})
}

// stream opens a path, with more headers, and closes it behind fn.
func (f *fixture) stream(t *testing.T, path, headers string, fn func(lines *bufio.Reader, near net.Conn)) {
	t.Helper()
	near, far := net.Pipe()
	ln := &oneConn{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	ln.conns <- far
	server := &http.Server{Handler: f}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	if _, err := fmt.Fprintf(near, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, headers); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(near), nil)
	if err != nil {
		t.Fatal(err)
	}
	fn(bufio.NewReader(resp.Body), near)
	_ = near.Close()   // fn may have
	_ = server.Close() // ends Serve
	<-served
}

// oneConn is a listener that has one connection.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(s, "\n")
}

func TestWatch(t *testing.T) {
	for path, key := range map[string]string{"/api/watch": "hello", "/watch?by_service=false": "Servers"} {
		stream(t, path, func(f *fixture, lines *bufio.Reader, _ net.Conn) {
			document := func() string {
				t.Helper()
				text := line(t, lines)
				var doc map[string]json.RawMessage
				if err := json.Unmarshal([]byte(text), &doc); err != nil || doc[key] == nil {
					t.Fatalf("%s: %v: %s", path, err, text)
				}
				return text
			}
			one := document()
			start := time.Now()
			if two := document(); two != one || time.Since(start) != 10*time.Second {
				t.Errorf("%s: repeated after %s: %s", path, time.Since(start), two)
			}
			c := example()
			for i := range 100 { // faster than anybody reads
				c.Merge([]pancake.Service{{ID: fmt.Sprint(i), Name: "hello", Hostname: "n3", Updated: noon}}, noon)
				f.state.Set(c.Snapshot())
			}
			documents := 1
			for start = time.Now(); !strings.Contains(document(), `"99"`); documents++ {
			}
			if documents > 3 || time.Since(start) > time.Second {
				t.Errorf("%s: the last of 100 changes came in document %d after %s", path, documents, time.Since(start))
			}
		})
	}
}

func TestTraefikStream(t *testing.T) {
	stream(t, "/api/traefik?watch=true", func(f *fixture, lines *bufio.Reader, _ net.Conn) {
		expect := func(want string, after time.Duration) {
			t.Helper()
			start := time.Now()
			if got := line(t, lines); got != want || time.Since(start) != after {
				t.Errorf("%q after %s, want %q after %s", got, time.Since(start), want, after)
			}
		}
		expect("", 0) // nothing is known yet
		expect("", 10*time.Second)
		f.routes.Set(api.Routes{Line: []byte("{1}")})
		expect("{1}", 0)
		expect("", 10*time.Second)
		f.routes.Set(api.Routes{Line: []byte("{2}")})
		f.routes.Set(api.Routes{Line: []byte("{3}")})
		if got := line(t, lines); got == "{2}" {
			expect("{3}", 0)
		} else if got != "{3}" {
			t.Errorf("got %q", got)
		}
		expect("", 10*time.Second)
	})
}

// TestSlowWatchersAreCutOff has a watcher that reads nothing any more.
func TestSlowWatchersAreCutOff(t *testing.T) {
	stream(t, "/api/watch", func(f *fixture, lines *bufio.Reader, near net.Conn) {
		line(t, lines)
		c := example()
		for i := range 5000 { // more than a buffer takes
			c.Merge([]pancake.Service{{ID: fmt.Sprint(i), Name: "hello", Hostname: "n3", Updated: noon}}, noon)
		}
		f.state.Set(c.Snapshot())
		time.Sleep(time.Minute)
		if _, err := io.ReadAll(near); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Errorf("read: %v", err)
		}
		start := time.Now()
		_, _ = near.Read(make([]byte, 1)) // only how long it takes matters
		if time.Since(start) != 0 {
			t.Error("the connection is still open")
		}
	})
}
