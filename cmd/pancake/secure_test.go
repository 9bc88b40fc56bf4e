package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// secureScheduler answers the part of the API that is about identities, over TLS
// with a certificate of a CA of its own.
type secureScheduler struct {
	ca    *identity.CA
	url   string
	token string       // the one that it takes
	next  *identity.CA // if set, the one that will follow

	mu        sync.Mutex
	shown     []string // the Authorization headers that it got
	certified []string // who showed a certificate
	resealed  int
	created   []client.TokenBody
	revoked   []string
	rotated   []client.RotateBody
	query     []string // of audit
	phase     string
	tokens    []client.TokenInfo
	audit     []client.AuditEntry
}

func newSecureScheduler(t *testing.T) *secureScheduler {
	t.Helper()
	s := &secureScheduler{token: identity.NewToken(identity.APIToken, identity.Fingerprint{}).Reveal(), phase: "stable"}
	var err error
	if s.ca, err = identity.NewCA("test", time.Now()); err != nil {
		t.Fatal(err)
	}
	s.url = serveTLS(t, s.serverTLS(t, identity.Scheduler), s.handler())
	return s
}

func serveTLS(t *testing.T, cfg *tls.Config, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that tests make fail
	server.TLS, server.EnableHTTP2 = cfg, true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// serverTLS is what a part of the kind listens with.
func (s *secureScheduler) serverTLS(t *testing.T, kind identity.Kind) *tls.Config {
	t.Helper()
	source, err := identity.NewSource(s.leaf(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	return source.ServerTLS(identity.ServerOptions{Optional: true})
}

func (s *secureScheduler) leaf(t *testing.T, kind identity.Kind) identity.Leaf {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := s.ca.Issue(csr, identity.Identity{Cluster: "test", Kind: kind, ID: "one"}, identity.IssueOptions{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return identity.Leaf{Key: key, Cert: cert, Bundle: identity.Bundle{s.ca.Cert}}
}

func (s *secureScheduler) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(w http.ResponseWriter, r *http.Request) (any, error)) {
		mux.Handle(pattern, serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.shown = append(s.shown, r.Header.Get("Authorization"))
			if p, ok := identity.PeerOf(r.TLS); ok {
				s.certified = append(s.certified, p.Identity.String())
			} else if r.URL.Path != "/v1/ca" && r.Header.Get("Authorization") != "Bearer "+s.token {
				return pancake.Errorf(pancake.Unauthenticated, "this token is not known")
			}
			out, err := fn(w, r)
			if err != nil || out == nil {
				return err
			}
			return serve.JSON(w, http.StatusOK, out)
		}))
	}
	handle("GET /v1/ca", func(http.ResponseWriter, *http.Request) (any, error) { return s.view(), nil })
	handle("POST /v1/ca/rotate", s.rotate)
	handle("POST /v1/gossip-keys/rotate", s.rotate)
	handle("POST /v1/ca/reseal", func(http.ResponseWriter, *http.Request) (any, error) { s.resealed++; return nil, nil })
	handle("GET /v1/gossip-keys", s.gossip)
	handle("POST /v1/ca/issue", s.issue)
	handle("POST /v1/ca/revoke", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var body client.RevokeBody
		err := serve.ReadJSON(w, r, 0, &body)
		s.revoked = append(s.revoked, body.Kind+"/"+body.ID)
		return nil, err
	})
	handle("GET /v1/agents", func(http.ResponseWriter, *http.Request) (any, error) { return []client.AgentView{}, nil })
	handle("GET /v1/requests", func(http.ResponseWriter, *http.Request) (any, error) {
		return nil, pancake.Errorf(pancake.Forbidden, "token:x has no role; \"read\" needs the role viewer")
	})
	handle("GET /v1/tokens", func(http.ResponseWriter, *http.Request) (any, error) { return s.tokens, nil })
	handle("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var body client.TokenBody
		err := serve.ReadJSON(w, r, 0, &body)
		s.created = append(s.created, body)
		info := client.TokenInfo{ID: "newtoken", Type: body.Type, Kind: body.Kind, Uses: body.Uses, Grant: body.Grant, Expires: time.Now().Add(time.Hour)}
		return client.TokenCreated{Token: body.Type + "_newtoken_secret", Info: info}, err
	})
	handle("DELETE /v1/tokens/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.revoked = append(s.revoked, r.PathValue("id"))
		return nil, nil
	})
	handle("GET /v1/audit", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.query = append(s.query, r.URL.RawQuery)
		if r.FormValue("cursor") == "" && len(s.audit) > 1 {
			return client.AuditPage{Entries: s.audit[:1], Next: "more"}, nil
		}
		return client.AuditPage{Entries: s.audit[min(1, len(s.audit)):]}, nil
	})
	return mux
}

