// Package lifecycle runs the parts of one process: started in order, each once
// the one before is ready, and stopped in the opposite order, so that nothing
// loses what it stands on while it still works.
package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Part is something that runs for as long as the process does.
type Part struct {
	Name string
	// Run blocks until ctx ends. Any other return ends the whole process.
	Run func(ctx context.Context) error
	// Ready blocks until the part can be used, or ctx ends. Nil means at once.
	Ready func(ctx context.Context) error
	// ReadyWithin bounds Ready. Default 30 s; AsLongAsItTakes is no bound.
	ReadyWithin time.Duration
	// StopWithin bounds the end of Run after its context has ended. Default 15 s.
	StopWithin time.Duration
}

// AsLongAsItTakes is for a part that waits for another machine: it goes on
// without that, so there is no reason to end.
const AsLongAsItTakes time.Duration = -1

// Run starts parts, calls started after each, and running when all are ready.
// It returns when ctx ends (with nil), or with the error of the first part that fails.
func Run(ctx context.Context, parts []Part, started func(Part, time.Duration), running func()) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var up []*handle
	for _, p := range parts {
		if ctx.Err() != nil {
			break
		}
		begin := time.Now()
		h := start(ctx, p, fail)
		up = append(up, h)
		if err := h.ready(ctx); err != nil {
			fail(fmt.Errorf("%s: %w", p.Name, err)) // unless it failed or was stopped before
			break
		}
		started(p, time.Since(begin))
	}
	if ctx.Err() == nil {
		running()
	}
	<-ctx.Done()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		cause = nil // asked to stop, not failed
	}
	return errors.Join(cause, stop(up))
}

// handle is a part that has been started.
type handle struct {
	Part
	cancel context.CancelFunc
	done   chan struct{}
}

// start runs p under a context that outlives ctx, for the parts above it may still need it.
func start(ctx context.Context, p Part, fail context.CancelCauseFunc) *handle {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h := &handle{Part: p, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		err := p.Run(own)
		switch {
		case own.Err() != nil: // it was told to stop
		case err == nil:
			fail(fmt.Errorf("%s: ended by itself", p.Name))
		default:
			fail(fmt.Errorf("%s: %w", p.Name, err))
		}
	}()
	return h
}

// ready waits for the part. The error says what that was waiting for.
func (h *handle) ready(ctx context.Context) error {
	if h.Ready == nil {
		return ctx.Err()
	}
	within := cmp.Or(h.ReadyWithin, 30*time.Second)
	if within < 0 {
		return errors.Join(h.Ready(ctx), ctx.Err())
	}
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := h.Ready(bounded)
	if err != nil && bounded.Err() != nil {
		return fmt.Errorf("not ready within %s: %w", within, err)
	}
	return errors.Join(err, ctx.Err())
}

func stop(up []*handle) error {
	var errs []error
	for _, h := range slices.Backward(up) {
		h.cancel()
		limit := cmp.Or(h.StopWithin, 15*time.Second)
		select {
		case <-h.done:
		case <-time.After(limit):
			errs = append(errs, fmt.Errorf("%s: did not stop within %s", h.Name, limit))
		}
	}
	return errors.Join(errs...)
}

// Poll calls check every 5 ms at first, then ever more slowly up to 200 ms,
// until it returns nil or ctx ends, and returns its last error.
func Poll(ctx context.Context, check func(context.Context) error) error {
	for wait := 5 * time.Millisecond; ; wait = min(wait*3/2, 200*time.Millisecond) {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
