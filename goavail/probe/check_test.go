package probe

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pancake-stack/pancake"
)

// listen opens a port on a loopback address.
func listen(t testing.TB, ip string) (net.Listener, int) {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, ln.Addr().(*net.TCPAddr).Port
}

// await begins a probe and waits for its end.
func await(t *testing.T, tools *tools, probe begin) error {
	done := make(chan error, 1)
	probe(t.Context(), func(err error) { done <- err })
	tools.settle()
	return <-done
}

// once probes once; "" means that the target works.
func once(t *testing.T, c Check) string {
	t.Helper()
	tools := newTools(slog.New(slog.DiscardHandler))
	defer tools.close()
	begin, err := tools.prepare(c.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	if err := await(t, tools, begin); err != nil {
		return err.Error()
	}
	return ""
}

func expect(t *testing.T, c Check, want string) {
	t.Helper()
	if got := once(t, c); (want == "") != (got == "") || !strings.Contains(got, want) {
		t.Errorf("%+v: got %q, want %q", c, got, want)
	}
}

// closedPort is a port that nothing listens on.
func closedPort(t *testing.T, ip string) int {
	ln, port := listen(t, ip)
	ln.Close()
	return port
}

func TestTCP(t *testing.T) {
	_, port := listen(t, "127.30.1.1")
	expect(t, Check{Address: "127.30.1.1", Port: port}, "")
	expect(t, Check{Address: "127.30.1.1", Port: closedPort(t, "127.30.1.1")}, "refused")
	_, port6 := listen(t, "::1")
	expect(t, Check{Address: "::1", Port: port6}, "")
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "host=%s agent=%s", r.Host, r.UserAgent())
	})
	mux.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		port := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr).Port
		http.Redirect(w, r, fmt.Sprintf("http://elsewhere.invalid:%d/500", port), http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("x", 4096))); err != nil {
				return
			}
		}
	})
	ln, port := listen(t, "127.30.1.2")
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close() })
	base := Check{Kind: HTTP, Address: "127.30.1.2", Port: port, Path: "/ok", Timeout: 5 * time.Second}
	for name, tt := range map[string]struct {
		change func(*Check)
		want   string
	}{
		"ok":                    {func(c *Check) {}, ""},
		"status":                {func(c *Check) { c.Path = "/500" }, "status 500"},
		"status wanted":         {func(c *Check) { c.Path, c.Status = "/500", "404,500-501" }, ""},
		"host":                  {func(c *Check) { c.Host, c.Body = "www.example.org", "^host=www.example.org agent=pancake-goavail$" }, ""},
		"body":                  {func(c *Check) { c.Body = "no such text" }, "does not match"},
		"body is bounded":       {func(c *Check) { c.Path, c.Body = "/endless", "y" }, "does not match"},
		"hang":                  {func(c *Check) { c.Path, c.Timeout = "/hang", 50*time.Millisecond }, "no answer in time"},
		"redirect":              {func(c *Check) { c.Path = "/moved" }, ""},
		"redirect judged":       {func(c *Check) { c.Path, c.Status = "/moved", "200" }, "status 302"},
		"redirect stays":        {func(c *Check) { c.Path, c.Follow = "/moved", true }, "status 500"},
		"redirects without end": {func(c *Check) { c.Path, c.Follow = "/loop", true }, "more than 5 redirects"},
		"closed":                {func(c *Check) { c.Port = closedPort(t, "127.30.1.2") }, "refused"},
		"no TLS":                {func(c *Check) { c.Kind = HTTPS }, "HTTP response"},
	} {
		t.Run(name, func(t *testing.T) {
			c := base
			tt.change(&c)
			expect(t, c, tt.want)
		})
	}
}

// certificate is httptest's, which is good for example.com and 127.0.0.1 until 2084.
func certificate(t *testing.T) (tls.Certificate, string) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.TLS.Certificates[0], file
}

func TestHTTPS(t *testing.T) {
	cert, ca := certificate(t)
	ln, port := listen(t, "127.30.1.3")
	srv := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.ServerName) }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { srv.Close() })
	base := Check{Kind: HTTPS, Address: "127.30.1.3", Port: port, CA: ca, Host: "example.com:99", Body: "^example.com$", Timeout: 5 * time.Second}
	for want, change := range map[string]func(*Check){
		"":                        func(*Check) {},
		"not www.example.org":     func(c *Check) { c.SNI = "www.example.org" },
		"unknown authority":       func(c *Check) { c.CA = "" },
		"the certificate expires": func(c *Check) { c.CertValid = 100 * 365 * 24 * time.Hour },
	} {
		c := base
		change(&c)
		expect(t, c, want)
	}
	base.CA, base.SkipVerify = "", true
	expect(t, base, "")
}

