package health_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// gone waits until a process has ended whose number is in a file.
func gone(t *testing.T, file string) {
	t.Helper()
	pid := ""
	until(t, "the process writes its number to "+filepath.Base(file), func() bool {
		b, err := os.ReadFile(file)
		pid = strings.TrimSuffix(string(b), "\n")
		return err == nil && pid != string(b)
	})
	until(t, "process "+pid+" is gone", func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// TestProgramsLeaveNothingBehind runs programs that fork, hang, refuse to end and
// print for ever.
func TestProgramsLeaveNothingBehind(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want pancake.ServiceStatus
		note string
	}{
		"a child that stays":             {"sleep 1000 & echo $! > $1; exit 0", pancake.Alive, ""},
		"a child of a child":             {"(sleep 1000 & echo $! > $1; exit 0) & wait; exit 0", pancake.Alive, ""},
		"a child of one that fails":      {"sleep 1000 & echo $! > $1; exit 7", pancake.Sick, "exit status 7"},
		"one that hangs":                 {"echo $$ > $1; while :; do sleep 1000; done", pancake.Sick, "no answer in time"},
		"one that hangs with its child":  {"sleep 1000 & echo $! > $1; wait", pancake.Sick, "no answer in time"},
		"one that refuses to end":        {"trap '' TERM INT HUP PIPE; echo $$ > $1; while :; do sleep 1000; done", pancake.Sick, "no answer in time"},
		"one that prints for ever":       {"echo $$ > $1; exec yes", pancake.Sick, "it prints more than 1 MiB"},
		"and refuses to notice":          {"trap '' PIPE; echo $$ > $1; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done 2>/dev/null", pancake.Sick, ""},
		"one that prints much and is ok": {"echo $$ > $1; head -c 1000000 /dev/zero", pancake.Alive, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			got := first(t, health.Config{Interval: 5 * time.Second}, health.Target{
				Service: pancake.Service{ID: "1"}, Spec: health.Spec{Type: "External", Args: script(t, tt.text) + " " + file},
			})
			if got.Status != tt.want || !strings.Contains(got.Note, tt.note) {
				t.Errorf("%+v, want %s %q", got, tt.want, tt.note)
			}
			gone(t, file)
		})
	}
}

// TestStoppedProgramLeavesNothingBehind ends a check that has started a child.
func TestStoppedProgramLeavesNothingBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	target := health.Target{Service: pancake.Service{ID: "1"}, Spec: health.Spec{Type: "External", Args: script(t, "sleep 1000 & echo $! > "+file+"; wait")}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { health.New(health.Config{Interval: time.Minute}).Watch(ctx, target, func(health.Result) {}) })
	until(t, "the child runs", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	cancel()
	wg.Wait()
	gone(t, file)
}

func TestShell(t *testing.T) {
	for args, want := range map[string]pancake.ServiceStatus{
		`test "$(echo {{ container }})" = node && true | cat`: pancake.Alive,
		`echo no >&2; exit 3`: pancake.Sick,
	} {
		got := first(t, health.Config{Hostname: "node"}, health.Target{
			Service: pancake.Service{ID: "1"}, Spec: health.Spec{Type: "External", Args: args, Options: map[string]string{"Shell": "true"}},
		})
		if got.Status != want || want == pancake.Sick && !strings.Contains(got.Note, "exit status 3: no") {
			t.Errorf("%s: %+v", args, got)
		}
	}
}