func (s *secureScheduler) view() client.CAView {
	out := client.CAView{Cluster: "test", Rotation: client.Rotation{Phase: s.phase, Since: time.Now(), Overlap: time.Hour}}
	for _, ca := range []*identity.CA{s.ca, s.next} {
		if ca != nil {
			out.CAs = append(out.CAs, client.CAInfo{
				Fingerprint: ca.Fingerprint().String(), Issuing: ca == s.ca, NotBefore: ca.Cert.NotBefore, NotAfter: ca.Cert.NotAfter,
				Certificate: string(identity.Bundle{ca.Cert}.PEM()),
			})
		}
	}
	return out
}

func (s *secureScheduler) rotate(w http.ResponseWriter, r *http.Request) (any, error) {
	var body client.RotateBody
	if err := serve.ReadJSON(w, r, 0, &body); err != nil {
		return nil, err
	}
	s.rotated = append(s.rotated, body)
	s.phase = "introduced"
	if strings.Contains(r.URL.Path, "gossip") {
		return s.gossip(w, r)
	}
	return s.view(), nil
}

func (s *secureScheduler) gossip(http.ResponseWriter, *http.Request) (any, error) {
	return client.GossipView{KeyIDs: []string{"aa11", "bb22"}, Rotation: client.Rotation{Phase: s.phase}}, nil
}

func (s *secureScheduler) issue(w http.ResponseWriter, r *http.Request) (any, error) {
	var body client.IssueBody
	if err := serve.ReadJSON(w, r, 0, &body); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(body.CSR))
	if block == nil {
		return nil, pancake.Errorf(pancake.Invalid, "the CSR is not PEM")
	}
	who := identity.Identity{Cluster: "test", Kind: identity.Kind(body.Kind), ID: body.ID}
	cert, err := s.ca.Issue(block.Bytes, who, identity.IssueOptions{
		Life: body.Life, Hosts: body.Hosts, Grant: identity.Grant{Role: identity.Role(body.Grant.Role), Groups: body.Grant.Groups},
	}, time.Now())
	if err != nil {
		return nil, err
	}
	return client.IssuedView{
		Identity: who.String(), NotAfter: cert.NotAfter, CA: string(identity.Bundle{s.ca.Cert}.PEM()),
		Certificate: string(identity.Bundle{cert}.PEM()),
	}, nil
}

// person is somebody with a home directory of their own.
type person struct {
	t     *testing.T
	vars  map[string]string
	later time.Duration // how far their clock is ahead
}

func newPerson(t *testing.T) *person {
	return &person{t: t, vars: map[string]string{"HOME": t.TempDir()}}
}

// run runs a command; it names no scheduler unless args do.
func (p *person) run(stdin string, args ...string) result {
	p.t.Helper()
	return command{vars: p.vars, stdin: strings.NewReader(stdin), args: args, unnamed: true, later: p.later}.run(p.t)
}

