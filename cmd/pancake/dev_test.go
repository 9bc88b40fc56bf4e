package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
)

// The process in the background must not go to the background once more, and
// so on for ever, because a variable says so.
func TestDetachedRunsInItsForeground(t *testing.T) {
	var got []string
	env := newEnvironment(func(string) string { return "" }, strings.NewReader(""), &logbuf.Buffer{}, &logbuf.Buffer{})
	root := newRootCommand(env)
	dev, _, err := root.Find([]string{"dev"})
	if err != nil {
		t.Fatal(err)
	}
	dev.RunE = func(cmd *cobra.Command, _ []string) error {
		got = detachedArgs(cmd)
		return nil
	}
	root.SetArgs([]string{"dev", "-d", "--drain", "7s", "--attributes", "rack:a b"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	printed := command{
		args: append(got, "--print-config"), vars: map[string]string{"PANCAKE_DETACH": "true"},
	}.run(t)
	for _, want := range []string{"detach: false # flag", "drain: 7s # flag", "attributes: rack:a b # flag", "ready-fd: 3 # flag"} {
		if !strings.Contains(strings.ReplaceAll(printed.stdout, `"`, ""), want) {
			t.Errorf("no %q in\n%s%s", want, printed.stdout, printed.stderr)
		}
	}
}

// fill makes files below dir.
func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestPurgeDeletesWhatIsOursOnly(t *testing.T) {
	testkit.Docker(t)
	dir := filepath.Join(t.TempDir(), "da[ta]")
	down := func() result { return command{args: []string{"dev", "down", "--purge", "--data-dir", dir}}.run(t) }

	if got := down(); got.code != exitOK || !strings.Contains(got.stdout, "nothing to stop") {
		t.Errorf("no such directory: %+v", got)
	}
	// A slip of the pen: this never was a data directory.
	fill(t, dir, map[string]string{"thesis.txt": "x", "etcd/mine": "x"})
	if got := down(); got.code != exitOK || !strings.Contains(got.stdout, "nothing to stop") || names(t, dir) != "etcd thesis.txt" {
		t.Errorf("somebody's directory: %+v, it holds %s", got, names(t, dir))
	}

	fill(t, dir, map[string]string{
		"lock": `{"pid":1,"command":"dev"}`, "executor/agent-id": "agent-" + testkit.Unique(), "etcd/member/wal": "x",
		"dev.log": "x", "dev.log.1": "x", "ingress.log": "x", "ingress.json": "{}", "ingress.json.123": "{}", "agent/executor/agent-id": "x",
	})
	got := down()
	if got.code != exitOK || names(t, dir) != "agent thesis.txt" {
		t.Errorf("it holds %s: %+v", names(t, dir), got)
	}
	has(t, got.stdout, "removed 0 containers", "it holds something else too, for example agent")

	// Alone, the directory goes too.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	fill(t, dir, map[string]string{"lock": "{}", "executor/agent-id": "agent-" + testkit.Unique()})
	if got := down(); got.code != exitOK || !strings.Contains(got.stdout, "deleted "+dir) {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

func TestDownLeavesAnAgentAlone(t *testing.T) {
	dir := t.TempDir()
	d, err := openDataDir(dir, "agent")
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	got := command{args: []string{"dev", "down", "--data-dir", dir}}.run(t)
	if got.code != exitUsage || !strings.Contains(got.stderr, `belongs to "pancake agent"`) {
		t.Errorf("%+v", got)
	}
}
