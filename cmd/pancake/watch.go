package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const (
	// beat is how often watch looks without being told of a change: some things,
	// such as ages and the reasons for waiting, change without an event.
	beat = time.Second
	// patience is how long watch puts up with a scheduler that does not answer:
	// several times what a restart or an election takes.
	patience = time.Minute
)

// errTimeout ends a watch whose time is up.
var errTimeout = errors.New("the time is up")

// watcher follows what happens to one request, or to all.
type watcher struct {
	client  *client.Client
	request string        // "" means all
	timeout time.Duration // 0 means none
	// look reads the state and shows it. It is called at once, after every
	// change, and every beat, until it reports that it has seen enough.
	look func(ctx context.Context) (done bool, err error)
	// silent is told once when the scheduler stops answering, and again, with
	// nil, when it is back.
	silent func(err error)
}

// run watches until look is done or fails. A scheduler that does not answer
// is waited for, up to patience. It returns ctx's error when ctx ends, and
// errTimeout when the time is up.
func (w *watcher) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	if w.timeout > 0 {
		defer time.AfterFunc(w.timeout, func() { cancel(errTimeout) }).Stop()
	}
	changed := make(chan struct{}, 1)
	var subscription sync.WaitGroup
	defer subscription.Wait()
	defer cancel(nil)
	subscription.Go(func() { w.subscribe(ctx, changed) })

	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	var silentSince time.Time
	for {
		done, err := w.look(ctx)
		switch {
		case ctx.Err() != nil && !done:
			return context.Cause(ctx)
		case pancake.KindOf(err) == pancake.Unavailable:
			if silentSince.IsZero() {
				silentSince = time.Now()
				w.silent(err)
			}
			if time.Since(silentSince) > patience {
				return err
			}
		case err != nil || done:
			return err
		case !silentSince.IsZero():
			silentSince = time.Time{}
			w.silent(nil)
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// subscribe puts a token into changed after every change, until ctx ends. While
// the stream cannot be had, the ticker of run has to do.
func (w *watcher) subscribe(ctx context.Context, changed chan<- struct{}) {
	retry := &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 2 * time.Second}
	retry.Reset()
	for ctx.Err() == nil {
		_ = w.client.Changed(ctx, w.request, func() { // its failures are look's too
			retry.Reset()
			select {
			case changed <- struct{}{}:
			default: // a look is due already and will see this change as well
			}
		})
		select {
		case <-time.After(retry.NextBackOff()):
		case <-ctx.Done():
		}
	}
}
