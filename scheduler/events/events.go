// Package events tells watchers what changed, and keeps the latest changes for
// those that come back after their connection broke.
package events

import (
	"sync"

	"github.com/pancake-stack/pancake/scheduler/client"
)

const (
	ringSize  = 4096 // events that can be replayed
	queueSize = 1024 // events that wait for one watcher
)

// Hub is safe for concurrent use.
type Hub struct {
	mu       sync.Mutex
	ring     []client.Event // oldest first
	next     uint64
	watchers map[*Watcher]struct{}
	closed   bool
}

// New makes a Hub whose first event has the id first.
func New(first uint64) *Hub {
	return &Hub{next: first, watchers: map[*Watcher]struct{}{}}
}

// Watcher receives events.
type Watcher struct {
	// C delivers them. It is closed when the watcher is too slow, or nothing
	// more will come; it can then watch again from the last event it has seen.
	C <-chan client.Event

	c       chan client.Event
	request string
}

// Publish numbers the events and hands them out. It never waits.
func (h *Hub) Publish(events []client.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		e.ID = h.next
		h.next++
		h.ring = append(h.ring, e)
		for w := range h.watchers {
			if !w.wants(e) {
				continue
			}
			select {
			case w.c <- e:
			default: // too slow: it comes back and reads on from the ring
				h.remove(w)
			}
		}
	}
	if extra := len(h.ring) - ringSize; extra > ringSize/4 {
		h.ring = append([]client.Event(nil), h.ring[extra:]...)
	}
}

// Watch returns what is kept of the events after since, and a watcher for those
// that follow; of one request or, with "", of all. With since 0 there is
// nothing to return. The caller must Leave.
func (h *Hub) Watch(request string, since uint64) ([]client.Event, *Watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan client.Event, queueSize)
	w := &Watcher{C: c, c: c, request: request}
	if h.closed {
		close(c)
		return nil, w
	}
	h.watchers[w] = struct{}{}
	var replay []client.Event
	for _, e := range h.ring {
		if since > 0 && e.ID > since && w.wants(e) {
			replay = append(replay, e)
		}
	}
	return replay, w
}

// Leave ends a watcher.
func (h *Hub) Leave(w *Watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(w)
}

// Close ends all watchers; there will be no more events.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		h.remove(w)
	}
}

func (h *Hub) remove(w *Watcher) {
	if _, ok := h.watchers[w]; ok {
		delete(h.watchers, w)
		close(w.c)
	}
}

func (w *Watcher) wants(e client.Event) bool {
	return w.request == "" || w.request == e.Request
}
