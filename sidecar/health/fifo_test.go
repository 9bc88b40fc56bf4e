package health

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAuthoritiesInNoFile: a label may name anything on the host, such as a pipe that nobody
// writes to. To wait for it would take the place of another check for ever.
func TestAuthoritiesInNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := tlsSettings{on: true, ca: path}.config()
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still waiting for the pipe")
	}
}
