package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/testkit"
)

func TestWhichNodesAreSecure(t *testing.T) {
	joined := t.TempDir()
	if err := os.MkdirAll(filepath.Join(joined, identityDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(joined, identityDir, "identity.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	const local, other = "127.0.0.2", "10.0.0.2"
	for name, tc := range map[string]struct {
		flags  agentFlags
		secure bool
		http   string
		text   string // of the error
	}{
		"loopback":             {agentFlags{advertise: local}, false, "127.0.0.2:7777", ""},
		"loopback, with ports": {agentFlags{advertise: local, http: "127.0.0.3:1", gossip: "127.0.0.3:2"}, false, "127.0.0.3:1", ""},
		"asked for":            {agentFlags{advertise: local, secure: true}, true, "127.0.0.1:7777", ""},
		"a token":              {agentFlags{advertise: local, join: "x", http: "127.0.0.3:1"}, true, "127.0.0.3:1", ""},
		"an identity":          {agentFlags{advertise: local, dataDir: joined}, true, "127.0.0.1:7777", ""},
		"advertised":           {agentFlags{advertise: other}, true, "127.0.0.1:7777", ""},
		"gossip":               {agentFlags{advertise: local, gossip: "0.0.0.0:7946"}, true, "127.0.0.1:7777", ""},
		"insecure":             {agentFlags{advertise: other, insecure: true}, false, "10.0.0.2:7777", ""},
		"insecure, joined":     {agentFlags{advertise: local, insecure: true, dataDir: joined}, false, "127.0.0.2:7777", ""},
		"both":                 {agentFlags{advertise: local, insecure: true, secure: true}, false, "", "--insecure does not go with"},
		"insecure, a token":    {agentFlags{advertise: local, insecure: true, join: "x"}, false, "", "--insecure does not go with"},
		"open API":             {agentFlags{advertise: local, http: "10.0.0.2:7777"}, false, "", "--http 10.0.0.2:7777"},
		"open API, a token":    {agentFlags{advertise: local, http: "0.0.0.0:7777", join: "x"}, false, "", "--http 0.0.0.0:7777"},
	} {
		t.Run(name, func(t *testing.T) {
			f := tc.flags
			if f.dataDir == "" {
				f.dataDir = t.TempDir()
			}
			err := f.settle()
			if tc.text != "" {
				if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || f.secure != tc.secure || f.http != tc.http {
				t.Errorf("secure %t, http %s, %v", f.secure, f.http, err)
			}
		})
	}
}

func TestJoinToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	f := agentFlags{join: "@" + path}
	if _, err := f.token(); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(path, []byte("pkj_s3cret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.token(); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := f.token(); text != "pkj_s3cret" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
	f.join = "pkj_other"
	if text, err := f.token(); text != "pkj_other" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestJoinTokenIsNotShown(t *testing.T) {
	var out, errs bytes.Buffer
	getenv := func(name string) string { return map[string]string{"PANCAKE_JOIN": "pkj_s3cret"}[name] }
	if code := run(t.Context(), []string{"agent", "--print-config"}, getenv, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	if text := out.String() + errs.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "join: ") || !strings.Contains(text, "PANCAKE_JOIN") {
		t.Errorf("printed\n%s", text)
	}
}

// A node that has neither identity nor token does not start, whatever else is there.
func TestSecureAgentWithoutToken(t *testing.T) {
	testkit.Docker(t)
	var out, errs bytes.Buffer
	args := []string{"agent", "--secure", "--data-dir", t.TempDir(), "--http", "127.0.0.1:0"}
	code := run(t.Context(), args, func(string) string { return "" }, strings.NewReader(""), &out, &errs)
	if code != exitDenied || !strings.Contains(errs.String(), "needs a join token") || !strings.Contains(errs.String(), "pancake token create --agent") {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}
