package events

import (
	"slices"
	"testing"

	"github.com/pancake-stack/pancake/scheduler/client"
)

func publish(h *Hub, request string, n int) {
	for range n {
		h.Publish([]client.Event{{Request: request}})
	}
}

func drain(w *Watcher) (ids []uint64, closed bool) {
	for {
		select {
		case e, ok := <-w.C:
			if !ok {
				return ids, true
			}
			ids = append(ids, e.ID)
		default:
			return ids, false
		}
	}
}

func TestWatch(t *testing.T) {
	h := New(100)
	publish(h, "a", 3)
	replay, w := h.Watch("", 100)
	publish(h, "b", 1)
	if len(replay) != 2 || replay[0].ID != 101 {
		t.Errorf("replayed %v", replay)
	}
	if ids, closed := drain(w); !slices.Equal(ids, []uint64{103}) || closed {
		t.Errorf("got %v, closed %t", ids, closed)
	}
	replay, only := h.Watch("a", 0)
	publish(h, "a", 1)
	publish(h, "b", 1)
	if ids, _ := drain(only); !slices.Equal(ids, []uint64{104}) || len(replay) != 0 {
		t.Errorf("got %v and %v", replay, ids)
	}
	h.Leave(only)
	h.Leave(only)
	h.Close()
	if _, closed := drain(w); !closed {
		t.Error("Close must end the watchers")
	}
	if _, late := h.Watch("", 0); late != nil {
		if _, closed := drain(late); !closed {
			t.Error("who comes after Close must be told")
		}
	}
}

func TestSlowWatcherIsCutOffAndResumes(t *testing.T) {
	h := New(1)
	_, slow := h.Watch("", 0)
	publish(h, "a", queueSize+10)
	ids, closed := drain(slow)
	if !closed || len(ids) != queueSize {
		t.Fatalf("%d events, closed %t", len(ids), closed)
	}
	replay, _ := h.Watch("", ids[len(ids)-1])
	if len(replay) != 10 || replay[0].ID != queueSize+1 {
		t.Errorf("replayed %d", len(replay))
	}
}

func TestRingIsBounded(t *testing.T) {
	h := New(1)
	publish(h, "a", 3*ringSize)
	replay, _ := h.Watch("", 1)
	if n := len(replay); n < ringSize || n > ringSize*5/4 || replay[n-1].ID != 3*ringSize {
		t.Errorf("%d replayed, the last %d", n, replay[n-1].ID)
	}
}
