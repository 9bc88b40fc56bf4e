package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const (
	pulse      = 10 * time.Second // between comments on a stream without events
	writeLimit = 30 * time.Second // a client that reads nothing for so long is cut off
	maxLine    = 64 << 10         // bytes; longer lines are split
)

// watch sends events until the client leaves, is too slow, or the scheduler
// leads no more. The client comes back with the id of the last event it has seen.
func (h *api) watch(w http.ResponseWriter, r *http.Request) error {
	var since uint64
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		var err error
		if since, err = strconv.ParseUint(last, 10, 64); err != nil {
			return pancake.Errorf(pancake.Invalid, "Last-Event-ID %q is not a number", last)
		}
	}
	replay, watcher := h.events.Watch(r.FormValue("request"), since)
	defer h.events.Leave(watcher)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := newFlusher(w)
	defer out.done()
	if err := out.print(": connected\n\n"); err != nil {
		return serve.IgnoreGone(err)
	}
	for _, e := range replay {
		if !h.tells(r, e) {
			continue
		}
		if err := out.event(e); err != nil {
			return serve.IgnoreGone(err)
		}
	}
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		var err error
		select {
		case e, ok := <-watcher.C:
			if !ok {
				return nil
			}
			if h.tells(r, e) {
				err = out.event(e)
			}
		case <-tick.C:
			err = out.print(":\n\n")
		case <-r.Context().Done():
			return nil
		}
		if err != nil {
			return serve.IgnoreGone(err)
		}
	}
}

// tells reports whether whoever watches may know of an event.
func (h *api) tells(r *http.Request, e client.Event) (ok bool) {
	if e.Request == "" {
		return true // of an agent
	}
	h.scheduler.Read(func(v View) { ok = h.shows(r, v, e.Request) })
	return ok
}

// logs sends what a task printed, line by line, each a JSON document.
func (h *api) logs(w http.ResponseWriter, r *http.Request) error {
	tail := 0
	if text := r.FormValue("tail"); text != "" {
		var err error
		if tail, err = strconv.Atoi(text); err != nil || tail < 0 || tail > 1e6 {
			return pancake.Errorf(pancake.Invalid, "tail=%q is not a number of lines from 0 to 1000000", text)
		}
	}
	follow, err := flag(r, "follow")
	if err != nil {
		return err
	}
	var task *pancake.Task
	h.scheduler.Read(func(v View) { task, err = v.task(r.PathValue("task")) })
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := newFlusher(w)
	defer out.done()
	lines := splitter{emit: out.line}
	err = h.agents.Logs(r.Context(), task.AgentID, task.ID, tail, follow, lines.write)
	if err == nil {
		err = lines.flush()
	}
	if err != nil && out.started && r.Context().Err() == nil {
		return serve.IgnoreGone(out.line(client.LogLine{Error: err.Error()}))
	}
	return err
}

// splitter cuts what arrives into lines, separately for each source.
type splitter struct {
	emit    func(client.LogLine) error
	partial map[string][]byte
}

func (s *splitter) write(source string, data []byte) error {
	if s.partial == nil {
		s.partial = map[string][]byte{}
	}
	if source != "stderr" {
		source = "stdout"
	}
	rest := append(s.partial[source], data...)
	for {
		end := bytes.IndexByte(rest, '\n')
		next := end + 1
		if end < 0 && len(rest) < maxLine {
			break
		}
		if end < 0 || end > maxLine {
			end, next = maxLine, maxLine
		}
		if err := s.emit(client.LogLine{Source: source, Text: string(bytes.TrimSuffix(rest[:end], []byte("\r")))}); err != nil {
			return err
		}
		rest = rest[next:]
	}
	s.partial[source] = bytes.Clone(rest)
	return nil
}

// flush emits what has no end of line.
func (s *splitter) flush() error {
	for _, source := range []string{"stdout", "stderr"} {
		if rest := s.partial[source]; len(rest) > 0 {
			if err := s.emit(client.LogLine{Source: source, Text: string(rest)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// flusher writes to a client and sees that it arrives at once.
type flusher struct {
	w       http.ResponseWriter
	control *http.ResponseController
	started bool
}

func newFlusher(w http.ResponseWriter) *flusher {
	return &flusher{w: w, control: http.NewResponseController(w)}
}

func (f *flusher) print(text string) error {
	f.started = true
	// A writer that knows no deadlines has no slow client behind it.
	_ = f.control.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := f.w.Write([]byte(text)); err != nil {
		return err
	}
	return f.control.Flush()
}

// done takes the deadline off again: the connection may serve other requests.
func (f *flusher) done() { _ = f.control.SetWriteDeadline(time.Time{}) }

func (f *flusher) event(e client.Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event %d: %w", e.ID, err)
	}
	return f.print(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, b))
}

func (f *flusher) line(l client.LogLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode log line: %w", err)
	}
	return f.print(string(b) + "\n")
}
