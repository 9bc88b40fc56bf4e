package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/file"
	"github.com/pancake-stack/pancake/goavail/source"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// goavailConfig writes an agent's file, with more at its end; its name server never answers.
func goavailConfig(t *testing.T, dir, more string) string {
	t.Helper()
	name := filepath.Join(dir, "goavail.yml")
	text := "provider: {name: rfc2136, server: \"127.34.1.1:1\"}\ndata_dir: " + filepath.Join(dir, "data") + "\n" + more
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// certified puts a certificate of ca where the commands look for it.
func certified(t *testing.T, ca *identity.CA, kind identity.Kind, id string, grant identity.Grant) (dir string) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(csr, identity.Identity{Cluster: "test", Kind: kind, ID: id}, identity.IssueOptions{Grant: grant}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := (identity.Files{Dir: dir}).Save(identity.Leaf{Key: key, Cert: cert, Bundle: identity.Bundle{ca.Cert}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// With a certificate the agent's API answers to those of its cluster, and takes orders
// of operators only.
func TestGoavailWithCertificates(t *testing.T) {
	ca, err := identity.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := identity.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(testkit.FreeAddr(t), ":")
	address := "127.34.1.3:" + port
	config := goavailConfig(t, t.TempDir(), `
gossip: {listen: "127.34.1.2:`+port+`"}
api: {listen: "`+address+`", identity: `+certified(t, ca, identity.Goavail, "here", identity.Grant{})+`}
targets: [{name: a, address: 127.34.1.1, port: 1}]
records: [{name: www.example.com, targets: [a]}]
`)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan result, 1)
	go func() {
		ended <- command{ctx: ctx, unnamed: true, args: []string{"goavail", "run", "-f", config}}.run(t)
	}()
	t.Cleanup(func() {
		stop()
		if r := <-ended; r.code != 0 || !strings.Contains(r.stdout, "API https://"+address) {
			t.Errorf("the agent ended with exit code %d: %s%s", r.code, r.stdout, r.stderr)
		}
	})
	cert := func(ca *identity.CA, kind identity.Kind, role identity.Role) []string {
		return []string{"--cert", filepath.Join(certified(t, ca, kind, "somebody", identity.Grant{Role: role}), "identity.pem")}
	}
	p := newPerson(t)
	run := func(cert []string, args ...string) result {
		return p.run("", slices.Concat([]string{"goavail", "--agent", "https://" + address}, args, cert)...)
	}
	strange := cert(stranger, identity.User, identity.Operator)
	if err := (identity.Files{Dir: filepath.Dir(strange[1])}).SaveBundle(identity.Bundle{ca.Cert}); err != nil {
		t.Fatal(err)
	}
	viewer, operator := cert(ca, identity.User, identity.Viewer), cert(ca, identity.User, identity.Operator)
	for end := time.Now().Add(30 * time.Second); run(viewer, "status").code == exitUnavailable; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the agent never answers")
		}
	}
	for _, tc := range []struct {
		who  string
		cert []string
		args []string
		code int
		says string
	}{
		{"viewer", viewer, []string{"status"}, 0, "www.example.com"},
		{"viewer", viewer, []string{"hold"}, exitDenied, "role"},
		{"operator", operator, []string{"status"}, 0, "www.example.com"},
		{"operator", operator, []string{"hold", "--reason", "moving"}, 0, "hold"},
		{"viewer", viewer, []string{"status"}, 0, "moving"},
		{"ingress", cert(ca, identity.Ingress, ""), []string{"release"}, exitDenied, "role"},
		{"operator", operator, []string{"release"}, 0, "hold"},
		{"nobody", nil, []string{"status"}, exitDenied, "asks for a certificate"},
		{"stranger", strange, []string{"status"}, exitDenied, "CA"},
	} {
		if r := run(tc.cert, tc.args...); r.code != tc.code || !strings.Contains(r.stdout+r.stderr, tc.says) {
			t.Errorf("%s: goavail %v: exit code %d, want %d and %q: %s%s", tc.who, tc.args, r.code, tc.code, tc.says, r.stdout, r.stderr)
		}
	}
	// It is the agent that refuses, not the command alone.
	if r := p.run("", "goavail", "--agent", "http://"+address, "status"); r.code == 0 {
		t.Errorf("plain HTTP is answered: %s", r.stdout)
	}
	bare := client.NewHTTP(identity.TrustTLS(identity.Bundle{ca.Cert}, identity.Expect{Kinds: []identity.Kind{identity.Goavail}}))
	defer bare.CloseIdleConnections()
	if answer, err := bare.Get("https://" + address + "/v1/status"); err == nil {
		answer.Body.Close()
		t.Errorf("who has no certificate gets %s", answer.Status)
	}
}

// A changed file that the agent refuses does not get in the way of what the platform says later.
func TestGoavailKeepsTheFileThatWorks(t *testing.T) {
	dir := t.TempDir()
	more := func(address string) string {
		return `
targets:
  - {name: a, address: 192.0.2.1, port: 1}
  - {name: b, address: "` + address + `", port: 1}
  - {name: ingress, from: {sidecar: "http://127.34.1.1:1", service: ingress}, kind: https}
records: [{name: www.example.com, targets: [a, b, ingress]}]
`
	}
	path := goavailConfig(t, dir, more("192.0.2.2"))
	env := newEnvironment(func(string) string { return "" }, strings.NewReader(""), os.Stderr, os.Stderr)
	flags := goavailFile{path: path}
	load := func() *file.File {
		t.Helper()
		f, err := flags.load(env)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	var log bytes.Buffer
	r := &goavailRun{env: env, flags: flags, file: load(), log: slog.New(slog.NewTextHandler(&log, nil))}
	cfg, err := r.file.Config(nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Provider, err = r.file.OpenProvider(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.agent, err = goavail.New(cfg); err != nil {
		t.Fatal(err)
	}
	good := r.file
	goavailConfig(t, dir, more("192.0.2.1")) // two of one address
	r.take(t.Context(), load(), nil)
	if r.file != good || !strings.Contains(log.String(), "the changed configuration is not used") {
		t.Errorf("the file is taken, though the agent refuses it; log: %s", &log)
	}
	r.take(t.Context(), r.file, map[string][]source.Node{"ingress": {{Name: "n1", Address: "192.0.2.3"}}})
	if got := targetNames(r.agent.Status(t.Context(), false)); !slices.Equal(got, []string{"a", "b", "ingress/n1"}) {
		t.Errorf("the platform is not heard: %v; log: %s", got, &log)
	}
	goavailConfig(t, dir, more("192.0.2.4"))
	fresh := load()
	if r.take(t.Context(), fresh, nil); r.file != fresh {
		t.Errorf("a file that makes sense is refused: %s", &log)
	}
}
