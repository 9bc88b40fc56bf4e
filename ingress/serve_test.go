package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/traefik/paerser/flag"

	"github.com/pancake-stack/pancake/ingress/internal/fakesidecar"
)

// ingress is a Traefik that runs in this process.
type ingress struct {
	web, secure, ping string // addresses
	stop              context.CancelFunc
	done              chan error
}

// startIngress runs Traefik until the test ends and waits until it answers.
func startIngress(t testing.TB, sidecar string, args ...string) *ingress {
	t.Helper()
	in := &ingress{web: freeAddress(t), secure: freeAddress(t), ping: freeAddress(t), done: make(chan error, 1)}
	cfg := newConfiguration()
	args = append([]string{
		"--entrypoints.web.address=" + in.web,
		"--entrypoints.websecure.address=" + in.secure,
		"--entrypoints.websecure.http.tls=true",
		"--entrypoints.traefik.address=" + in.ping,
		"--ping=true",
		"--global.sendanonymoususage=true", // in vain
		"--sidecar.url=" + sidecar,
	}, args...)
	if err := flag.Decode(args, cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in.stop = cancel
	go func() { in.done <- serve(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-in.done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	eventually(t, "the ping", func() bool {
		resp, err := http.Get("http://" + in.ping + "/ping")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if cfg.Global.SendAnonymousUsage || cfg.Global.CheckNewVersion {
		t.Error("it phones home")
	}
	return in
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: not within 30 s", what)
}

// get asks for a host through the web entry point.
func (in *ingress) get(host string) (int, string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+in.web+"/", http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

func (in *ingress) wants(t testing.TB, host string, status int, text string) {
	t.Helper()
	var got int
	var body string
	for range 3000 {
		if got, body = in.get(host); got == status && strings.Contains(body, text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s answers %d %q, want %d %q", host, got, body, status, text)
}

// backend answers with its name and the host it was asked for.
func backend(t testing.TB, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", name, r.Host)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

const noRoutes = `{"http":{"routers":{},"services":{}}}`

// routes are the sidecar's routes for one service with these servers.
func routes(service string, servers ...string) string {
	type object = map[string]any
	var list []object
	for _, url := range servers {
		list = append(list, object{"url": url})
	}
	line, err := json.Marshal(object{"http": object{
		"routers": object{service: object{"rule": "Host(`" + service + ".localhost`)", "service": service}},
		"services": object{service: object{"loadBalancer": object{
			"servers": list, "strategy": "wrr", "passHostHeader": true,
			"responseForwarding": object{"flushInterval": "100ms"},
		}}},
	}})
	if err != nil {
		panic(err)
	}
	return string(line)
}

// TestRoutes follows one route through its life in a real Traefik.
func TestRoutes(t *testing.T) {
	sidecar := fakesidecar.New(noRoutes)
	server := httptest.NewServer(sidecar)
	defer server.Close()
	defer sidecar.Hangup()
	in := startIngress(t, server.URL)
	in.wants(t, "hello.localhost", http.StatusNotFound, "")

	sidecar.Set(routes("hello", backend(t, "one")))
	in.wants(t, "hello.localhost", http.StatusOK, "one for hello.localhost")
	sidecar.Set(routes("hello", backend(t, "two")))
	in.wants(t, "hello.localhost", http.StatusOK, "two")
	sidecar.Set(routes("hello"))
	in.wants(t, "hello.localhost", http.StatusServiceUnavailable, "")
	sidecar.Set(routes("hello", backend(t, "three")))
	in.wants(t, "hello.localhost", http.StatusOK, "three")

	sidecar.Set("garbage")
	sidecar.Hangup() // and now none answers for a moment
	in.wants(t, "hello.localhost", http.StatusOK, "three")

	sidecar.Set(noRoutes) // the last route goes
	in.wants(t, "hello.localhost", http.StatusNotFound, "")
}

// TestDefaultCertificate looks at TLS for a name without a certificate.
func TestDefaultCertificate(t *testing.T) {
	sidecar := fakesidecar.New(routes("hello", backend(t, "one")))
	server := httptest.NewServer(sidecar)
	defer server.Close()
	defer sidecar.Hangup()
	in := startIngress(t, server.URL)
	in.wants(t, "hello.localhost", http.StatusOK, "one")
	serial := func() string {
		conn, err := tls.Dial("tcp", in.secure, &tls.Config{InsecureSkipVerify: true, ServerName: "hello.localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := conn.ConnectionState().PeerCertificates[0]
		if _, ok := c.PublicKey.(*ecdsa.PublicKey); !ok {
			t.Fatalf("the key is %T, want ECDSA", c.PublicKey)
		}
		return c.SerialNumber.String()
	}
	before := serial()
	sidecar.Set(routes("hello", backend(t, "two")))
	in.wants(t, "hello.localhost", http.StatusOK, "two")
	if after := serial(); after != before {
		t.Error("a change of routes made a new default certificate")
	}
}

// TestStopFinishesRequests ends the ingress while a request is on its way.
func TestStopFinishesRequests(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-release
		io.WriteString(w, "finished")
	}))
	defer slow.Close()
	sidecar := fakesidecar.New(routes("hello", backend(t, "fast")))
	server := httptest.NewServer(sidecar)
	defer server.Close()
	defer sidecar.Hangup()
	in := startIngress(t, server.URL)
	in.wants(t, "hello.localhost", http.StatusOK, "fast")
	sidecar.Set(routes("slow", slow.URL))
	in.wants(t, "hello.localhost", http.StatusNotFound, "") // so the new routes are in force

	answer := make(chan string, 1)
	go func() {
		status, body := in.get("slow.localhost")
		answer <- fmt.Sprint(status, " ", body)
	}()
	<-reached
	in.stop()
	eventually(t, "the entry point closes", func() bool {
		conn, err := net.Dial("tcp", in.web)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-answer; got != "200 finished" {
		t.Errorf("the request under way got %q", got)
	}
}

// TestStartsWithoutSidecar starts with the routes of a run before.
func TestStartsWithoutSidecar(t *testing.T) {
	cache := "--sidecar.cache=" + t.TempDir() + "/routes.json"
	sidecar := fakesidecar.New(routes("hello", backend(t, "one")))
	server := httptest.NewServer(sidecar)
	in := startIngress(t, server.URL, cache)
	in.wants(t, "hello.localhost", http.StatusOK, "one")
	in.stop()
	in.done <- <-in.done
	sidecar.Hangup()
	server.Close()

	in = startIngress(t, server.URL, cache)
	in.wants(t, "hello.localhost", http.StatusOK, "one")
}

// BenchmarkUpdateToRouted measures from the sidecar's line to the first
// request that the new server answers.
func BenchmarkUpdateToRouted(b *testing.B) {
	for _, others := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("routers=%d", others), func(b *testing.B) {
			backends := []string{backend(b, "even"), backend(b, "odd")}
			var rest strings.Builder
			for i := range others {
				fmt.Fprintf(&rest, "\"r%d\":{\"rule\":\"Host(`r%d.localhost`)\",\"service\":\"hello\"},", i, i)
			}
			line := func(i int) string {
				return strings.Replace(routes("hello", backends[i%2]), `"routers":{`, `"routers":{`+rest.String(), 1)
			}
			sidecar := fakesidecar.New(line(1))
			server := httptest.NewServer(sidecar)
			defer server.Close()
			defer sidecar.Hangup()
			in := startIngress(b, server.URL)
			in.wants(b, "hello.localhost", http.StatusOK, "odd")
			names := []string{"even", "odd"}
			for i := 0; b.Loop(); i++ {
				sidecar.Set(line(i))
				for {
					if _, body := in.get("hello.localhost"); strings.HasPrefix(body, names[i%2]) {
						break
					}
				}
			}
		})
	}
}