// good runs a command that has to succeed.
func (p *person) good(args ...string) string {
	p.t.Helper()
	r := p.run("", args...)
	if r.code != 0 {
		p.t.Fatalf("pancake %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

func (p *person) file() string {
	return filepath.Join(p.vars["HOME"], ".config/pancake/credentials.yml")
}

// loggedIn is a person that is logged in to a scheduler.
func loggedIn(t *testing.T) (*person, *secureScheduler) {
	t.Helper()
	s, p := newSecureScheduler(t), newPerson(t)
	r := p.run(s.token+"\n", "login", "--scheduler", s.url, "--ca-fingerprint", s.ca.Fingerprint().String())
	if r.code != 0 {
		t.Fatalf("login: exit code %d: %s", r.code, r.stderr)
	}
	return p, s
}

func TestLogin(t *testing.T) {
	p, s := loggedIn(t)
	info, err := os.Stat(p.file())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("credentials file: %v, %v, want mode 0600", info, err)
	}
	for _, header := range s.shown[:1] { // what was asked before the CA was known
		if header != "" {
			t.Errorf("the token was shown before the scheduler was known")
		}
	}
	p.good("agents") // neither address nor token is given
	if last := s.shown[len(s.shown)-1]; last != "Bearer "+s.token {
		t.Errorf("shown: %q", last)
	}

	t.Run("others can read the file", func(t *testing.T) {
		if err := os.Chmod(p.file(), 0o640); err != nil {
			t.Fatal(err)
		}
		r := p.run("", "agents")
		if r.code != exitUsage {
			t.Errorf("exit code %d", r.code)
		}
		has(t, r.stderr, p.file(), "0640", "chmod 600")
		if r := p.run("", "version"); r.code != 0 {
			t.Errorf("a command that needs no scheduler fails: %s", r.stderr)
		}
	})
	t.Run("damaged file", func(t *testing.T) {
		if err := identity.WritePrivate(p.file(), []byte("token: [pka_secret")); err != nil {
			t.Fatal(err)
		}
		r := p.run("", "agents")
		if r.code != exitUsage || strings.Contains(r.stderr, "pka_secret") {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
		has(t, r.stderr, "damaged", "pancake login")
	})
	t.Run("logout", func(t *testing.T) {
		has(t, p.good("logout"), "logged out")
		if _, err := os.Stat(p.file()); !os.IsNotExist(err) {
			t.Errorf("the file is there: %v", err)
		}
		has(t, p.good("logout"), "nobody was logged in")
	})
}

func TestLoginRefused(t *testing.T) {
	s := newSecureScheduler(t)
	other := newSecureScheduler(t) // of the same name, with another CA
	good := s.ca.Fingerprint().String()
	agent := serveTLS(t, s.serverTLS(t, identity.Agent), s.handler())
	plain := httptest.NewServer(s.handler())
	t.Cleanup(plain.Close)
	tests := []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  string
	}{
		{"another CA", s.token, []string{"--scheduler", other.url, "--ca-fingerprint", good}, exitDenied, "not the one with the fingerprint " + good},
		{"not a scheduler", s.token, []string{"--scheduler", agent, "--ca-fingerprint", good}, exitDenied, "is not one of [scheduler]"},
		{"no TLS there", s.token, []string{"--scheduler", strings.Replace(plain.URL, "http:", "https:", 1), "--ca-fingerprint", good}, exitUsage, "does not speak TLS"},
		{"http", s.token, []string{"--scheduler", plain.URL, "--ca-fingerprint", good}, exitUsage, "has no TLS and so no login"},
		{"nothing to know it by", s.token, []string{"--scheduler", s.url}, exitUsage, "--ca-fingerprint"},
		{"fingerprint cut short", s.token, []string{"--scheduler", s.url, "--ca-fingerprint", good[:60]}, exitUsage, "64 hexadecimal digits"},
		{"no token", "", []string{"--scheduler", s.url, "--ca-fingerprint", good}, exitUsage, "no API token was given"},
		{"garbage for a token", "hunter2", []string{"--scheduler", s.url, "--ca-fingerprint", good}, exitUsage, "does not begin with pka_"},
		{"a token of others", other.token, []string{"--scheduler", s.url, "--ca-fingerprint", good}, exitDenied, "this token is not known"},
		{"nobody there", s.token, []string{"--scheduler", "https://127.0.0.1:1", "--ca-fingerprint", good}, exitUnavailable, "does not answer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPerson(t)
			r := p.run(test.stdin, append([]string{"login"}, test.args...)...)
			if r.code != test.code {
				t.Errorf("exit code %d, want %d", r.code, test.code)
			}
			has(t, r.stderr, test.want)
			if test.stdin != "" && strings.Contains(r.stderr+r.stdout, test.stdin) {
				t.Errorf("the token is in the output: %s", r.stderr)
			}
			if _, err := os.Stat(p.file()); !os.IsNotExist(err) {
				t.Errorf("something was kept: %v", err)
			}
		})
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if len(other.shown) > 0 {
		t.Errorf("the wrong scheduler was asked: %v", other.shown)
	}
}

func TestTrust(t *testing.T) {
	p, s := loggedIn(t)
	other := newSecureScheduler(t)
	plain := httptest.NewServer(s.handler())
	t.Cleanup(plain.Close)
	stranger := newPerson(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, identity.Bundle{s.ca.Cert}.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	stranger.vars[tokenVariable] = s.token

	t.Run("the scheduler of another cluster", func(t *testing.T) {
		r := p.run("", "agents", "--scheduler", other.url)
		if r.code != exitDenied {
			t.Errorf("exit code %d", r.code)
		}
		has(t, r.stderr, "is not the one it should be", "was not signed by a CA that is trusted here", "pancake login")
	})
	t.Run("nothing to know it by", func(t *testing.T) {
		r := stranger.run("", "agents", "--scheduler", s.url)
		if r.code != exitDenied {
			t.Errorf("exit code %d", r.code)
		}
		has(t, r.stderr, "not trusted here", "pancake login")
	})
	t.Run("a file with the CA, a token in the environment", func(t *testing.T) {
		stranger.good("agents", "--scheduler", s.url, "--ca", file)
	})
	t.Run("http to a scheduler with TLS", func(t *testing.T) {
		r := p.run("", "agents", "--scheduler", strings.Replace(s.url, "https:", "http:", 1))
		if r.code != exitUsage {
			t.Errorf("exit code %d", r.code)
		}
		has(t, r.stderr, "speaks TLS only; write https://")
	})
	t.Run("a token is never sent in clear", func(t *testing.T) {
		before := len(s.shown)
		p.run("", "agents", "--scheduler", plain.URL)
		if shown := s.shown[before:]; len(shown) != 1 || shown[0] != "" {
			t.Errorf("shown: %q", shown)
		}
	})
	t.Run("not allowed", func(t *testing.T) {
		r := p.run("", "status")
		if r.code != exitDenied {
			t.Errorf("exit code %d", r.code)
		}
		has(t, r.stderr, "needs the role viewer")
	})
}

func TestTokenSources(t *testing.T) {
	p, s := loggedIn(t)
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	fromFile := identity.NewToken(identity.APIToken, identity.Fingerprint{}).Reveal()
	p.vars[tokenVariable] = identity.NewToken(identity.APIToken, identity.Fingerprint{}).Reveal()
	last := func() string { return strings.TrimPrefix(s.shown[len(s.shown)-1], "Bearer ") }

	if p.run("", "agents"); last() != p.vars[tokenVariable] {
		t.Errorf("the variable does not go before what was kept")
	}
	write(fromFile+"\n", 0o600)
	if p.run("", "agents", "--token-file", file); last() != fromFile {
		t.Errorf("the file does not go before the variable")
	}
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"others can read it", fromFile, 0o644, "chmod 600"},
		{"empty", "\n", 0o600, "the file is empty"},
		{"garbage", "hunter2", 0o600, "does not begin with pka_"},
		{"a join token", identity.NewToken(identity.JoinToken, identity.Fingerprint{}).Reveal(), 0o600, "it is a join token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			write(test.text, test.mode)
			before := len(s.shown)
			r := p.run("", "agents", "--token-file", file)
			if r.code != exitUsage || len(s.shown) != before {
				t.Errorf("exit code %d, %d calls", r.code, len(s.shown)-before)
			}
			has(t, r.stderr, "--token-file", test.want)
		})
	}
}

