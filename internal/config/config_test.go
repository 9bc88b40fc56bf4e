package config

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

// run executes a command line of a small program and returns the flags of the
// command that ran. The error is that of Apply, or cobra's.
func run(getenv map[string]string, args ...string) (*pflag.FlagSet, error) {
	var ran *pflag.FlagSet
	command := func(name string) *cobra.Command {
		return &cobra.Command{Use: name, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			ran = cmd.Flags()
			return nil
		}}
	}
	root, scheduler, agent, dev, down := command("pancake"), command("scheduler"), command("agent"), command("dev"), command("down")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return Apply(cmd, func(name string) string { return getenv[name] })
	}
	AddFlags(root.PersistentFlags())
	root.PersistentFlags().String("log-level", "info", "")
	for _, c := range []*cobra.Command{scheduler, dev} {
		c.Flags().String("http", "127.0.0.1:7099", "")
		c.Flags().StringSlice("etcd", nil, "")
		c.Flags().Duration("wait", 5*time.Second, "")
		c.Flags().Int("instances", 3, "")
		c.Flags().Bool("insecure", false, "")
		c.Flags().String("token", "", "")
		c.Flags().Int("pin", 0, "")
		for _, name := range []string{"token", "pin"} {
			if err := MarkSecret(c.Flags(), name); err != nil {
				return nil, err
			}
		}
	}
	agent.Flags().String("scheduler", "127.0.0.1:7098", "")
	agent.Flags().String("attributes", "", "")
	down.Flags().Bool("keep-data", false, "")
	dev.AddCommand(down)
	root.AddCommand(scheduler, agent, dev)
	root.SetArgs(args)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	err := root.Execute()
	return ran, err
}

// write puts text into a file named pancake.yml in a folder of the test, which
// becomes the current one, so that messages have a short name.
func write(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	const name = "pancake.yml"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const settings = `
log-level: warn
http: 10.0.0.1:1
wait: &wait 9s
scheduler:
  http: 10.0.0.2:2
  etcd: [a:1, b:2]
  instances: 7
  insecure: true
  token: s3cret
agent:
  attributes: rack:r1
dev:
  wait: *wait
  down: {keep-data: true}
`

func TestPrecedence(t *testing.T) {
	file := write(t, settings)
	env := map[string]string{
		"PANCAKE_CONFIG": file, "PANCAKE_HTTP": "10.0.0.3:3", "PANCAKE_INSTANCES": "8", "PANCAKE_LOG_LEVEL": "",
	}
	flags, err := run(env, "scheduler", "--http", "10.0.0.4:4")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ value, origin string }{
		"http":      {"10.0.0.4:4", "flag"},
		"instances": {"8", "env PANCAKE_INSTANCES"},
		"etcd":      {"[a:1,b:2]", "file pancake.yml:7:9"},
		"wait":      {"9s", "file pancake.yml:4:7"},
		"insecure":  {"true", "file pancake.yml:9:13"},
		"log-level": {"warn", "file pancake.yml:2:12"},
		"pin":       {"0", "default"},
	} {
		f := flags.Lookup(name)
		if f.Value.String() != want.value || origin(f) != want.origin {
			t.Errorf("%s: got %s from %s, want %s from %s", name, f.Value, origin(f), want.value, want.origin)
		}
	}
}

func TestSections(t *testing.T) {
	file := write(t, settings)
	for _, tc := range []struct {
		command    []string
		flag, want string
	}{
		{[]string{"scheduler"}, "http", "10.0.0.2:2"},
		{[]string{"dev"}, "http", "10.0.0.1:1"},
		{[]string{"dev"}, "instances", "3"},
		{[]string{"dev"}, "wait", "9s"},
		{[]string{"agent"}, "attributes", "rack:r1"},
		{[]string{"agent"}, "scheduler", "127.0.0.1:7098"},
		{[]string{"dev", "down"}, "keep-data", "true"},
	} {
		flags, err := run(nil, append(tc.command, "--config", file)...)
		if err != nil {
			t.Fatal(err)
		}
		if got := flags.Lookup(tc.flag).Value.String(); got != tc.want {
			t.Errorf("%s --%s: got %s, want %s", tc.command, tc.flag, got, tc.want)
		}
	}
}

