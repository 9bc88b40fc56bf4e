//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// The ports of what goes from host to host, as they are by default.
var hostPorts = map[string]int{"API": 7099, "agent link": 7098, "gossip": 7946}

// What must not be read on the way.
const (
	secretService = "zwetschgen"
	secretValue   = "marillenknoedel"
)

// secretSpec has a name and a value that occur nowhere else. Its health check asks
// nobody: the host that runs it cannot reach what Docker publishes outside of it.
const secretSpec = `nmesos_version: '3.0.7'
common:
  resources: {cpus: 0.1, memoryMb: 32, instances: 2}
  container:
    image: pancake-hello
    ports: [8080]
    labels:
      ServiceName: %s
      HealthCheck: AlwaysSuccessful
    env_vars:
      GREETING: %s
environments:
  dev: {}
`

// writeSecretSpec writes it into the folder.
func writeSecretSpec(t *testing.T, dir string) {
	t.Helper()
	text := fmt.Sprintf(secretSpec, secretService, secretValue)
	if err := os.WriteFile(filepath.Join(dir, secretService+".yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// removeContainers removes what is left of a request when all that the test starts
// after this call has ended: agents would start it again.
func removeContainers(t *testing.T, request string) {
	t.Cleanup(func() {
		for _, c := range containers(t, request) {
			docker(t, "rm", "-f", c.ID)
		}
	})
}

// agentArgs are what an agent on the host needs besides how it gets in.
func agentArgs(h, scheduler host, dir, seed string, more ...string) []string {
	return append([]string{
		"agent", "--data-dir", dir, "--hostname", h.name, "--advertise", h.ip, "--scheduler", scheduler.ip + ":7098",
		"--seeds", seed + ":7946", "--foreign-containers=false", "--drain", "1s", "--resources", "cpus:1;mem:512",
	}, more...)
}

// TestInsecure shows that a capture finds what it looks for: without encryption
// service name and value can be read on the way from host to host.
func TestInsecure(t *testing.T) {
	removeContainers(t, "dev_"+secretService)
	a, b := twoHosts(t)
	dir := t.TempDir()
	writeSecretSpec(t, dir)
	a.start(t, "scheduler", "--insecure", "--data-dir", filepath.Join(dir, "scheduler"), "--http", a.ip+":7099", "--grpc", a.ip+":7098").waitFor("Pancake is ready")
	packets := b.capture(t)
	a.start(t, agentArgs(a, a, filepath.Join(dir, "a"), b.ip, "--insecure")...).waitFor("Pancake is ready")
	b.start(t, agentArgs(b, a, filepath.Join(dir, "b"), a.ip, "--insecure")...).waitFor("Pancake is ready")
	b.must(t, dir, "release", secretService, "-e", "dev", "-t", "1", "--scheduler", "http://"+a.ip+":7099")

	counts := packets.counts(hostPorts, secretService, secretValue)
	t.Logf("without encryption: %v", counts)
	for where, word := range map[string]string{"API": secretValue, "agent link": secretValue, "gossip": secretService} {
		if counts[where][word] == 0 {
			t.Errorf("%s: %q is not in the capture", where, word)
		}
	}
}

// TestSecure is TestInsecure with what is on by default, and with those who try
// to get in.
func TestSecure(t *testing.T) {
	removeContainers(t, "dev_"+secretService)
	a, b := twoHosts(t)
	dir := t.TempDir()
	writeSecretSpec(t, dir)
	scheduler := a.start(t, "scheduler", "--data-dir", filepath.Join(dir, "scheduler"), "--http", a.ip+":7099", "--grpc", a.ip+":7098")
	scheduler.waitFor("Pancake is ready")
	packets := b.capture(t)
	a.must(t, dir, loginArgs(t, scheduler, filepath.Join(dir, "scheduler"), "https://"+a.ip+":7099")...)
	joinToken := func() string { return strings.TrimSpace(a.must(t, dir, "token", "create", "--agent", "--ttl", "10m")) }

	tokenA, tokenB := joinToken(), joinToken()
	a.start(t, agentArgs(a, a, filepath.Join(dir, "a"), b.ip, "--join", tokenA)...).waitFor("Pancake is ready")
	agentB := func(more ...string) *process {
		t.Helper()
		p := b.start(t, agentArgs(b, a, filepath.Join(dir, "b"), a.ip, more...)...)
		p.waitFor("Pancake is ready")
		return p
	}
	second := agentB("--join", tokenB)
	registered(t, a, dir, 2)

	t.Run("who may not get in", func(t *testing.T) {
		other, err := identity.NewCA("default", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		unknown := identity.NewToken(identity.JoinToken, fingerprintOf(t, tokenA))
		for name, test := range map[string]struct{ args, want []string }{
			"no token":                 {nil, []string{"--join"}},
			"a used token":             {[]string{"--join", tokenA}, []string{"used"}},
			"a token from another CA":  {[]string{"--join", identity.NewToken(identity.JoinToken, other.Fingerprint()).Reveal()}, []string{"fingerprint"}},
			"a token that nobody made": {[]string{"--join", unknown.Reveal()}, []string{"token"}},
			"garbage":                  {[]string{"--join", "hunter2"}, []string{"pkj_"}},
		} {
			stdout, stderr, code := b.run(t, dir, agentArgs(b, a, t.TempDir(), a.ip, append(test.args, "--gossip", b.ip+":7947", "--http", "127.0.0.1:7778")...)...)
			if code == 0 {
				t.Errorf("%s: it ended well: %s%s", name, stdout, stderr)
			}
			for _, word := range test.want {
				if !strings.Contains(stderr, word) {
					t.Errorf("%s: no %q in: %s", name, word, stderr)
				}
			}
			t.Logf("%s: exit code %d: %s", name, code, lastLine(stderr))
		}
		registered(t, a, dir, 2)
	})

	t.Run("a restart keeps the identity", func(t *testing.T) {
		second.stop(syscall.SIGTERM)
		agentB()
		registered(t, a, dir, 2)
	})

	t.Run("nothing can be read on the way", func(t *testing.T) {
		b.must(t, dir, "release", secretService, "-e", "dev", "-t", "1") // over the wire, too
		// As the gossip of TestInsecure had it by now, the one here has.
		eventually(t, time.Minute, "both hosts to know the service", func() error {
			for _, h := range []host{a, b} {
				if text := h.get(t, "http://127.0.0.1:7777/api/services.json"); !strings.Contains(text, secretService) {
					return fmt.Errorf("%s knows: %.300s", h.name, text)
				}
			}
			return nil
		})
		counts := packets.counts(hostPorts, secretService, secretValue)
		t.Logf("with encryption: %v", counts)
		for where, c := range counts {
			if c["bytes"] == 0 || c[secretService] != 0 || c[secretValue] != 0 {
				t.Errorf("%s: %v", where, c)
			}
		}
	})
}

// fullFingerprint is a SHA-256 in hexadecimal.
var fullFingerprint = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// loginArgs are what "pancake login" needs for a scheduler that has just begun.
func loginArgs(t *testing.T, scheduler *process, dataDir, url string) []string {
	t.Helper()
	fingerprint := fullFingerprint.FindString(scheduler.out.String())
	if fingerprint == "" {
		t.Fatalf("the scheduler does not say the fingerprint of its CA:\n%s", scheduler.out)
	}
	return []string{"login", "--scheduler", url, "--ca-fingerprint", fingerprint, "--token-file", filepath.Join(dataDir, "operator.token")}
}

// registered waits until n agents, and no others, are connected.
func registered(t *testing.T, h host, home string, n int) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("%d agents", n), func() error {
		var agents []client.AgentView
		out := h.must(t, home, "agents", "-o", "json")
		if err := json.Unmarshal([]byte(out), &agents); err != nil {
			return err
		}
		connected := 0
		for _, a := range agents {
			if a.Connected {
				connected++
			}
		}
		if connected != n || len(agents) != n {
			return fmt.Errorf("agents: %s", out)
		}
		return nil
	})
}

func fingerprintOf(t *testing.T, token string) identity.Fingerprint {
	t.Helper()
	parsed, err := identity.ParseToken(identity.JoinToken, token)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Fingerprint
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
