//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
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

func writeSecretSpec(t *testing.T, dir string) {
	t.Helper()
	text := fmt.Sprintf(secretSpec, secretService, secretValue)
	if err := os.WriteFile(filepath.Join(dir, secretService+".yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range containers(t, "dev_"+secretService) {
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