// A key may name a flag and a command: its shape tells which.
func TestKeyOfAFlagAndACommand(t *testing.T) {
	flags, err := run(nil, "agent", "--config", write(t, "agent: {scheduler: 10.0.0.1:5}\nscheduler: {instances: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := flags.Lookup("scheduler").Value.String(); got != "10.0.0.1:5" {
		t.Errorf("got %s", got)
	}
	flags, err = run(nil, "agent", "--config", write(t, "scheduler: 10.0.0.1:6\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := flags.Lookup("scheduler").Value.String(); got != "10.0.0.1:6" {
		t.Errorf("got %s", got)
	}
}

func TestMistakes(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"htpp: x", "pancake.yml:1:1: htpp: unknown key; did you mean http?"},
		{"agent:\n  attributez: x", "pancake.yml:2:3: agent.attributez: unknown key; did you mean attributes?"},
		{"agent:\n  http: x", "pancake.yml:2:3: agent.http: unknown key; known at agent are attributes, log-level, scheduler"},
		{"agnt:\n  attributes: x", "pancake.yml:1:1: agnt: unknown key; did you mean agent?"},
		{"dev: x", "pancake.yml:1:1: dev: unknown key; the settings of the command dev are a mapping below it"},
		{"config: other.yml", "pancake.yml:1:1: config: unknown key; known at the top are attributes, etcd, http,"},
		{"instances: many", `pancake.yml:1:12: instances: "many" is not a valid int: invalid syntax`},
		{"wait: 5", `pancake.yml:1:7: wait: "5" is not a valid duration: time: missing unit`},
		{"insecure: maybe", `pancake.yml:1:11: insecure: "maybe" is not a valid bool: `},
		{"http: [a]", "pancake.yml:1:7: http: takes one value of the type string, not a list or a mapping"},
		{"http: {a: b}", "pancake.yml:1:7: http: takes one value"},
		{"etcd: [[a]]", "pancake.yml:1:8: etcd: takes a list of single values"},
		{"http:", "pancake.yml:1:6: http: has no value"},
		{"http: a\nhttp: b", "pancake.yml:2:1: http: is set twice, first on line 1"},
		{"- a", "pancake.yml:1:1: settings must be a mapping"},
		{"a: [", "pancake.yml:2:1: not valid YAML: "},
		{"http: a\n---\nhttp: b", "pancake.yml:2:1: a second document begins here"},
		{strings.Repeat("[", 20), "pancake.yml:1:17: not valid YAML: exceeded max depth of 16"},
		{strings.Repeat("#", maxFile+1), "has more than 1048576 bytes"},
	} {
		_, err := run(nil, "scheduler", "--config", write(t, tc.text))
		if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40q:\n got %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	env := map[string]string{"PANCAKE_INSTANCES": "x", "PANCAKE_CONFIG": write(t, "htpp: a\nwait: b\n")}
	_, err := run(env, "scheduler")
	want := `PANCAKE_INSTANCES: "x" is not a valid int: invalid syntax
pancake.yml:1:1: htpp: unknown key; did you mean http?
pancake.yml:2:7: wait: "b" is not a valid duration: time: invalid duration "b"`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestNoFile(t *testing.T) {
	for _, text := range []string{"", "# all commented out\n", "agent:\n"} {
		if _, err := run(nil, "scheduler", "--config", write(t, text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	_, err := run(nil, "scheduler", "--config", filepath.Join(t.TempDir(), "none.yml"))
	if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsStaySecret(t *testing.T) {
	file := write(t, "token: s3cret\npin: s3cret\n")
	_, err := run(map[string]string{"PANCAKE_CONFIG": file}, "scheduler")
	if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "pin: the value is not a valid int") {
		t.Errorf("file: %v", err)
	}
	_, err = run(map[string]string{"PANCAKE_PIN": "s3cret"}, "scheduler")
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("env: %v", err)
	}
}

func TestPrint(t *testing.T) {
	env := map[string]string{"PANCAKE_INSTANCES": "8", "PANCAKE_CONFIG": write(t, "token: s3cret\nscheduler: {etcd: [a, b]}\n")}
	flags, err := run(env, "scheduler", "--http=1:2")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Print(&b, flags); err != nil {
		t.Fatal(err)
	}
	const want = `etcd: [a, b] # file pancake.yml:2:19
http: 1:2 # flag
insecure: false # default
instances: 8 # env PANCAKE_INSTANCES
log-level: info # default
pin: '********' # default
token: '********' # file pancake.yml:1:8
wait: 5s # default
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

// What Print writes is a settings file with the same settings.
func TestPrintReadsBack(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~éü]{1,12}`)
		args := []string{
			"scheduler", "--http=" + text.Draw(t, "http"), "--log-level=" + text.Draw(t, "level"),
			"--wait=" + time.Duration(rapid.Int64().Draw(t, "wait")).String(),
		}
		for range rapid.IntRange(0, 3).Draw(t, "etcd") {
			args = append(args, "--etcd="+rapid.StringMatching(`[a-z0-9:.#-]{1,8}`).Draw(t, "endpoint"))
		}
		first, err := run(nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		var printed strings.Builder
		if err := Print(&printed, first); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "printed.yml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(printed.String(), "pin: '********'", "pin: 0")), 0o600); err != nil {
			t.Fatal(err)
		}
		second, err := run(nil, "scheduler", "--config", file)
		if err != nil {
			t.Fatalf("%v in\n%s", err, printed.String())
		}
		visit(first, func(f *pflag.Flag) {
			if got := second.Lookup(f.Name).Value.String(); got != f.Value.String() {
				t.Fatalf("%s: %q became %q in\n%s", f.Name, f.Value, got, printed.String())
			}
		})
	})
}
