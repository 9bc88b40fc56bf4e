package etcd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// What etcd dies of is said, also before it serves: it then ends the process.
func TestTheLastWordsAreLogged(t *testing.T) {
	var out bytes.Buffer
	log := zap.New(newCore(slog.New(slog.NewTextHandler(&out, nil))))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		log.Warn("listener closed")
		log.Panic("failed to open WAL")
	}()
	if !strings.Contains(out.String(), "failed to open WAL") || strings.Contains(out.String(), "listener closed") {
		t.Errorf("logged %q", out.String())
	}
}
