package api

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/api/document"
)

const (
	// repeat is how often a watcher hears something though nothing has changed.
	repeat = 10 * time.Second
	// patience is how long a watcher may take to read one document.
	patience = 10 * time.Second
)

// watch sends a document at once, after each change and every so often.
// Changes that come while a document is on its way share the next.
func (a *api) watch(w http.ResponseWriter, r *http.Request) error {
	encode := a.Docs.ByService
	if r.URL.Query().Get("by_service") == "false" {
		encode = a.Docs.State
	}
	s := newStream(w)
	if r.Method == http.MethodHead {
		return nil // there is nothing to follow
	}
	for {
		start := time.Now()
		snap, changed := a.State.Get()
		doc, err := encode(snap)
		if err != nil {
			return err
		}
		if !s.send(doc.Body) {
			return nil
		}
		// A large catalogue that changes all the time takes a quarter of a core at
		// most: a document is followed by a pause three times as long as it took. A
		// change that comes after a quiet moment is not held up.
		if !await(r.Context(), nil, min(time.Second, 3*time.Since(start))) || !await(r.Context(), changed, repeat) {
			return nil
		}
	}
}

// traefik answers with Traefik's configuration, or streams it: one line of JSON
// for each that differs from the one before, and an empty line every so often.
func (a *api) traefik(w http.ResponseWriter, r *http.Request) error {
	conf, changed := a.Routes.Get()
	if r.URL.Query().Get("watch") != "true" {
		if conf.Document == nil {
			return pancake.Errorf(pancake.Unavailable, "the routes are not complete yet: services are still being discovered")
		}
		return answer(w, r, document.New(conf.Document))
	}
	s := newStream(w)
	if r.Method == http.MethodHead {
		return nil
	}
	var sent []byte
	for {
		line := conf.Line
		if bytes.Equal(line, sent) {
			line = nil // a heartbeat
		}
		if !s.send(line) || !await(r.Context(), changed, repeat) {
			return nil
		}
		sent = conf.Line
		conf, changed = a.Routes.Get()
	}
}

// await returns when something changes or the time is up, or with false when ctx ends.
func await(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

// stream writes documents to a watcher, a line each.
type stream struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/json")
	return &stream{w: w, ctl: http.NewResponseController(w)}
}

// send writes a document and the end of its line.
func (s *stream) send(doc []byte) bool { return s.write(doc, []byte{'\n'}) }

// write returns false when the watcher is gone, or reads too slowly to be served.
func (s *stream) write(parts ...[]byte) bool {
	err := s.ctl.SetWriteDeadline(time.Now().Add(patience))
	for _, part := range parts {
		if err == nil {
			_, err = s.w.Write(part)
		}
	}
	return err == nil && s.ctl.Flush() == nil
}
