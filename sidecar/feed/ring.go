package feed

import "sync"

// Ring keeps the last values of a sequence and shows them in order to any number
// of readers. Each reader remembers its own position, so that none holds up
// another, or the writer: one that falls too far behind is told that it missed
// some. It is safe for concurrent use.
type Ring[T any] struct {
	mu      sync.Mutex
	values  []T    // the value with number n is at n % len(values)
	next    uint64 // the number of the next value; the first is 1
	changed chan struct{}
}

// NewRing makes a Ring that keeps size values; 1 at least.
func NewRing[T any](size int) *Ring[T] {
	return &Ring[T]{values: make([]T, max(size, 1)), next: 1, changed: make(chan struct{})}
}

// Page is what follows a position.
type Page[T any] struct {
	Values []T
	// Last is the number of the last value there is: the next position to ask for.
	Last uint64
	// Lost says that values behind the position are gone, or that it is not one of
	// this ring; Values is empty then.
	Lost bool
	// Changed is closed when there is more.
	Changed <-chan struct{}
}

// Add appends values and wakes the readers.
func (r *Ring[T]) Add(values ...T) {
	if len(values) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		r.values[r.next%uint64(len(r.values))] = v
		r.next++
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// After returns what has been added since the value with the given number, in
// order; 0 is the beginning.
func (r *Ring[T]) After(position uint64) Page[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	page := Page[T]{Last: r.next - 1, Changed: r.changed}
	size := uint64(len(r.values))
	if position > page.Last || page.Last-position > size {
		page.Lost = true
		return page
	}
	page.Values = make([]T, 0, page.Last-position)
	for n := position + 1; n <= page.Last; n++ {
		page.Values = append(page.Values, r.values[n%size])
	}
	return page
}

// Last is the number of the last value, 0 if there was none.
func (r *Ring[T]) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1
}
