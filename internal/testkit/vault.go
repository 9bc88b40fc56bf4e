package testkit

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hashicorp/vault/api"
)

// Vault runs a Vault server of its own for the test: Vault's own code, in memory,
// unsealed, with nothing mounted. The client has the root token.
func Vault(t testing.TB) *api.Client {
	t.Helper()
	cmd := exec.Command(tool(t, "vaultd"))
	// It ends when its input does, so also when this process is killed.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("vaultd: %v", err)
		}
	})
	var made struct{ Address, Token string }
	if err := json.NewDecoder(io.LimitReader(stdout, 4096)).Decode(&made); err != nil {
		t.Fatalf("vaultd does not start: %v", err)
	}
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		t.Fatal(cfg.Error)
	}
	cfg.Address, cfg.MaxRetries = made.Address, 0
	c, err := api.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(made.Token)
	return c
}

// tool is the path of a program that scripts/<name>.sh has put into bin/tools.
func tool(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "scripts", name+".sh")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatalf("this test needs to run in the repository, for bin/tools/%s", name)
		}
	}
	path := filepath.Join(dir, "bin", "tools", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("this test needs bin/tools/%s: run scripts/%s.sh", name, name)
	}
	return path
}
