package api

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/pancake-stack/pancake"
)

// watch sends a document at once, after each change and every so often.
// Changes that come while a document is on its way share the next.
func (a *api) watch(w http.ResponseWriter, r *http.Request) error {
	document := a.docs.services
	if r.URL.Query().Get("by_service") == "false" {
		document = a.docs.state
	}
	s := newStream(w)
	for {
		start := time.Now()
		snap, changed := a.State.Get()
		doc, err := document(snap)
		if err != nil {
			return err
		}
		if !s.send(doc) {
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
		return write(w, conf.Document)
	}
	s := newStream(w)
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

// send returns false when the watcher is gone, or reads too slowly to be served.
func (s *stream) send(doc []byte) bool {
	err := s.ctl.SetWriteDeadline(time.Now().Add(patience))
	for _, part := range [][]byte{doc, {'\n'}} {
		if err == nil {
			_, err = s.w.Write(part)
		}
	}
	return err == nil && s.ctl.Flush() == nil
}
