// Package feed shows the latest value of something to any number of watchers.
package feed

import "sync"

// Feed holds the latest value. A watcher that is slow misses values in between
// and never the last; it holds up nobody. It is safe for concurrent use.
type Feed[T any] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{}
}

// New makes a Feed that shows v.
func New[T any](v T) *Feed[T] {
	return &Feed[T]{value: v, changed: make(chan struct{})}
}

// Set shows v and wakes the watchers.
func (f *Feed[T]) Set(v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value = v
	close(f.changed)
	f.changed = make(chan struct{})
}

// Replace shows v to whoever looks next, and wakes nobody.
func (f *Feed[T]) Replace(v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value = v
}

// Get returns the value and a channel that is closed by the next Set.
func (f *Feed[T]) Get() (T, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value, f.changed
}
