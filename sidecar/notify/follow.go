package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// follower notifies one listener, one change after another.
type follower struct {
	*Notifier
	url    string
	client *http.Client
	at     uint64    // the last change that it was told of, or that was left out
	told   time.Time // the Time of the last change that was sent
	down   bool      // the last attempt failed
	pause  *backoff.ExponentialBackOff
}

// follow notifies a listener until ctx ends.
func (n *Notifier) follow(ctx context.Context, l *listener) {
	target, err := url.Parse(l.url)
	if err != nil {
		n.cfg.Log.WarnContext(ctx, "a listener is not notified: its URL cannot be read", "url", l.url, "err", err)
		return
	}
	f := &follower{Notifier: n, url: l.url, client: n.client(target), at: l.from, pause: backoff.NewExponentialBackOff()}
	f.pause.InitialInterval, f.pause.MaxInterval, f.pause.Multiplier = firstPause, lastPause, 2
	defer f.client.CloseIdleConnections()
	for ctx.Err() == nil {
		event, changed := f.next()
		if event == nil {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		f.deliver(ctx, event)
	}
}

// next is the change that the listener is told of next, nil if there is none yet.
// Where too many wait, the oldest are left out: the state that comes with the
// others has them.
func (f *follower) next() (*feed.Event, <-chan struct{}) {
	page := f.cfg.Events.After(f.at)
	skipped := max(0, len(page.Values)-backlog)
	if page.Lost {
		f.skip(page.Last - f.at - min(page.Last, backlog))
		f.at = page.Last - min(page.Last, backlog)
		page = f.cfg.Events.After(f.at)
		skipped = 0
	}
	if len(page.Values) == 0 {
		return nil, page.Changed
	}
	f.skip(uint64(skipped))
	f.at += uint64(skipped) + 1
	return page.Values[skipped], nil
}

func (f *follower) skip(n uint64) { f.posts.WithLabelValues("skipped").Add(float64(n)) }

// deliver tells the listener of a change, and tries again when that fails. After
// some attempts the change is given up for a newer one, if there is one; the pauses grow on.
func (f *follower) deliver(ctx context.Context, e *feed.Event) {
	for attempt := 0; ; attempt++ {
		err := f.post(ctx, e)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if f.down {
				f.cfg.Log.InfoContext(ctx, "a listener is notified again", "url", f.url)
			}
			f.down = false
			f.pause.Reset()
			f.posts.WithLabelValues("delivered").Inc()
			return
		}
		f.posts.WithLabelValues("failed").Inc()
		if !f.down {
			f.cfg.Log.WarnContext(ctx, "a listener cannot be notified; it is tried again", "url", f.url, "err", err)
		}
		f.down = true
		if attempt >= retries && f.cfg.Events.Last() > f.at {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.pause.NextBackOff()):
		}
	}
}

// post sends a change and the newest state. The body is made anew for each attempt.
func (f *follower) post(ctx context.Context, e *feed.Event) error {
	body, err := f.body(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "listener %s: %w", f.url, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return pancake.Errorf(pancake.Unavailable, "post: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // only so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return pancake.Errorf(pancake.Unavailable, "it answered %s", resp.Status)
	}
	return nil
}

// body is a client.StateChangedEvent. A receiver takes it only if its Time is
// after the state that it knows, so that of a host whose clock is behind, or of a
// second change in the same state, is moved to just after it.
func (f *follower) body(e *feed.Event) ([]byte, error) {
	snap, _ := f.cfg.State.Get()
	change := e.ChangeEvent
	for _, known := range []time.Time{f.told, snap.LastChanged} {
		if !change.Time.After(known) {
			change.Time = known.Add(time.Nanosecond)
		}
	}
	f.told = change.Time
	state, err := f.cfg.Docs.StateAt(snap, change.Time)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(&change)
	if err != nil {
		return nil, fmt.Errorf("encode change of %s: %w", change.Service.ID, err)
	}
	out := make([]byte, 0, len(state)+len(b)+32)
	out = append(out, `{"State":`...)
	out = append(out, state...)
	out = append(out, `,"ChangeEvent":`...)
	out = append(out, b...)
	return append(out, '}'), nil
}