func TestGRPC(t *testing.T) {
	ln, port := listen(t, "127.30.1.4")
	srv, h := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, h)
	h.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	c := Check{Kind: GRPC, Address: "127.30.1.4", Port: port, Timeout: 5 * time.Second}
	expect(t, c, "")
	c.Service = "sick"
	expect(t, c, "NOT_SERVING")
	c.Service = "nobody"
	expect(t, c, "NotFound")
	c.TLS = true
	expect(t, c, "tls")
	c.Port = closedPort(t, "127.30.1.4")
	expect(t, c, "refused")
	silent, port := listen(t, "127.30.1.4")
	_ = silent
	c.Port, c.TLS, c.Timeout = port, false, 100*time.Millisecond
	expect(t, c, "no answer in time")
}

func TestDNS(t *testing.T) {
	mux := dns.NewServeMux()
	mux.HandleFunc("example.org.", func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch q.Question[0].Name {
		case "www.example.org.":
			rr, _ := dns.NewRR("www.example.org. 60 IN A 192.0.2.7")
			m.Answer = append(m.Answer, rr)
		case "gone.example.org.":
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	pc, err := net.ListenPacket("udp", "127.30.1.5:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: mux}
	go func() { _ = srv.ActivateAndServe() }()
	t.Cleanup(func() { _ = srv.Shutdown() })
	c := Check{Kind: DNS, Address: "127.30.1.5", Port: pc.LocalAddr().(*net.UDPAddr).Port, Query: "www.example.org", Timeout: 5 * time.Second}
	expect(t, c, "")
	c.Answer = "192.0.2.7"
	expect(t, c, "")
	c.Answer = "192.0.2.8"
	expect(t, c, "is not 192.0.2.8")
	c.Query = "gone.example.org"
	expect(t, c, "NXDOMAIN")
	c.Query = "empty.example.org"
	expect(t, c, "has no A")
	c.Port, c.Timeout = closedPort(t, "127.30.1.5"), 200*time.Millisecond
	expect(t, c, "refused")
}

func TestICMP(t *testing.T) {
	expect(t, Check{Kind: ICMP, Address: "127.30.1.6"}, "")
	expect(t, Check{Kind: ICMP, Address: "::1"}, "")
	expect(t, Check{Kind: ICMP, Address: "localhost"}, "")
	// 203.0.113.0/24 is set aside for documentation; here it has no route or no answer.
	if got := once(t, Check{Kind: ICMP, Address: "203.0.113.77", Timeout: 100 * time.Millisecond}); got == "" {
		t.Error("an address that does not exist answered")
	}
}

func TestOwnFaultsAreNotTheTargets(t *testing.T) {
	for _, c := range []Check{
		{Address: "does-not-exist.invalid", Port: 1, Timeout: time.Second},
		{Address: "255.255.255.255", Port: 1, Timeout: time.Second}, // connecting to broadcast is not permitted
	} {
		tools := newTools(slog.New(slog.DiscardHandler))
		check, err := tools.prepare(c.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		if err := await(t, tools, check); err == nil || !own(err) {
			t.Errorf("%s: %v counts as the target's", c.Address, err)
		}
	}
	for _, err := range []error{errors.New("status 500"), context.DeadlineExceeded} {
		if own(err) {
			t.Errorf("%v counts as our own", err)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, c := range map[string]Check{
		"has to be an IP": {},
		"without a port":  {Address: "1.2.3.4:80"},
		"needs a port":    {Address: "1.2.3.4"},
		"not a port":      {Address: "1.2.3.4", Port: 70000},
		"not known":       {Address: "1.2.3.4", Port: 1, Kind: "udp"},
		"interval":        {Address: "1.2.3.4", Port: 1, Interval: time.Millisecond},
		"timeout":         {Address: "1.2.3.4", Port: 1, Timeout: time.Hour},
		"fall and rise":   {Address: "1.2.3.4", Port: 1, Fall: -1},
		"status":          {Address: "1.2.3.4", Kind: HTTP, Status: "99"},
		"body":            {Address: "1.2.3.4", Kind: HTTP, Body: "("},
		"begin with /":    {Address: "1.2.3.4", Kind: HTTP, Path: "x"},
		"not a domain":    {Address: "1.2.3.4", Kind: DNS},
		"type of records": {Address: "1.2.3.4", Kind: DNS, Query: "x.org", Type: "QQ"},
	} {
		if err := c.Validate(); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	if _, err := newTools(nil).prepare(Check{Address: "1.2.3.4", Kind: HTTPS, CA: "/does/not/exist"}.WithDefaults()); pancake.KindOf(err) != pancake.Invalid {
		t.Error(err)
	}
}

// A resolver that does not answer tells nothing of the target.
func TestALookupThatHangsIsOurOwnFailure(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.33.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Resolver: before}).DialContext(ctx, "udp", silent.LocalAddr().String())
	}}
	for _, kind := range []string{ICMP, TCP, HTTP, HTTPS, GRPC, DNS} {
		tools := newTools(slog.New(slog.DiscardHandler))
		check, err := tools.prepare(Check{Kind: kind, Address: "target.example", Port: 1, Query: "example.org", Timeout: 300 * time.Millisecond}.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		if err := await(t, tools, check); err == nil || !own(err) {
			t.Errorf("%s: %v counts as the target's", kind, err)
		}
		tools.close()
	}
}
