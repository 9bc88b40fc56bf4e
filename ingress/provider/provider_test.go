package provider

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"

	"github.com/pancake-stack/pancake/ingress/internal/fakesidecar"
)

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // the faults are on purpose
	m.Run()
}

// route is a configuration with one router of that name.
func route(name string) string {
	return fmt.Sprintf("{\"http\":{\"routers\":{%q:{\"rule\":\"Host(`x`)\",\"service\":\"s\"}},\"services\":{}}}", name)
}

const noRoutes = `{"http":{"routers":{},"services":{}}}`

// start runs a provider for url until the test ends.
func start(t *testing.T, p *Provider) <-chan dynamic.Message {
	t.Helper()
	if err := p.Init(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan dynamic.Message)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx, out)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return out
}

// want waits for a configuration with exactly these routers.
func want(t *testing.T, out <-chan dynamic.Message, routers ...string) {
	t.Helper()
	select {
	case m := <-out:
		if m.ProviderName != Name || len(m.Configuration.HTTP.Routers) != len(routers) {
			t.Fatalf("got %d routers from %s, want %v", len(m.Configuration.HTTP.Routers), m.ProviderName, routers)
		}
		for _, name := range routers {
			if m.Configuration.HTTP.Routers[name] == nil {
				t.Fatalf("router %s is missing", name)
			}
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no configuration with %v", routers)
	}
}

func TestFollowsChanges(t *testing.T) {
	sidecar := fakesidecar.New(route("a"))
	server := httptest.NewServer(sidecar)
	defer server.Close()
	out := start(t, &Provider{URL: server.URL + "/"})
	want(t, out, "a")
	sidecar.Set("") // a heartbeat
	sidecar.Set(route("a"))
	sidecar.Set(route("b"))
	want(t, out, "b") // the unchanged one was not sent
	sidecar.Set(noRoutes)
	want(t, out)
	sidecar.Hangup()
}

func TestComesBack(t *testing.T) {
	sidecar := fakesidecar.New(route("a"))
	server := httptest.NewServer(sidecar)
	defer server.Close()
	out := start(t, &Provider{URL: server.URL})
	want(t, out, "a")
	for i := range 3 {
		sidecar.Set("") // so that the stream is known to be read before it ends
		sidecar.Hangup()
		next := fmt.Sprint("b", i)
		sidecar.Set(route(next))
		want(t, out, next)
	}
	if n := sidecar.Streams(); n < 4 {
		t.Errorf("%d streams, want at least 4", n)
	}
	sidecar.Hangup()
}

func TestKeepsLastGood(t *testing.T) {
	garbage := map[string]string{
		"not JSON":         "<html>502 Bad Gateway</html>",
		"cut off":          route("b")[:40],
		"unknown field":    `{"http":{"routers":{"b":{"rule":"x","midlewares":["auth"]}}}}`,
		"wrong type":       `{"http":{"routers":[]}}`,
		"two on a line":    route("b") + route("c"),
		"nothing in it":    `{}`,
		"no routers":       `{"http":{"services":{}}}`,
		"null":             `null`,
		"null router":      `{"http":{"routers":{"b":null}}}`,
		"null service":     `{"http":{"routers":{},"services":{"b":null}}}`,
		"null tcp router":  `{"http":{"routers":{}},"tcp":{"routers":{"b":null}}}`,
		"null udp service": `{"http":{"routers":{}},"udp":{"services":{"b":null}}}`,
		"null certificate": `{"http":{"routers":{}},"tls":{"certificates":[null]}}`,
	}
	for name, line := range garbage {
		t.Run(name, func(t *testing.T) {
			sidecar := fakesidecar.New(route("a"))
			server := httptest.NewServer(sidecar)
			defer server.Close()
			out := start(t, &Provider{URL: server.URL})
			want(t, out, "a")
			sidecar.Set(line)
			sidecar.Set(route("good"))
			want(t, out, "good") // and nothing in between
			sidecar.Hangup()
		})
	}
}

func TestRetriesAfterErrors(t *testing.T) {
	sidecar := fakesidecar.New(route("a"))
	answers := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answers++; answers < 4 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		sidecar.ServeHTTP(w, r)
	}))
	defer server.Close()
	out := start(t, &Provider{URL: server.URL})
	want(t, out, "a")
	sidecar.Hangup()
}

func TestCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "routes.json")
	sidecar := fakesidecar.New(route("a"))
	server := httptest.NewServer(sidecar)
	first, cancel := context.WithCancel(t.Context())
	p := &Provider{URL: server.URL, Cache: file}
	if err := p.Init(); err != nil {
		t.Fatal(err)
	}
	out, done := make(chan dynamic.Message), make(chan struct{})
	go func() { defer close(done); p.run(first, out) }()
	want(t, out, "a")
	sidecar.Set(route("b"))
	want(t, out, "b")
	sidecar.Set("garbage")
	sidecar.Set(route("c"))
	want(t, out, "c") // so "b" is kept by now, and soon "c"
	waitFor(t, func() bool { text, _ := os.ReadFile(file); return strings.Contains(string(text), `"c"`) })
	cancel()
	<-done
	sidecar.Hangup()
	server.Close()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("cache: %v, %v; want mode 0600", info, err)
	}

	want(t, start(t, &Provider{URL: server.URL, Cache: file}), "c")

	notReady := fakesidecar.New("")
	server = httptest.NewServer(notReady)
	defer server.Close()
	again := start(t, &Provider{URL: server.URL, Cache: file})
	want(t, again, "c")
	notReady.Set(route("d"))
	want(t, again, "d")
	notReady.Hangup()
}

func TestUnusableCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	sidecar := fakesidecar.New(route("a"))
	var up bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up {
			up = true
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		sidecar.ServeHTTP(w, r)
	}))
	defer server.Close()
	want(t, start(t, &Provider{URL: server.URL, Cache: file}), "a")
	sidecar.Hangup()
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen within 10 s")
}

func TestInit(t *testing.T) {
	for _, bad := range []string{"127.0.0.1:7777", "ftp://x", "http://", "http://[::1", "/path"} {
		if err := (&Provider{URL: bad}).Init(); err == nil || !strings.Contains(err.Error(), "sidecar.url") {
			t.Errorf("%q: error %v, want one that names sidecar.url", bad, err)
		}
	}
	p := &Provider{}
	if err := p.Init(); err != nil || p.stream != "http://127.0.0.1:7777/api/traefik?watch=true" {
		t.Errorf("default: %q, %v", p.stream, err)
	}
	if p.ThrottleDuration() != 0 {
		t.Error("the provider is throttled")
	}
}

// TestSilence runs on simulated time: a stream that is quiet for 30 s is given
// up and opened anew, one with heartbeats is not.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := make(chan net.Conn, 10)
		p := &Provider{URL: "http://sidecar"}
		if err := p.Init(); err != nil {
			t.Fatal(err)
		}
		p.client = &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				dials <- there
				return here, nil
			},
		}}
		ctx, cancel := context.WithCancel(t.Context())
		out, done := make(chan dynamic.Message, 10), make(chan struct{})
		go func() { defer close(done); p.run(ctx, out) }()

		conn := <-dials
		go io.Copy(io.Discard, conn)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\r\n%s\n", route("a"))
		for range 6 { // a minute of heartbeats
			time.Sleep(10 * time.Second)
			io.WriteString(conn, "\n")
		}
		synctest.Wait()
		if len(dials) > 0 {
			t.Fatal("gave up a stream that was alive")
		}
		time.Sleep(silence + 100*time.Millisecond)
		synctest.Wait()
		if len(dials) != 1 {
			t.Fatalf("%d new streams after 30 s of silence, want 1", len(dials))
		}
		cancel()
		(<-dials).Close()
		conn.Close()
		<-done
		if len(out) != 1 {
			t.Errorf("%d configurations, want 1", len(out))
		}
	})
}

// TestBackoff counts attempts against a dead sidecar on simulated time.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		p := &Provider{}
		if err := p.Init(); err != nil {
			t.Fatal(err)
		}
		p.client = &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				at = append(at, time.Since(began))
				return nil, io.ErrUnexpectedEOF
			},
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.run(ctx, nil)
		if len(at) < 30 || len(at) > 120 {
			t.Errorf("%d attempts in a minute", len(at))
		}
		if at[1] > 100*time.Millisecond {
			t.Errorf("first retry after %s, want within 100 ms", at[1])
		}
		for i := range at[1:] {
			if gap := at[i+1] - at[i]; gap > 2*time.Second {
				t.Errorf("retry %d came after %s, want 2 s at most", i, gap)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(route("a")))
	f.Add([]byte(noRoutes))
	f.Add([]byte(`{"http":{"routers":{"a":null}},"tls":{"certificates":[null]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		conf, err := decode(line)
		if err != nil {
			return
		}
		if conf.HTTP.Routers == nil {
			t.Fatal("Traefik would ignore this configuration")
		}
		conf.DeepCopy() // what Traefik does first; it panics on what it does not expect
	})
}
