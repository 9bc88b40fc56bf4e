package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goavail "github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/internal/testkit"
)

const goavailSome = `
targets: [{name: a, address: 127.34.2.1, port: 1}]
records: [{name: www.example.com, targets: [a]}]
`

// What does not work says what to do.
func TestGoavailMistakes(t *testing.T) {
	dir := t.TempDir()
	config := goavailConfig(t, dir, goavailSome)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("a-file", "")
	taken := write("taken.yml", strings.Replace(string(text), filepath.Join(dir, "data"), filepath.Join(file, "data"), 1))
	plain := write("plain.yml", string(text)+"api: {listen: \"192.0.2.1:7950\", token_file: "+file+"}\n")
	p := newPerson(t)
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"check", "-f", filepath.Join(dir, "none.yml")}, exitUsage, "none.yml; name the configuration with -f"},
		{[]string{"convert", filepath.Join(dir, "none.toml")}, exitUsage, "there is no file"},
		{[]string{"check", "-f", config}, exitUnavailable, "warning: there are no canaries"},
		{[]string{"check", "-f", config}, exitUnavailable, "\"check --offline\" looks at the file alone"},
		{[]string{"check", "-f", plain, "--offline"}, exitUsage, "plain_http: true"},
		{[]string{"run", "-f", taken}, exitUsage, "taken.yml: data_dir: "},
		{[]string{"status", "--agent", "127.34.2.1:1"}, exitUnavailable, "Start one with \"pancake goavail run\""},
		{[]string{"drain", "a", "--agent", "127.34.2.1:1"}, exitUnavailable, "Start one with \"pancake goavail run\""},
		{[]string{"status", "--agent", "https://127.34.2.1:1"}, exitDenied, "give the token with --agent-token-file"},
	} {
		r := p.run("", append([]string{"goavail"}, tc.args...)...)
		if r.code != tc.code || !strings.Contains(r.stderr, tc.says) || r.stdout != "" {
			t.Errorf("goavail %v: exit code %d, want %d and %q: %s%s", tc.args, r.code, tc.code, tc.says, r.stdout, r.stderr)
		}
	}
}

// An agent with a token says so, and orders that are taken back are told as such.
func TestGoavailWithAToken(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(testkit.FreeAddr(t), ":")
	address := "127.34.2.3:" + port
	config := goavailConfig(t, dir, goavailSome+`
gossip: {listen: "127.34.2.2:`+port+`"}
api: {listen: "`+address+`", token_file: `+token+`}
`)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan result, 1)
	go func() {
		ended <- command{ctx: ctx, unnamed: true, args: []string{"goavail", "run", "-f", config}}.run(t)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	p := newPerson(t)
	run := func(args ...string) result {
		return p.run("", append([]string{"goavail", "--agent", address}, args...)...)
	}
	for end := time.Now().Add(30 * time.Second); run("status").code == exitUnavailable; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the agent never answers")
		}
	}
	if r := run("status"); r.code != exitDenied || !strings.Contains(r.stderr, "Give the agent's token") {
		t.Errorf("without a token: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"apply"}, "is confirmed; agents that have it act on it\n"},
		{[]string{"hold"}, "hold everything\n"},
		{[]string{"release"}, "taken back: hold everything\n"},
		{[]string{"drain", "a", "--wait", "0"}, "out a\n"},
		{[]string{"restore", "a", "--wait", "0"}, "taken back: out a\n"},
		{[]string{"restore", "a", "--wait", "0", "--force"}, "in a\n"},
	} {
		if r := run(append(tc.args, "--agent-token-file", token)...); r.code != 0 || !strings.HasSuffix(r.stdout, tc.says) {
			t.Errorf("goavail %v: exit code %d, want %q: %s%s", tc.args, r.code, tc.says, r.stdout, r.stderr)
		}
	}
}

func TestGoavailStatusSaysWhoCannotUseTheProvider(t *testing.T) {
	var out strings.Builder
	env := newEnvironment(func(string) string { return "" }, strings.NewReader(""), &out, os.Stderr)
	env.printGoavail(goavail.Status{Place: "fra", Places: []goavail.Place{{Name: "fra"}, {Name: "hel", Trouble: "403 \x1b[2J"}}})
	if got := out.String(); !strings.Contains(got, "place hel cannot use the provider: 403 ") || strings.Contains(got, "\x1b[2J") || strings.Contains(got, "place fra cannot") {
		t.Error(got)
	}
}
