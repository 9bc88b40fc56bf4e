// Package child keeps another program running: it starts it, restarts it with
// back-off when it dies, and ends it with its parent.
package child

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Config says what to run.
type Config struct {
	Path string
	Args []string
	// Output takes what the program prints. Default: nowhere.
	Output io.Writer
	// Grace is the time from SIGTERM to SIGKILL. Default 10 s.
	Grace time.Duration
	// Steady is how long a run must last for the next restart to be immediate. Default 10 s.
	Steady time.Duration
	Log    *slog.Logger
}

// Run keeps the program running until ctx ends. It fails only when the program
// cannot be started the first time: later it may be missing for a moment, while
// somebody replaces it.
func Run(ctx context.Context, cfg Config) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 5*time.Second
	for first := true; ; first = false {
		begin := time.Now()
		err := once(ctx, cfg)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if start := (*startError)(nil); first && errors.As(err, &start) {
			return err
		}
		if time.Since(begin) > cmp.Or(cfg.Steady, 10*time.Second) {
			wait.Reset()
		}
		pause := wait.NextBackOff()
		cfg.Log.WarnContext(ctx, "child ended; restarting it", "path", cfg.Path, "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// startError says that the program could not even be started.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

func once(ctx context.Context, cfg Config) error {
	cmd := exec.CommandContext(ctx, cfg.Path, cfg.Args...)
	cmd.Stdout, cmd.Stderr = cfg.Output, cfg.Output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = cmp.Or(cfg.Grace, 10*time.Second)
	dieWithParent(cmd)
	// The kernel sends the death signal when the starting thread ends, not the
	// process: the thread is kept until the program has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return &startError{fmt.Errorf("start %s: %w", cfg.Path, err)}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", cfg.Path, err)
	}
	return fmt.Errorf("%s: ended by itself", cfg.Path)
}
