//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
)

// binary returns the path of a built program, or stops the test with how to build it.
func binary(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run the suite with \"make test-e2e\", which builds it", err)
	}
	return path
}

// process is a program of ours that runs in the background.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *logbuf.Buffer
	done chan struct{}
}

// start runs bin/pancake with args. It is stopped at the latest when the test ends.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startProgram(t, binary(t, "pancake"), args...)
}

// startProgram is start for any program.
func startProgram(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{t: t, out: &logbuf.Buffer{}, done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = environment()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is read from ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("output of %s %s:\n%s", filepath.Base(path), strings.Join(args, " "), p.out)
		}
	})
	return p
}

// stop sends a signal and waits for the end, after 30 s by force.
func (p *process) stop(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Errorf("%v did not end within 30 s of %v", p.cmd.Args, sig)
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it says where it hangs
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
}

// waitFor waits until the output holds text.
func (p *process) waitFor(text string) {
	p.t.Helper()
	eventually(p.t, time.Minute, fmt.Sprintf("%q in the output of pancake %v", text, p.cmd.Args[1:]), func() error {
		select {
		case <-p.done:
			p.t.Fatalf("pancake %v ended: %v\n%s", p.cmd.Args[1:], p.cmd.ProcessState, p.out)
		default:
		}
		if !strings.Contains(p.out.String(), text) {
			return errors.New("not there yet")
		}
		return nil
	})
}

// run runs bin/pancake to its end and returns what it printed and its exit code.
func run(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runCommand(t, dir, append([]string{binary(t, "pancake")}, args...))
}

// runCommand runs any command line as run does, with more variables.
func runCommand(t *testing.T, dir string, args []string, vars ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute) // it also cleans up
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &out, &errs, append(environment(), vars...)
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs bin/pancake and expects success.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, errs, code := run(t, dir, args...)
	if code != 0 {
		t.Fatalf("pancake %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// environment is the caller's, without settings that would change what Pancake does.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PANCAKE_") && !strings.HasPrefix(kv, "SIDECAR_") && !strings.HasPrefix(kv, "NMESOS_") {
			env = append(env, kv)
		}
	}
	return append(env, "NO_COLOR=1")
}

// eventually polls until check returns nil, for at most limit.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// freeAddr returns an address on ip whose port nothing listens on.
func freeAddr(t *testing.T, ip string) string {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