func TestTokenCommands(t *testing.T) {
	p, s := loggedIn(t)
	r := p.run("", "token", "create", "--agent", "--ttl", "30m", "--uses", "3", "--name", "rack")
	if r.stdout != "pkj_newtoken_secret\n" { // alone, so that it can go into a file
		t.Errorf("stdout %q", r.stdout)
	}
	has(t, r.stderr, "newtoken", "3 uses", "pancake agent --join")
	p.good("token", "create", "--role", "deployer", "--group", "shop", "--group", "search")
	if r = p.run("", "token", "create", "--component", "goavail", "--id", "eu-1"); r.code != 0 || strings.Contains(r.stderr, "pancake agent") {
		t.Errorf("for a component: %+v", r)
	}
	want := []client.TokenBody{
		{Type: client.JoinToken, Name: "rack", TTL: 30 * time.Minute, Kind: "agent", Uses: 3},
		{Type: client.APIToken, Grant: client.Grant{Role: "deployer", Groups: []string{"shop", "search"}}},
		{Type: client.JoinToken, Kind: "goavail", BoundID: "eu-1", Uses: 1},
	}
	if fmt.Sprint(s.created) != fmt.Sprint(want) {
		t.Errorf("created %v, want %v", s.created, want)
	}

	now := time.Now()
	s.tokens = []client.TokenInfo{
		{ID: "a", Type: client.JoinToken, Kind: "agent", Uses: 1, Used: 1, Created: now, Expires: now.Add(time.Hour)},
		{ID: "b", Type: client.APIToken, Grant: client.Grant{Role: "viewer", Groups: []string{"*"}}, Created: now, Expires: now.Add(49 * time.Hour)},
		{ID: "c", Type: client.APIToken, Grant: client.Grant{Role: "operator"}, Created: now, Expires: now.Add(-time.Hour)},
		{ID: "d", Type: client.APIToken, Grant: client.Grant{Role: "operator"}, Created: now, Expires: now.Add(time.Hour), Revoked: &now},
	}
	has(t, p.good("token", "list"), "a ", "agent joins", "used", "1/1", "b ", "viewer of all groups", "good for 2d", "c ", "expired", "d ", "revoked")
	has(t, p.good("token", "revoke", "b"), "token b is revoked")
	if fmt.Sprint(s.revoked) != "[b]" {
		t.Errorf("revoked %v", s.revoked)
	}
	has(t, p.good("__complete", "token", "revoke", ""), "a\n", "b\n", "c\n")

	for _, args := range [][]string{
		{"token", "create"},
		{"token", "create", "--agent", "--role", "viewer"},
		{"token", "create", "--agent", "--component", "ingress"},
		{"token", "create", "--component", "ingress", "--role", "viewer"},
		{"token", "create", "--component", "scheduler"},
		{"token", "create", "--role", "king"},
		{"token", "create", "--role", "viewer", "--uses", "2"},
		{"token", "create", "--agent", "--uses", "0"},
		{"token", "create", "--agent", "--ttl", "-1h"},
		{"token", "revoke"},
		{"token", "revoke", "pka_b_secret"},
		{"token", "crate"},
		{"ca", "issue", "king/x", "--out", "x"},
		{"ca", "issue", "user/alice"},
		{"ca", "revoke", "agent"},
		{"ca", "rotate", "--continue", "--overlap", "1h"},
		{"audit", "--result", "bad"},
		{"audit", "--from", "noon"},
		{"audit", "--since", "1h", "--from", "2026-01-01T00:00:00Z"},
		{"audit", "--limit", "-1"},
		{"gossip-key", "rotat"},
	} {
		created, revoked := len(s.created), len(s.revoked)
		if r := p.run("", args...); r.code != exitUsage || len(s.created) != created || len(s.revoked) != revoked {
			t.Errorf("pancake %v: exit code %d: %s", args, r.code, r.stderr)
		}
	}
}

