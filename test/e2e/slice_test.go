//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// helloSpec is examples/hello.yml in small, with a name of its own so that a
// demo that runs on the same machine is left alone.
const helloSpec = `nmesos_version: '3.0.7'
common:
  resources:
    cpus: 0.1
    memoryMb: 32
    instances: %d
  container:
    image: pancake-hello
    ports: [8080]
    labels:
      ServiceName: %[2]s
    env_vars:
      GREETING: "hello from the test"
  singularity:
    healthcheckUri: /healthz
    deployHealthTimeoutSeconds: 60
environments:
  dev: {}
`

// spec writes helloSpec and returns the folder it is in.
func spec(t *testing.T, service string, instances int) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(helloSpec, instances, service)
	if err := os.WriteFile(filepath.Join(dir, service+".yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// machine is a "pancake dev" of the test's own: its data, its addresses.
type machine struct {
	t       *testing.T
	data    string
	http    string
	ingress string
	args    []string
	proc    *process
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, data: filepath.Join(t.TempDir(), "data"), http: freeAddr(t, "127.0.0.1"), ingress: freeAddr(t, "127.0.0.1")}
	m.args = []string{
		"dev", "--data-dir", m.data, "--http", m.http, "--grpc", freeAddr(t, "127.0.0.1"),
		"--sidecar-http", freeAddr(t, "127.0.0.1"), "--gossip", freeAddr(t, "127.0.0.1"),
		"--etcd-listen", freeAddr(t, "127.0.0.1"), "--etcd-peer-listen", freeAddr(t, "127.0.0.1"),
		"--ingress-http", m.ingress, "--ingress-https", freeAddr(t, "127.0.0.1"), "--ingress-admin", freeAddr(t, "127.0.0.1"),
	}
	t.Cleanup(func() { // also when the test failed half-way: nothing stays behind
		run(t, "", "dev", "down", "--data-dir", m.data, "--purge")
	})
	return m
}

func (m *machine) start() {
	m.t.Helper()
	m.proc = start(m.t, m.args...)
	m.proc.waitFor("Pancake is ready")
}

// cli runs a command against this machine.
func (m *machine) cli(dir string, args ...string) string {
	m.t.Helper()
	return must(m.t, dir, append(args, "--scheduler", "http://"+m.http)...)
}

// routed waits until Traefik answers with a body that holds text.
func (m *machine) routed(host, text string, limit time.Duration) {
	m.t.Helper()
	client := newClient()
	defer client.CloseIdleConnections()
	eventually(m.t, limit, fmt.Sprintf("Traefik to answer %q for %s", text, host), func() error {
		body, err := get(m.t.Context(), client, m.ingress, host)
		if err == nil && !strings.Contains(body, text) {
			err = fmt.Errorf("it answers %q", body)
		}
		return err
	})
}

func TestSlice(t *testing.T) {
	m := newMachine(t)
	m.start()
	dir := spec(t, "slice", 2)
	const host, request = "slice.localhost", "dev_slice"

	m.cli(dir, "release", "slice", "-e", "dev", "-t", "1")
	m.routed(host, "version 1", 10*time.Second)

	t.Run("version 2 under load", func(t *testing.T) {
		l := startLoad(t, m.ingress, host, 8)
		eventually(t, 10*time.Second, "100 requests", func() error {
			if n := l.sent.Load(); n < 100 {
				return fmt.Errorf("%d sent", n)
			}
			return nil
		})
		m.cli(dir, "release", "slice", "-e", "dev", "-t", "2")
		m.routed(host, "version 2", 10*time.Second)
		eventually(t, time.Minute, "the containers of version 1 to be gone", func() error {
			if n := len(containers(t, request)); n != 2 {
				return fmt.Errorf("%d containers run", n)
			}
			return nil
		})
		l.stop()
		t.Logf("requests sent %d, failed %d", l.sent.Load(), l.failed.Load())
		if l.failed.Load() > 0 {
			t.Errorf("first failure: %v", l.firstError)
		}
	})

	t.Run("a failing version changes nothing", func(t *testing.T) {
		before := ids(containers(t, request))
		out, errs, code := run(t, dir, "release", "slice", "-e", "dev", "-t", "no-such-tag", "--scheduler", "http://"+m.http)
		if code != 1 || !strings.Contains(out+errs, "pancake-hello:no-such-tag") {
			t.Errorf("exit code %d\n%s%s", code, out, errs)
		}
		if after := ids(containers(t, request)); !slices.Equal(before, after) {
			t.Errorf("containers before %v, after %v", before, after)
		}
		m.routed(host, "version 2", 5*time.Second)
	})

	t.Run("a killed container is replaced", func(t *testing.T) {
		before := containers(t, request)
		docker(t, "kill", before[0].ID)
		eventually(t, 30*time.Second, "a new container in its place", func() error {
			now := containers(t, request)
			if len(now) != 2 || slices.Contains(ids(now), before[0].ID) {
				return fmt.Errorf("containers %v", now)
			}
			return nil
		})
		m.routed(host, "version 2", 10*time.Second)
	})

	t.Run("kill -9 of dev leaves the containers", func(t *testing.T) {
		before := ids(containers(t, request))
		m.proc.stop(syscall.SIGKILL)
		if now := ids(containers(t, request)); !slices.Equal(before, now) {
			t.Fatalf("containers before %v, after %v", before, now)
		}
		m.start()
		m.routed(host, "version 2", 30*time.Second)
		healthy(t, m.cli, request, 2)
		if now := ids(containers(t, request)); !slices.Equal(before, now) {
			t.Errorf("containers before %v, after the restart %v", before, now)
		}
		t.Logf("container ids before and after: %.12s", before)
	})

	t.Run("logs, scale, delete", func(t *testing.T) {
		if out := m.cli("", "logs", request, "--tail", "5"); !strings.Contains(out, "healthz") && !strings.Contains(out, "GET") {
			t.Errorf("logs: %q", out)
		}
		m.cli("", "scale", request, "3")
		if n := len(containers(t, request)); n != 3 {
			t.Errorf("%d containers after scale 3", n)
		}
		m.cli("", "delete", request, "--yes")
		if n := len(containers(t, request)); n != 0 {
			t.Errorf("%d containers after delete", n)
		}
	})

	t.Run("down leaves nothing behind", func(t *testing.T) {
		m.cli(dir, "release", "slice", "-e", "dev", "-t", "1", "--force")
		must(t, "", "dev", "down", "--data-dir", m.data, "--purge")
		if left := docker(t, "ps", "-a", "-q", "--filter", "label=pancake.request="+request); left != "" {
			t.Errorf("containers left: %s", left)
		}
		if _, err := os.Stat(m.data); !os.IsNotExist(err) {
			t.Errorf("data directory: %v", err)
		}
	})
}
