package cloud

import (
	"slices"
	"sync"
	"time"
)

// keep is how long old values are remembered: more than any lag.
const keep = 2 * time.Minute

// History is a value with its past, for answers that lag behind writes. Values
// must not be changed once they are in it.
type History[T any] struct {
	mu   sync.Mutex
	past []version[T]
}

type version[T any] struct {
	at    time.Time
	value T
}

// Set makes v the value from now on.
func (h *History[T]) Set(v T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	old := slices.IndexFunc(h.past, func(p version[T]) bool { return now.Sub(p.at) < keep })
	if old > 1 {
		h.past = slices.Delete(h.past, 0, old-1) // the last before it still counts
	}
	h.past = append(h.past, version[T]{now, v})
}

// Before returns the value as it was a while ago, or the first that there was.
func (h *History[T]) Before(ago time.Duration) T {
	h.mu.Lock()
	defer h.mu.Unlock()
	then := time.Now().Add(-ago)
	for _, p := range slices.Backward(h.past) {
		if !p.at.After(then) {
			return p.value
		}
	}
	var none T
	if len(h.past) > 0 {
		none = h.past[0].value
	}
	return none
}
