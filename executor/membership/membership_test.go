package membership

import (
	"bytes"
	"context"
	"crypto/x509"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
)

func csrKey(t *testing.T, der []byte) []byte {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Error(err)
		return nil
	}
	return csr.RawSubjectPublicKeyInfo
}

func serial(m *Member) string { return m.source.Leaf().Cert.SerialNumber.Text(16) }

// A node joins once. From then on it needs neither token nor scheduler to start.
func TestJoinThenRestart(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := filepath.Join(t.TempDir(), "identity")
	m := mustOpen(t, config(t, dir, s.token.Reveal(), away(t), s.addr))
	if m.source.Identity() != self || !slices.EqualFunc(m.GossipKeys(), s.keys, slices.Equal) {
		t.Fatalf("joined as %s with %d gossip keys", m.source.Identity(), len(m.GossipKeys()))
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if private := filepath.Base(path) != "ca.pem"; err == nil && private && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		text, _ := os.ReadFile(path)
		if bytes.Contains(text, []byte(s.token.Secret)) {
			t.Errorf("%s holds the token", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "join.key")); !os.IsNotExist(err) {
		t.Errorf("the key of the join is still there: %v", err)
	}
	again := mustOpen(t, config(t, dir, "", away(t)))
	if serial(again) != serial(m) || !slices.EqualFunc(again.GossipKeys(), s.keys, slices.Equal) {
		t.Error("a restart has another identity")
	}
	gone := config(t, dir, "", away(t))
	gone.Token = func() (string, error) { return "", pancake.Errorf(pancake.NotFound, "the file is gone") }
	mustOpen(t, gone)
	s.change(func() {
		if s.joins != 1 {
			t.Errorf("%d joins", s.joins)
		}
	})
}

// Where the token was left in the settings it does no harm: a good identity stays.
func TestTokenIsNotUsedTwice(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := t.TempDir()
	mustOpen(t, config(t, dir, s.token.Reveal(), s.addr))
	mustOpen(t, config(t, dir, s.token.Reveal(), s.addr))
	mustOpen(t, config(t, dir, s.token.Reveal(), away(t)))
	if s.joins != 1 || s.renewed != 1 {
		t.Errorf("%d joins, %d renewals", s.joins, s.renewed)
	}
}

// An answer that was lost costs no token.
func TestJoinAgainWithTheSameKey(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := t.TempDir()
	s.change(func() { s.issueAt = func() time.Time { return time.Now().Add(time.Hour) } })
	if _, err := open(t, config(t, dir, s.token.Reveal(), s.addr)); identity.ReasonOf(err) != identity.NotYetValid || !strings.Contains(err.Error(), "clock") {
		t.Fatalf("with a clock an hour off: %v", err)
	}
	if Stored(dir) {
		t.Error("something was stored")
	}
	s.change(func() { s.issueAt = time.Now })
	mustOpen(t, config(t, dir, s.token.Reveal(), s.addr))
}

func TestRefused(t *testing.T) {
	s, other := newScheduler(t, identity.Scheduler), newScheduler(t, identity.Scheduler)
	impostor := newScheduler(t, identity.Agent)
	late := newScheduler(t, identity.Scheduler)
	late.source = source(t, late.ca, identity.Identity{Cluster: cluster, Kind: identity.Scheduler, ID: "s1"}, time.Now().Add(time.Hour))
	late.addr = late.listen("127.0.0.1:0")
	unknown := identity.NewToken(identity.JoinToken, s.ca.Fingerprint()).Reveal()
	api := identity.NewToken(identity.APIToken, identity.Fingerprint{}).Reveal()
	mustOpen(t, config(t, t.TempDir(), s.token.Reveal(), s.addr))
	for name, tc := range map[string]struct {
		token, addr string
		cluster     string
		want        identity.Reason
		text        string
	}{
		"no token":       {"", s.addr, cluster, identity.NoToken, "needs a join token"},
		"used":           {s.token.Reveal(), s.addr, cluster, identity.Refused, "has been used 1 of 1 times"},
		"unknown":        {unknown, s.addr, cluster, identity.Refused, "not known"},
		"garbage":        {"hello", s.addr, cluster, identity.Malformed, "not a join token"},
		"of the API":     {api, s.addr, cluster, identity.Malformed, "API token"},
		"another CA":     {other.token.Reveal(), s.addr, cluster, identity.WrongCA, "make a new token"},
		"no scheduler":   {impostor.token.Reveal(), impostor.addr, cluster, identity.WrongKind, "not one of"},
		"cluster":        {other.token.Reveal(), other.addr, "c2", identity.WrongCluster, "--cluster-name"},
		"clock is wrong": {late.token.Reveal(), late.addr, cluster, identity.NotYetValid, "clocks"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			cfg := config(t, t.TempDir(), tc.token, tc.addr)
			cfg.Self.Cluster, cfg.Metrics = tc.cluster, reg
			_, err := open(t, cfg)
			if identity.ReasonOf(err) != tc.want || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("%s: %v", identity.ReasonOf(err), err)
			}
			if tc.token != "" && strings.Contains(err.Error(), tc.token) {
				t.Error("the message holds the token")
			}
			if Stored(cfg.Dir) {
				t.Error("an identity was stored")
			}
			if n := refusals(t, reg, tc.want); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
	if other.joins != 0 || impostor.joins != 0 || late.joins != 0 {
		t.Error("a token was shown to a scheduler that it is not for")
	}
}

func refusals(t *testing.T, reg *prometheus.Registry, reason identity.Reason) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pancake_agent_identity_refused_total" && m.GetLabel()[0].GetValue() == string(reason) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// One wrong address among the schedulers' does not keep a node from joining.
func TestAnotherSchedulerAnswers(t *testing.T) {
	s, other := newScheduler(t, identity.Scheduler), newScheduler(t, identity.Scheduler)
	mustOpen(t, config(t, t.TempDir(), s.token.Reveal(), other.addr, s.addr))
}

// A node that is started before its scheduler waits for it.
func TestWaitsForTheScheduler(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	addr := away(t)
	started := make(chan struct{})
	cfg := config(t, t.TempDir(), s.token.Reveal(), addr)
	cfg.Token = func() (string, error) { close(started); return s.token.Reveal(), nil }
	done := make(chan error, 1)
	go func() { _, err := Open(t.Context(), cfg); done <- err }()
	<-started
	s.listen(addr)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// store puts an identity that was issued at a time into a directory.
func store(t *testing.T, s *scheduler, dir string, who identity.Identity, at time.Time) {
	t.Helper()
	f := files{identity.Files{Dir: dir}}
	if err := f.saveKeys(s.keys); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(source(t, s.ca, who, at).Leaf()); err != nil {
		t.Fatal(err)
	}
}

// An identity that has expired is replaced with a new token, and with nothing else.
func TestExpired(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := t.TempDir()
	store(t, s, dir, self, time.Now().Add(-25*time.Hour))
	_, err := open(t, config(t, dir, "", s.addr))
	if identity.ReasonOf(err) != identity.NoToken || !strings.Contains(err.Error(), "expired at") || !strings.Contains(err.Error(), "new join token") {
		t.Errorf("without a token: %v", err)
	}
	s.change(func() { s.used = []byte("another key") })
	if _, err = open(t, config(t, dir, s.token.Reveal(), s.addr)); identity.ReasonOf(err) != identity.Refused || !strings.Contains(err.Error(), "used 1 of 1") {
		t.Errorf("with a used token: %v", err)
	}
	s.change(func() { s.token, s.used = identity.NewToken(identity.JoinToken, s.ca.Fingerprint()), nil })
	m := mustOpen(t, config(t, dir, s.token.Reveal(), s.addr))
	if _, err := m.source.Leaf().Check(time.Now()); err != nil {
		t.Error(err)
	}
}

// A clock that is behind is said to be, and costs no token.
func TestClockIsBehind(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := t.TempDir()
	store(t, s, dir, self, time.Now().Add(time.Hour)) // as if the clock had gone back since
	_, err := open(t, config(t, dir, s.token.Reveal(), s.addr))
	if identity.ReasonOf(err) != identity.NotYetValid || !strings.Contains(err.Error(), "one of the two clocks is wrong") {
		t.Errorf("got %v", err)
	}
	if s.joins != 0 {
		t.Error("the token was used")
	}
}

// A node whose identity was revoked is back with a new token.
func TestRevoked(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := t.TempDir()
	store(t, s, dir, self, time.Now().Add(-time.Hour))
	s.change(func() { s.revoked = time.Now().Add(-time.Minute) })
	old := mustOpen(t, config(t, dir, "", s.addr)) // nobody is asked
	if err := old.renewOnce(t.Context()); err == nil {
		t.Fatal("a revoked identity was renewed")
	}
	m := mustOpen(t, config(t, dir, s.token.Reveal(), s.addr))
	if s.joins != 1 || serial(m) == serial(old) {
		t.Errorf("%d joins", s.joins)
	}
}

func TestStoredIsBad(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	elsewhere := self
	elsewhere.ID = "agent-2"
	for name, tc := range map[string]struct {
		spoil func(dir string)
		text  string
	}{
		"of another node": {func(dir string) { store(t, s, dir, elsewhere, time.Now()) }, "agent-2"},
		"readable":        {func(dir string) { os.Chmod(filepath.Join(dir, "identity.pem"), 0o644) }, "chmod 600"},
		"damaged":         {func(dir string) { os.WriteFile(filepath.Join(dir, "identity.pem"), []byte("x"), 0o600) }, "PRIVATE KEY"},
		"keys are gone":   {func(dir string) { os.Remove(filepath.Join(dir, "gossip.keys")) }, "join with a new token"},
		"keys damaged":    {func(dir string) { os.WriteFile(filepath.Join(dir, "gossip.keys"), []byte("!\n"), 0o600) }, "base64"},
		"keys too short":  {func(dir string) { os.WriteFile(filepath.Join(dir, "gossip.keys"), []byte("AAAA\n"), 0o600) }, "16, 24 or 32"},
		"keys empty":      {func(dir string) { os.WriteFile(filepath.Join(dir, "gossip.keys"), nil, 0o600) }, "1 to 8"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store(t, s, dir, self, time.Now())
			tc.spoil(dir)
			_, err := open(t, config(t, dir, s.token.Reveal(), s.addr))
			if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	if s.joins != 0 {
		t.Error("joined all the same")
	}
}

// The certificate and the CA are replaced while a session goes on; a new connection
// shows the new certificate.
func TestRotation(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := t.TempDir()
	m := mustOpen(t, config(t, dir, s.token.Reveal(), s.addr))
	var mu sync.Mutex
	var told [][][]byte
	if err := m.OnGossipKeys(func(keys [][]byte) error {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, keys)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	run(t, m)
	say := session(t, m, s.addr)
	say()
	first := serial(m)

	next, err := identity.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	both, only := identity.Bundle{next.Cert, s.ca.Cert}, identity.Bundle{next.Cert}
	s.change(func() { s.ca, s.trust = next, both })
	if err := s.source.SetBundle(both); err != nil {
		t.Fatal(err)
	}
	take(t, m, &agentlink.Credentials{Trust: both.DER(), Renew: true})
	eventually(t, "a new certificate", func() bool { return serial(m) != first })
	if err := s.source.Set(source(t, next, s.source.Identity(), time.Now()).Leaf()); err != nil { // trusts the new CA only
		t.Fatal(err)
	}
	take(t, m, &agentlink.Credentials{Trust: only.DER()})
	say()
	session(t, m, s.addr)()
	s.change(func() {
		if len(s.serials) != 2 || s.serials[0] != first || s.serials[1] != serial(m) {
			t.Errorf("sessions with %v", s.serials)
		}
	})

	rotated := [][]byte{bytes.Repeat([]byte{2}, 32), s.keys[0]}
	take(t, m, &agentlink.Credentials{GossipKeys: rotated})
	take(t, m, &agentlink.Credentials{GossipKeys: rotated})
	mu.Lock()
	if len(told) != 2 || !slices.EqualFunc(told[1], rotated, slices.Equal) {
		t.Errorf("told of %d changes of keys", len(told))
	}
	mu.Unlock()
	again := mustOpen(t, config(t, dir, "", away(t)))
	if serial(again) != serial(m) || !slices.EqualFunc(again.GossipKeys(), rotated, slices.Equal) || !again.source.Leaf().Bundle.Equal(only) {
		t.Error("a restart has something old")
	}
}

// What cannot be is refused, and changes nothing.
func TestTakeRefuses(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	m := mustOpen(t, config(t, t.TempDir(), s.token.Reveal(), s.addr))
	keys, bundle := m.GossipKeys(), m.source.Leaf().Bundle
	for _, c := range []*agentlink.Credentials{
		{Trust: [][]byte{[]byte("garbage")}},
		{Trust: [][]byte{m.source.Leaf().Cert.Raw}},
		{GossipKeys: [][]byte{[]byte("short")}},
		{GossipKeys: slices.Repeat(keys, maxKeys+1)},
	} {
		if err := m.Take(t.Context(), c); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%v: %v", c, err)
		}
	}
	stranger, err := identity.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	take(t, m, &agentlink.Credentials{Trust: [][]byte{stranger.Cert.Raw}}) // would leave the node without a good certificate
	if !m.source.Leaf().Bundle.Equal(bundle) || !slices.EqualFunc(m.GossipKeys(), keys, slices.Equal) {
		t.Error("something changed")
	}
}

func take(t *testing.T, m *Member, c *agentlink.Credentials) {
	t.Helper()
	if err := m.Take(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// session opens one and returns what sends a message over it and gets an answer.
func session(t *testing.T, m *Member, addr string) func() {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, append(agentlink.DialOptions(), grpc.WithTransportCredentials(m.Credentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(func() { cancel(); conn.Close() })
	stream, err := agentlink.NewAgentLinkClient(conn).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		err := stream.Send(&agentlink.AgentMessage{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestExplain(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	dir := t.TempDir()
	store(t, s, dir, self, time.Now())
	m := mustOpen(t, config(t, dir, "", s.addr))
	if err := m.source.Set(source(t, s.ca, self, time.Now().Add(-25*time.Hour)).Leaf()); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+s.addr, grpc.WithTransportCredentials(m.Credentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, expired := agentlink.NewIdentityClient(conn).Renew(t.Context(), &agentlink.RenewRequest{})
	for name, tc := range map[string]struct {
		err    error
		kind   pancake.Kind
		reason identity.Reason
		text   string
	}{
		"expired":   {expired, pancake.Unauthenticated, identity.Refused, "expired at"},
		"refused":   {status.Error(codes.PermissionDenied, "you are somebody else"), pancake.Unauthenticated, identity.Refused, "somebody else"},
		"taken":     {status.Error(codes.FailedPrecondition, "taken"), pancake.Conflict, "", "taken"},
		"bad":       {status.Error(codes.InvalidArgument, "bad"), pancake.Invalid, "", "bad"},
		"away":      {status.Error(codes.Unavailable, "away"), pancake.Unavailable, "", "away"},
		"unknown":   {context.DeadlineExceeded, pancake.Unavailable, "", "deadline"},
		"plain one": {status.Error(codes.Unavailable, "tls: "+notTLS), pancake.Unavailable, "", "does not speak TLS"},
	} {
		err := Explain(tc.err)
		if pancake.KindOf(err) != tc.kind || identity.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %s: %v", name, pancake.KindOf(err), err)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("AAECAwQFBgcICQoLDA0ODw==\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeys(text)
		if err == nil && checkKeys(keys) != nil {
			t.Errorf("%q gives keys that are none", text)
		}
	})
}

// A node whose clock is an hour off is told so, costs no token and keeps what it has.
func TestClockAnHourOff(t *testing.T) {
	s := newScheduler(t, identity.Scheduler)
	for name, test := range map[string]struct {
		off   time.Duration
		store func(dir string)
		token string
		want  identity.Reason
		text  string
	}{
		"behind, joins":    {-time.Hour, func(string) {}, s.token.Reveal(), identity.NotYetValid, "check the clocks"},
		"behind, restarts": {-time.Hour, func(dir string) { store(t, s, dir, self, time.Now()) }, "", identity.NotYetValid, "check the clocks"},
		"ahead of the end": {time.Hour, func(dir string) { store(t, s, dir, self, time.Now().Add(-23*time.Hour-30*time.Minute)) }, "", identity.NoToken, "check the clocks"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, t.TempDir(), test.token, s.addr)
			test.store(cfg.Dir)
			before := contents(t, cfg.Dir)
			metrics := prometheus.NewRegistry()
			cfg.Metrics, cfg.Now = metrics, func() time.Time { return time.Now().Add(test.off) }
			_, err := open(t, cfg)
			if identity.ReasonOf(err) != test.want || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v", err)
			}
			if n := refusals(t, metrics, test.want); n != 1 {
				t.Errorf("%s is counted %v times", test.want, n)
			}
			if after := contents(t, cfg.Dir); !maps.Equal(before, after) {
				t.Errorf("the directory has changed: %v, before %v", after, before)
			}
		})
	}
	if s.joins != 0 {
		t.Error("the token was used")
	}
	mustOpen(t, config(t, t.TempDir(), s.token.Reveal(), s.addr)) // once the clock is right
}

// contents are the certificates and keys that are kept, but the key of a join that may be tried again.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"identity.pem", "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		out[name] = string(text)
	}
	return out
}
