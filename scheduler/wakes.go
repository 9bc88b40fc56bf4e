package scheduler

import (
	"container/heap"
	"time"
)

// wakes says when to look at which request again.
type wakes struct {
	heap     wakeHeap
	earliest map[string]time.Time // by request; later times need no entry of their own
}

type wake struct {
	at      time.Time
	request string
}

// add notes a time; zero means never.
func (w *wakes) add(at time.Time, request string) {
	if e, ok := w.earliest[request]; at.IsZero() || ok && !at.Before(e) {
		return // whoever looks then will say when to look again
	}
	w.earliest[request] = at
	heap.Push(&w.heap, wake{at, request})
}

// next is the earliest time, if there is one.
func (w *wakes) next() (time.Time, bool) {
	if len(w.heap) == 0 {
		return time.Time{}, false
	}
	return w.heap[0].at, true
}

// due removes and returns the requests whose time has come.
func (w *wakes) due(now time.Time) []string {
	var out []string
	for len(w.heap) > 0 && !w.heap[0].at.After(now) {
		id := heap.Pop(&w.heap).(wake).request
		delete(w.earliest, id)
		out = append(out, id)
	}
	return out
}

type wakeHeap []wake

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)        { *h = append(*h, x.(wake)) }
func (h *wakeHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
