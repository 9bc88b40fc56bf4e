package child_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/internal/child"
)

func TestRestartsWhatDies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "starts")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- child.Run(ctx, child.Config{
			Path: "/bin/sh", Args: []string{"-c", "echo started >> " + file + "; exit 3"}, Log: slog.New(slog.DiscardHandler),
		})
	}()
	waitLines(t, file, 3)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEndsItWhenAskedTo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- child.Run(ctx, child.Config{
			Path: "/bin/sh", Args: []string{"-c", "trap 'echo term >> " + file + "; exit' TERM; echo up >> " + file + "; while :; do sleep 0.05; done"},
			Log: slog.New(slog.DiscardHandler),
		})
	}()
	waitLines(t, file, 1)
	cancel()
	<-done
	if b, _ := os.ReadFile(file); string(b) != "up\nterm\n" {
		t.Errorf("got %q", b)
	}
}

func TestSaysWhenItCannotStart(t *testing.T) {
	err := child.Run(t.Context(), child.Config{Path: "/no/such/program", Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestWaitsForAProgramThatIsBeingReplaced(t *testing.T) {
	dir := t.TempDir()
	program, trace := filepath.Join(dir, "program"), filepath.Join(dir, "trace")
	script := []byte("#!/bin/sh\necho started >> " + trace + "\nrm " + program + "\n")
	if err := os.WriteFile(program, script, 0o700); err != nil {
		t.Fatal(err)
	}
	failed := make(chan struct{}, 100)
	log := slog.New(slog.NewTextHandler(writerFunc(func(line []byte) {
		if strings.Contains(string(line), "no such file") {
			failed <- struct{}{}
		}
	}), nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- child.Run(ctx, child.Config{Path: program, Log: log}) }()
	waitLines(t, trace, 1)
	select {
	case <-failed:
	case err := <-done:
		t.Fatalf("gave up: %v", err)
	}
	next := program + ".next"
	if err := os.WriteFile(next, script, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, program); err != nil {
		t.Fatal(err)
	}
	waitLines(t, trace, 2)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func([]byte)

func (w writerFunc) Write(b []byte) (int, error) { w(b); return len(b), nil }

func waitLines(t *testing.T, file string, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if b, _ := os.ReadFile(file); strings.Count(string(b), "\n") >= n {
			return
		}
	}
	t.Fatalf("%s never had %d lines", file, n)
}
