package checkpoint

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pancake-stack/pancake"
)

// AgentID reads the id of the agent whose directory this is, and makes one if
// there is none: an agent keeps it for life.
func AgentID(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("agent id: %w", err)
	}
	path := filepath.Join(dir, "agent-id")
	b, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(b))
		if id == "" || len(id) > 128 {
			return "", pancake.Errorf(pancake.Invalid, "%s holds no agent id; restore it, or remove it to become a new agent", path)
		}
		return id, nil
	}
	if !os.IsNotExist(err) {
		return "", fmt.Errorf("agent id: %w", err)
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	id := "agent-" + hex.EncodeToString(random)
	if err := replace(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("agent id: %w", err)
	}
	return id, nil
}

// Lock makes sure that one executor at a time uses a directory. The lock ends
// with unlock or with the process. The error is Conflict when another has it.
func Lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, pancake.Errorf(pancake.Conflict, "another executor uses %s; stop it, or give this one its own --data-dir", dir)
	}
	return func() { f.Close() }, nil
}