func TestCACommands(t *testing.T) {
	p, s := loggedIn(t)
	has(t, p.good("ca", "show"), "cluster test", s.ca.Fingerprint().String(), "signs", "not being replaced")
	if text := p.good("ca", "show", "--pem"); text != string(identity.Bundle{s.ca.Cert}.PEM()) {
		t.Errorf("PEM: %s", text)
	}

	if r := p.run("", "ca", "rotate", "--continue"); r.code != exitFailed {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	has(t, p.good("ca", "rotate", "--overlap", "48h"), "being replaced", "not used yet", "--continue")
	p.good("ca", "rotate", "--continue")
	has(t, p.good("gossip-key", "rotate"), "aa11, bb22", "being replaced")
	want := []client.RotateBody{{Overlap: 48 * time.Hour}, {Advance: "introduced"}, {}}
	if fmt.Sprint(s.rotated) != fmt.Sprint(want) {
		t.Errorf("rotated %v, want %v", s.rotated, want)
	}

	dir := filepath.Join(t.TempDir(), "alice")
	has(t, p.good("ca", "issue", "user/alice", "--role", "viewer", "--group", "shop", "--out", dir, "--life", "1h"), "pancake://test/user/alice")
	leaf, err := identity.Files{Dir: dir}.Load()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := leaf.Check(time.Now())
	if err != nil || peer.Grant.Role != identity.Viewer || fmt.Sprint(peer.Grant.Groups) != "[shop]" {
		t.Errorf("peer %+v, %v", peer, err)
	}
	if _, err := tls.X509KeyPair(readFile(t, dir, "identity.pem"), readFile(t, dir, "identity.pem")); err != nil {
		t.Errorf("other programs cannot read it: %v", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(readFile(t, dir, "ca.pem")) {
		t.Error("ca.pem holds no certificate")
	}
	if r := p.run("", "ca", "issue", "user/alice", "--out", dir); r.code != exitFailed {
		t.Errorf("overwrites: exit code %d", r.code)
	}
	if r := p.run("", "ca", "issue", "user/bob", "--out", dir, "--renew"); r.code != exitFailed {
		t.Errorf("replaces another's: exit code %d", r.code)
	}
	p.good("ca", "issue", "user/alice", "--out", dir, "--renew")
	again, err := identity.Files{Dir: dir}.Load()
	if err != nil || again.Key.Equal(leaf.Key) || fmt.Sprint(again.Grant()) != fmt.Sprint(leaf.Grant()) {
		t.Errorf("renewed: %+v, before %+v, %v", again.Grant(), leaf.Grant(), err)
	}
	has(t, p.good("ca", "reseal"), "sealed with the schedulers' current sealing key")
	if s.resealed != 1 {
		t.Errorf("resealed %d times", s.resealed)
	}
	p.good("ca", "revoke", "user/alice")
	if fmt.Sprint(s.revoked) != "[user/alice]" {
		t.Errorf("revoked %v", s.revoked)
	}
}

// A CA that is being replaced reaches those who are logged in by itself.
func TestNewCA(t *testing.T) {
	p, s := loggedIn(t)
	next, err := identity.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.next = next
	s.mu.Unlock()
	known := func() int {
		return strings.Count(string(readFile(t, filepath.Dir(p.file()), "credentials.yml")), "BEGIN CERTIFICATE")
	}
	if p.good("agents"); known() != 1 {
		t.Fatal("the CAs are asked for at each command")
	}
	p.later = checkEvery
	if p.good("agents"); known() != 2 {
		t.Fatal("the next CA is not kept")
	}
	s.mu.Lock()
	s.ca, s.next = next, nil
	s.mu.Unlock()
	url := serveTLS(t, s.serverTLS(t, identity.Scheduler), s.handler())
	p.good("agents", "--scheduler", url) // its certificate is of the next CA
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAudit(t *testing.T) {
	p, s := loggedIn(t)
	s.audit = []client.AuditEntry{
		{Time: time.Now(), Subject: "token:b", From: "10.0.0.9", Action: "deploy", Target: "dev_hello", Result: client.AuditDenied, Reason: "wrong_role"},
		{Time: time.Now(), Action: "read", Result: client.AuditDenied, Reason: "unknown_token", Suppressed: 7, Message: "\x1b[31mred"},
	}
	out := p.good("audit", "--target", "dev_hello", "--result", "denied", "--since", "1h")
	has(t, out, "token:b", "10.0.0.9", "deploy", "dev_hello", "denied", "wrong_role", "nobody known", "unknown_token", "7 more like it")
	if strings.Contains(out, "\x1b") {
		t.Errorf("what a stranger sent gets to the terminal: %q", out)
	}
	has(t, s.query[0], "from=", "limit=100", "result=denied", "target=dev_hello")
	has(t, s.query[1], "cursor=more", "limit=99")
	has(t, p.good("audit", "-o", "json", "--limit", "1"), `"subject": "token:b"`)
	s.audit = nil
	if out := p.good("audit", "-o", "json"); out != "[]\n" {
		t.Errorf("JSON of nothing: %s", out)
	}
}
