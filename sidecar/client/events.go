package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/pancake-stack/pancake"
)

// The pauses between two attempts to reach a Sidecar that is away.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// maxEvent bounds one line of an event stream, in bytes: a service has 8 kB of
// labels and 128 ports at most.
const maxEvent = 256 << 10

// Events calls fn with each change of a service from behind the event with the ID
// since on; "" is from now on. When the Sidecar goes away it comes back to it and
// goes on where it was. Changes that were missed for good are told by an Event with
// Reset. It returns when ctx ends, when fn fails, or when the Sidecar refuses for a
// reason that time does not change; it never returns nil.
func (c *Client) Events(ctx context.Context, since string, fn func(Event) error) error {
	pause := firstPause
	for {
		var failed error
		err := c.events(ctx, &since, func(e Event) error {
			failed = fn(e)
			return failed
		}, func() { pause = firstPause })
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case pancake.KindOf(err) != pancake.Unavailable:
			return err
		}
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
			return err
		}
		pause = min(2*pause, lastPause)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// events follows one connection. It keeps since at where it is.
func (c *Client) events(ctx context.Context, since *string, fn func(Event) error, opened func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(silence, func() {
		cancel(pancake.Errorf(pancake.Unavailable, "sidecar at %s was silent for %s", c.base(), silence))
	})
	defer idle.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if *since != "" {
		header.Set("Last-Event-ID", *since)
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/events", nil, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	opened()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	var kind, id string
	var data []byte
	for lines.Scan() {
		idle.Reset(silence)
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "id":
			id = string(value)
		case "event":
			kind = string(value)
		case "data":
			data = append(data, value...)
		}
		if len(lines.Bytes()) > 0 {
			continue
		}
		if len(data) > 0 {
			e, err := parseEvent(kind, data)
			if err != nil {
				return pancake.Errorf(pancake.Unavailable, "sidecar at %s sent an unreadable event: %w", c.base(), err)
			}
			if e.ID = id; e.known(kind) {
				idle.Stop() // how long the caller takes is no silence
				if err := fn(e); err != nil {
					return err
				}
				idle.Reset(silence)
			}
		}
		if id != "" {
			*since = id
		}
		kind, id, data = "", "", nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return pancake.Errorf(pancake.Unavailable, "events of sidecar at %s: %w", c.base(), cmp.Or(lines.Err(), io.EOF))
}

// known reports whether this version knows that kind of event; others are for
// later ones.
func (Event) known(kind string) bool { return kind == "change" || kind == "reset" }

func parseEvent(kind string, data []byte) (Event, error) {
	var e Event
	var err error
	switch kind {
	case "change":
		err = json.Unmarshal(data, &e.Change)
	case "reset":
		e.Reset = &Reset{}
		err = json.Unmarshal(data, e.Reset)
	}
	return e, err
}
