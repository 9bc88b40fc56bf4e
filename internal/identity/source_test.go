package identity

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
)

// server runs an HTTPS server whose configuration is a source's.
func server(t *testing.T, s *Source, opts ServerOptions) (url string, refused func() []Reason) {
	t.Helper()
	var mu sync.Mutex
	var reasons []Reason
	opts.Denied = func(remote net.Addr, err error) {
		mu.Lock()
		defer mu.Unlock()
		if remote == nil {
			t.Error("refused without an address")
		}
		reasons = append(reasons, ReasonOf(err))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		peer, ok := PeerOf(r.TLS)
		fmt.Fprintf(w, "%s %v %s", r.Proto, ok, peer.ID)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) { // answers line by line
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.EnableFullDuplex(), rc.Flush()); err != nil {
			t.Error(err)
		}
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			fmt.Fprintln(w, in.Text())
			_ = rc.Flush()
		}
	})
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	srv := &http.Server{Handler: mux, TLSConfig: s.ServerTLS(opts), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "https://" + ln.Addr().String(), func() []Reason {
		mu.Lock()
		defer mu.Unlock()
		return append([]Reason(nil), reasons...)
	}
}

func httpClient(t *testing.T, cfg *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func fetch(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestMutualTLS(t *testing.T) {
	now := time.Now()
	ca, other := newCA(t, "c1", now), newCA(t, "c1", now)
	sched := source(t, leaf(t, ca, id(Scheduler, "s1"), IssueOptions{}, now))
	mtls := func(l Leaf, expect Expect) *tls.Config { return source(t, l).ClientTLS(expect) }
	agent := func(ca *CA, name string, at time.Time) Leaf { return leaf(t, ca, id(Agent, name), IssueOptions{}, at) }
	// forged shows a certificate that its own source would not send.
	forged := func(l Leaf) *tls.Config {
		cfg := TrustTLS(Bundle{ca.Cert}, Expect{})
		cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{l.Cert.Raw}, PrivateKey: l.Key}}
		return cfg
	}
	c2 := *ca
	c2.Cluster = "c2"
	foreign := leaf(t, &c2, Identity{"c2", Agent, "a"}, IssueOptions{}, now)
	agents := ServerOptions{Expect: Expect{Kinds: []Kind{Agent}}, Allow: func(p Peer) error {
		if p.ID == "gone" {
			return Deny(Revoked, "revoked")
		}
		return nil
	}}
	optional := ServerOptions{Optional: true}
	toScheduler := Expect{Kinds: []Kind{Scheduler}}
	for name, tc := range map[string]struct {
		opts   ServerOptions
		client *tls.Config
		want   string // the answer
		server Reason // of the server's refusal
		here   Reason // of the client's own
	}{
		"good":                   {agents, mtls(agent(ca, "a", now), toScheduler), "HTTP/2.0 true a", "", ""},
		"by fingerprint":         {optional, JoinTLS(ca.Fingerprint()), "HTTP/2.0 false ", "", ""},
		"without a certificate":  {optional, TrustTLS(Bundle{other.Cert, ca.Cert}, Expect{Cluster: "c1"}), "HTTP/2.0 false ", "", ""},
		"optional, with one":     {optional, mtls(agent(ca, "a", now), toScheduler), "HTTP/2.0 true a", "", ""},
		"none":                   {agents, JoinTLS(ca.Fingerprint()), "", NoCertificate, ""},
		"another CA":             {agents, forged(agent(other, "a", now)), "", WrongCA, ""},
		"optional, another CA":   {optional, forged(agent(other, "a", now)), "", WrongCA, ""},
		"expired":                {agents, forged(agent(ca, "a", now.Add(-25*time.Hour))), "", Expired, ""},
		"from the future":        {agents, forged(agent(ca, "a", now.Add(time.Hour))), "", NotYetValid, ""},
		"another kind":           {agents, mtls(leaf(t, ca, id(Goavail, "g"), IssueOptions{}, now), toScheduler), "", WrongKind, ""},
		"another cluster":        {agents, forged(foreign), "", WrongCluster, ""},
		"revoked":                {agents, mtls(agent(ca, "gone", now), toScheduler), "", Revoked, ""},
		"own one expired":        {agents, mtls(agent(ca, "a", now.Add(-25*time.Hour)), toScheduler), "", "", Expired},
		"server of another CA":   {agents, mtls(agent(other, "a", now), toScheduler), "", "", WrongCA},
		"server of another kind": {agents, mtls(agent(ca, "a", now), Expect{Kinds: []Kind{Agent}}), "", "", WrongKind},
		"server of another name": {agents, mtls(agent(ca, "a", now), Expect{ID: "s2"}), "", "", WrongPeer},
		"another fingerprint":    {optional, JoinTLS(other.Fingerprint()), "", "", WrongCA},
	} {
		t.Run(name, func(t *testing.T) {
			url, refused := server(t, sched, tc.opts)
			got, err := fetch(httpClient(t, tc.client), url)
			if tc.want != "" {
				if err != nil || got != tc.want {
					t.Fatalf("%q, %v", got, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("let in: %q", got)
			}
			if ReasonOf(err) != tc.here {
				t.Errorf("the client says %v", err)
			}
			if tc.server == "" {
				return
			}
			// The alert may be lost when the connection ends while the client still writes.
			if text := err.Error(); strings.Contains(text, "remote error") && !strings.Contains(text, "bad certificate") {
				t.Errorf("the client is told %v", err)
			}
			if r := refused(); len(r) == 0 || r[0] != tc.server {
				t.Errorf("the server says %v, want %s", r, tc.server)
			}
		})
	}
	if cfg := sched.ServerTLS(agents); cfg.MinVersion != tls.VersionTLS13 {
		t.Error("older TLS than 1.3")
	}
}

// A join server without mutual TLS, run by an agent, is not a scheduler.
func TestOnlySchedulersTakeJoins(t *testing.T) {
	now := time.Now()
	ca := newCA(t, "c1", now)
	url, _ := server(t, source(t, leaf(t, ca, id(Agent, "evil"), IssueOptions{}, now)), ServerOptions{Optional: true})
	if _, err := fetch(httpClient(t, JoinTLS(ca.Fingerprint())), url); ReasonOf(err) != WrongKind {
		t.Errorf("got %v", err)
	}
}

// A stream goes on and requests work at every step while certificates and CA are
// replaced on both sides.
func TestRotationDropsNothing(t *testing.T) {
	now := time.Now()
	old, next := newCA(t, "c1", now), newCA(t, "c1", now)
	srv := source(t, leaf(t, old, id(Scheduler, "s"), IssueOptions{}, now))
	cli := source(t, leaf(t, old, id(Agent, "a"), IssueOptions{}, now))
	url, refused := server(t, srv, ServerOptions{})
	body, in := io.Pipe()
	resp, err := httpClient(t, cli.ClientTLS(Expect{})).Post(url+"/stream", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out := bufio.NewReader(resp.Body)
	step := func(name string) {
		t.Helper()
		fmt.Fprintln(in, name)
		if line, err := out.ReadString('\n'); err != nil || strings.TrimSpace(line) != name {
			t.Fatalf("%s: the stream says %q, %v", name, line, err)
		}
		if _, err := fetch(httpClient(t, cli.ClientTLS(Expect{})), url); err != nil {
			t.Fatalf("%s: a new connection: %v", name, err)
		}
	}
	both, only := Bundle{old.Cert, next.Cert}, Bundle{next.Cert}
	renew := func(s *Source, ca *CA) {
		l := leaf(t, ca, s.Identity(), IssueOptions{}, now)
		l.Bundle = both
		if err := s.Set(l); err != nil {
			t.Fatal(err)
		}
	}
	bundle := func(s *Source, b Bundle) {
		if err := s.SetBundle(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []struct {
		name string
		do   func()
	}{
		{"start", func() {}},
		{"server renewed", func() { renew(srv, old) }},
		{"server trusts both", func() { bundle(srv, both) }},
		{"client trusts both", func() { bundle(cli, both) }},
		{"server switched", func() { renew(srv, next) }},
		{"client switched", func() { renew(cli, next) }},
		{"server forgets", func() { bundle(srv, only) }},
		{"client forgets", func() { bundle(cli, only) }},
	} {
		s.do()
		step(s.name)
	}
	in.Close()
	stale := source(t, leaf(t, old, id(Agent, "stale"), IssueOptions{}, now))
	bundle(stale, both)
	cfg := stale.ClientTLS(Expect{})
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return stale.certificate(), nil }
	if _, err := fetch(httpClient(t, cfg), url); err == nil || len(refused()) != 1 || refused()[0] != WrongCA {
		t.Errorf("the old CA is still trusted: %v, %v", err, refused())
	}
}

func TestSourceKeepsWhatIsGood(t *testing.T) {
	ca := newCA(t, "c1", now)
	good, other := leaf(t, ca, id(Agent, "a"), IssueOptions{}, now), leaf(t, ca, id(Agent, "a"), IssueOptions{}, now)
	s := source(t, good)
	mixed := good
	mixed.Key = other.Key
	for name, l := range map[string]Leaf{"empty": {}, "no bundle": {Key: good.Key, Cert: good.Cert}, "mixed": mixed, "no identity": {Key: ca.key, Cert: ca.Cert, Bundle: good.Bundle}} {
		if err := s.Set(l); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.SetBundle(nil); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("empty bundle: %v", err)
	}
	if !s.Leaf().Cert.Equal(good.Cert) || len(s.Leaf().Bundle) != 1 {
		t.Error("the good leaf is gone")
	}
	if _, ok := PeerOf(nil); ok {
		t.Error("a peer without TLS")
	}
}
