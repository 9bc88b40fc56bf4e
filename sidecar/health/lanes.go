package health

import (
	"context"
	"time"
)

// lanes bound how many checks run at the same time, such that those that hang keep only
// each other waiting. A check starts in the fast lane and stays there no longer than
// quick. Then it goes on in the slow lane; if that is full, it is broken off and starts
// again when there is room. One that was slow the last time starts in the slow lane. So a
// check that answers within quick waits for at most quick times the number of checks
// before it, divided by the places in the fast lane.
type lanes struct {
	quick      time.Duration
	fast, slow chan struct{} // a token for each check that runs
}

func newLanes(quick time.Duration, fast, slow int) *lanes {
	return &lanes{quick: quick, fast: make(chan struct{}, fast), slow: make(chan struct{}, slow)}
}

// run runs a check when there is room for it, each time for timeout at most. It
// returns ctx's error when that ends before.
func (l *lanes) run(ctx context.Context, slow bool, timeout time.Duration, check func(context.Context) error) error {
	if !slow {
		if done, err := l.try(ctx, timeout, check); done {
			return err
		}
	}
	if err := enter(ctx, l.slow); err != nil {
		return err
	}
	defer leave(l.slow)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return check(ctx)
}

// try runs a check that begins in the fast lane. It is not done if it was broken off.
func (l *lanes) try(ctx context.Context, timeout time.Duration, check func(context.Context) error) (done bool, err error) {
	if err := enter(ctx, l.fast); err != nil {
		return true, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- check(ctx) }() // ends with ctx; every way from here waits for it
	late := time.NewTimer(l.quick)
	defer late.Stop()
	select {
	case err := <-answer:
		leave(l.fast)
		return true, err
	case <-late.C:
	}
	select {
	case l.slow <- struct{}{}:
		leave(l.fast)
		defer leave(l.slow)
		return true, <-answer
	default:
		cancel()
		err := <-answer
		leave(l.fast)
		return err == nil, nil // it may have passed in the last moment
	}
}

func enter(ctx context.Context, lane chan<- struct{}) error {
	select {
	case lane <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func leave(lane <-chan struct{}) { <-lane }
