package main

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
)

// startLimit is far more than a start takes, even on a busy machine.
const startLimit = 2 * time.Minute

// platform is a running "pancake dev" with the images that its tests release.
type platform struct {
	url string
	tag string // of pancake-test/hello; there is also the same with "-2"
}

// TestDev runs the commands against the real thing: one "pancake dev" on free
// ports of loopback, and real containers.
func TestDev(t *testing.T) {
	p := startPlatform(t)
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:                 "../../test/cli/testdata/dev",
			RequireExplicitExec: true,
			Cmds:                scriptCommands(),
			Setup: func(e *testscript.Env) error {
				err := scriptEnvironment(e)
				e.Setenv("PANCAKE_SCHEDULER", p.url)
				e.Setenv("TAG", p.tag)
				return err
			},
		})
	})
	t.Run("following", p.following)
}

// startPlatform starts "pancake dev" and stops it, its tasks included, when the test ends.
func startPlatform(t *testing.T) platform {
	t.Helper()
	image := testkit.Image(t, "../../examples/hello")
	_, tag, _ := strings.Cut(image, ":")
	tagImage(t, image, image+"-2")

	http, dir := testkit.FreeAddr(t), t.TempDir()
	var output logbuf.Buffer
	dev := exec.Command("pancake", "dev", "--no-ingress", "--data-dir", dir,
		"--http", http, "--grpc", testkit.FreeAddr(t), "--sidecar-http", testkit.FreeAddr(t), "--gossip", testkit.FreeAddr(t),
		"--etcd-listen", testkit.FreeAddr(t), "--etcd-peer-listen", testkit.FreeAddr(t),
		"--resources", "cpus:2;mem:2048;ports:[32500-32560]", "--drain", "200ms")
	dev.Stdout, dev.Stderr = &output, &output
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pancake dev printed:\n%s", output.String())
		}
		_ = dev.Process.Signal(syscall.SIGTERM) // it may be gone; Wait tells
		if err := dev.Wait(); err != nil {
			t.Errorf("pancake dev: %v", err)
		}
		if out, err := exec.Command("pancake", "dev", "down", "--data-dir", dir).CombinedOutput(); err != nil {
			t.Errorf("pancake dev down: %v\n%s", err, out)
		}
	})
	until(t, "an agent registers", func() bool {
		out, err := exec.Command("pancake", "agents", "--scheduler", "http://"+http).Output()
		return err == nil && strings.Contains(string(out), "active")
	})
	return platform{"http://" + http, tag}
}

func tagImage(t *testing.T, from, to string) {
	t.Helper()
	docker := testkit.Docker(t)
	if _, err := docker.ImageTag(t.Context(), client.ImageTagOptions{Source: from, Target: to}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := docker.ImageRemove(ctx, to, client.ImageRemoveOptions{}); err != nil {
			t.Errorf("remove image %s: %v", to, err)
		}
	})
}

// following runs what goes on until it is interrupted.
func (p platform) following(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "patient.yml", strings.NewReplacer("example/", "pancake-test/", "instances: 2", "instances: 1").Replace(helloSpec))
	release := func(args ...string) result {
		return command{scheduler: p.url, args: append([]string{"release", "patient", "-e", "dev"}, args...)}.run(t)
	}
	// A deploy outlives whoever follows it, and can be followed again.
	if got := release("-t", p.tag, "--detach"); got.code != exitOK {
		t.Fatalf("detached: exit %d: %s", got.code, got.stderr)
	}
	if got := release("-t", p.tag); got.code != exitOK {
		t.Fatalf("followed: exit %d: %s", got.code, got.stderr)
	}

	watch := start(t, p.url, "status", "patient", "--watch")
	watch.until(t, "dev_patient active, 1/1 healthy")
	logs := start(t, p.url, "logs", "patient", "-f")
	logs.until(t, "hello version dev listens on ")
	if got := release("-t", p.tag+"-2"); got.code != exitOK {
		t.Fatalf("second version: exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	logs.until(t, "hello stops: finishing the requests in flight")
	logs.until(t, "pancake: patient.1 on ")
	watch.until(t, "draining")
	watch.interrupt(t)
	if got := (command{scheduler: p.url, args: []string{"delete", "patient", "--yes"}}).run(t); got.code != exitOK {
		t.Fatalf("delete: exit %d: %s", got.code, got.stderr)
	}
	logs.until(t, "pancake: dev_patient was deleted")
	if code := <-logs.code; code != exitOK {
		t.Errorf("logs -f: exit %d after the request was deleted", code)
	}
}

// background is a command that runs while the test does other things.
type background struct {
	out  logbuf.Buffer
	stop context.CancelFunc
	code chan int
}

func start(t *testing.T, scheduler string, args ...string) *background {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	b := &background{stop: cancel, code: make(chan int, 1)}
	env := newEnvironment(func(string) string { return "" }, strings.NewReader(""), &b.out, &b.out)
	go func() { b.code <- execute(ctx, env, append([]string{"--scheduler", scheduler}, args...)) }()
	return b
}

func (b *background) until(t *testing.T, text string) {
	t.Helper()
	until(t, "it prints "+text, func() bool { return strings.Contains(b.out.String(), text) })
}

func (b *background) interrupt(t *testing.T) {
	t.Helper()
	b.stop()
	if code := <-b.code; code != exitInterrupted {
		t.Errorf("exit %d after an interrupt, want %d", code, exitInterrupted)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s, and not: %s", startLimit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
