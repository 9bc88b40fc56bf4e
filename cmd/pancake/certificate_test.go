package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/internal/identity"
)

func TestCertificateInsteadOfToken(t *testing.T) {
	p, s := loggedIn(t)
	dir := filepath.Join(t.TempDir(), "alice")
	p.good("ca", "issue", "user/alice", "--role", "viewer", "--out", dir)
	cert := filepath.Join(dir, "identity.pem")
	other := newPerson(t) // who never logged in
	asked := len(s.shown)
	other.good("agents", "--scheduler", s.url, "--cert", cert)
	p.good("agents", "--cert", cert)
	for _, token := range s.shown[asked:] {
		if token != "" {
			t.Errorf("a token was shown, too")
		}
	}
	if len(s.certified) != 2 || s.certified[0] != "pancake://test/user/alice" {
		t.Errorf("certificates shown: %v", s.certified)
	}
	other.vars["PANCAKE_CERT"], other.vars["PANCAKE_SCHEDULER"] = cert, s.url
	other.good("agents")

	// In two files, as other programs have them.
	text := string(readFile(t, dir, "identity.pem"))
	begin := strings.Index(text, "-----BEGIN CERTIFICATE")
	apart := t.TempDir()
	for name, content := range map[string]string{"key.pem": text[:begin], "cert.pem": text[begin:], "ca.pem": string(readFile(t, dir, "ca.pem"))} {
		if err := identity.WritePrivate(filepath.Join(apart, name), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	other.good("agents", "--cert", filepath.Join(apart, "cert.pem"), "--key", filepath.Join(apart, "key.pem"))

	alone := filepath.Join(t.TempDir(), "identity.pem")
	if err := identity.WritePrivate(alone, []byte(text)); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "identity.pem")
	if err := os.WriteFile(open, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	shown := len(s.certified)
	for name, test := range map[string]struct {
		cert  string
		later time.Duration
		code  int
		want  string
	}{
		"no CA to know the scheduler by": {alone, 0, exitUsage, "say how to know the scheduler, with --ca"},
		"others can read it":             {open, 0, exitUsage, "chmod 600"},
		"not there":                      {"nowhere.pem", 0, exitUsage, "there is no file nowhere.pem"},
		"not a certificate":              {filepath.Join(dir, "ca.pem"), 0, exitUsage, "--cert: "},
		"expired":                        {cert, 25 * time.Hour, exitDenied, "expired at"},
		"a clock an hour behind":         {cert, -time.Hour, exitDenied, "check the clocks"},
	} {
		other.later = test.later
		r := other.run("", "agents", "--cert", test.cert)
		if r.code != test.code || !strings.Contains(r.stderr, test.want) {
			t.Errorf("%s: exit code %d: %s", name, r.code, r.stderr)
		}
	}
	if len(s.certified) != shown {
		t.Errorf("the scheduler was asked: %v", s.certified[shown:])
	}
}

// A scheduler whose clock is an hour off refuses certificates that are good.
func TestCertificateRefusedByTheOtherClock(t *testing.T) {
	p, s := loggedIn(t)
	dir := filepath.Join(t.TempDir(), "alice")
	p.good("ca", "issue", "user/alice", "--role", "viewer", "--out", dir)
	source, err := identity.NewSource(s.leaf(t, identity.Scheduler))
	if err != nil {
		t.Fatal(err)
	}
	behind := func() time.Time { return time.Now().Add(-time.Hour) }
	refused := make(chan error, 1000)
	url := serveTLS(t, source.ServerTLS(identity.ServerOptions{
		Optional: true, Expect: identity.Expect{Now: behind}, Denied: func(_ net.Addr, err error) { refused <- err },
	}), s.handler())
	var r result
	for range 50 { // the alert may get lost when the scheduler hangs up while the request is written
		if r = p.run("", "agents", "--scheduler", url, "--cert", filepath.Join(dir, "identity.pem")); r.code == exitDenied {
			break
		}
	}
	if r.code != exitDenied || !strings.Contains(r.stderr, "check the clocks") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if err := <-refused; identity.ReasonOf(err) != identity.NotYetValid {
		t.Errorf("refused because %v", err)
	}
	if len(s.certified) != 0 {
		t.Errorf("it was let in: %v", s.certified)
	}
}

// Whose clock is an hour off is told, and says nothing to the scheduler.
func TestClockOfTheCLI(t *testing.T) {
	p, s := loggedIn(t)
	shown := len(s.shown)
	p.later = -time.Hour
	r := p.run("", "token", "create", "--role", "viewer")
	has(t, r.stderr, "cannot be trusted by the clock here: certificate of pancake://test/scheduler/one is valid from", "and the clock here says", "check the clocks of both machines")
	if r.code != exitDenied || strings.Contains(r.stderr, "pancake login") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	p.later = 25 * time.Hour // certificates live for 24
	if r = p.run("", "token", "create", "--role", "viewer"); r.code != exitDenied || !strings.Contains(r.stderr, "expired at") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if len(s.shown) != shown || len(s.created) != 0 {
		t.Errorf("the scheduler was asked: %d times, %d tokens", len(s.shown)-shown, len(s.created))
	}
	fresh := newPerson(t)
	fresh.later = -time.Hour
	r = fresh.run(s.token, "login", "--scheduler", s.url, "--ca-fingerprint", s.ca.Fingerprint().String())
	if r.code != exitDenied || !strings.Contains(r.stderr, "check the clocks") {
		t.Errorf("login: exit code %d: %s", r.code, r.stderr)
	}
}
