package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// chunk is how much of a page of events is written at once, in bytes.
const chunk = 64 << 10

// events streams the changes of services as server-sent events, from now on or
// from behind the event that Last-Event-ID names. A reader that has missed some
// is told to start over with an event "reset".
func (a *api) events(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	for key := range q {
		if key != "name" && key != "host" {
			return pancake.Errorf(pancake.Invalid, "%q is no filter of events: name and host are", key)
		}
	}
	name, host := q.Get("name"), q.Get("host")
	position, known := a.Events.Last(), true
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		position, known = a.Events.Position(last)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil // there is nothing to follow
	}
	out := &eventWriter{stream: stream{w: w, ctl: http.NewResponseController(w)}, events: a.Events}
	for {
		page := a.Events.After(position)
		if page.Lost || !known {
			// Everything up to Last is in the state that the reader fetches next.
			out.reset(page.Last)
			page.Values, known = nil, true
		}
		for i, e := range page.Values {
			if name != "" && e.Service.Name != name || host != "" && e.Service.Hostname != host {
				continue
			}
			if err := out.change(position+uint64(i)+1, e); err != nil {
				return err
			}
			if out.buf.Len() > chunk && !out.flush() {
				return nil
			}
		}
		position = page.Last
		out.mark(position)
		if !out.flush() || !await(r.Context(), page.Changed, repeat) {
			return nil
		}
	}
}

// eventWriter collects events and sends them together.
type eventWriter struct {
	stream
	events *feed.Events
	buf    bytes.Buffer
}

// change adds one event.
func (w *eventWriter) change(position uint64, e *feed.Event) error {
	b, err := e.JSON()
	if err != nil {
		return fmt.Errorf("encode event %d: %w", position, err)
	}
	fmt.Fprintf(&w.buf, "id: %s\nevent: change\ndata: %s\n\n", w.events.ID(position), b)
	return nil
}

func (w *eventWriter) reset(position uint64) {
	b, _ := json.Marshal(client.Reset{ // two strings always have an encoding
		Reason: "the changes behind the id that you asked for are not known any more",
		Action: "GET /api/state.json, then go on with the events that follow here",
	})
	fmt.Fprintf(&w.buf, "id: %s\nevent: reset\ndata: %s\n\n", w.events.ID(position), b)
}

// mark tells the reader where it is, which is no event, so that it can come back
// there. It is the heartbeat too.
func (w *eventWriter) mark(position uint64) {
	fmt.Fprintf(&w.buf, "id: %s\n\n", w.events.ID(position))
}

func (w *eventWriter) flush() bool {
	ok := w.write(w.buf.Bytes())
	w.buf.Reset()
	return ok
}
