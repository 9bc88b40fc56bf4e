package elect_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake/goavail/elect"
	"github.com/pancake-stack/pancake/internal/testkit"
)

// hall is where places hear each other, unless they are cut off.
type hall struct {
	mu     sync.Mutex
	places map[string]*elect.Quorum
	cut    map[string]bool
	disks  map[string]elect.Promise
	broken map[string]bool // disks
	mute   map[string]bool // not eligible
}

func (h *hall) send(from, to string, body []byte) {
	h.mu.Lock()
	q := h.places[to]
	lost := from != to && (h.cut[from] || h.cut[to])
	h.mu.Unlock()
	if q == nil || lost {
		return
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = q.Receive(from, body) })
}

func (h *hall) start(t *testing.T, name string, all []string) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.places[name] = elect.NewQuorum(elect.Config{
		Place: name, Places: all, Lease: 10 * time.Second, Promise: h.disks[name],
		Keep: func(p elect.Promise) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.broken[name] {
				return errors.New("disk full")
			}
			h.disks[name] = p
			return nil
		},
		Broadcast: func(b []byte) {
			for _, to := range all {
				if to != name {
					h.send(name, to, b)
				}
			}
		},
		Send:     func(to string, b []byte) { h.send(name, to, b) },
		Eligible: func() bool { h.mu.Lock(); defer h.mu.Unlock(); return !h.mute[name] },
	})
	q := h.places[name]
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	return func() {
		cancel()
		<-done
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.places, name)
	}
}

// writers lists who thinks that it writes.
func (h *hall) writers() (out []string) {
	h.mu.Lock()
	places := maps.Clone(h.places)
	h.mu.Unlock()
	for name, q := range places {
		if !q.Leader().Until.IsZero() {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hall{places: map[string]*elect.Quorum{}, cut: map[string]bool{}, disks: map[string]elect.Promise{}, broken: map[string]bool{}, mute: map[string]bool{}}
		all := []string{"a", "b", "c", "d", "e"}
		stops := map[string]func(){}
		for _, name := range all {
			stops[name] = h.start(t, name, all)
		}
		// one waits until there is exactly one writer, and sees to it that there are never two.
		one := func(what string, not ...string) string {
			t.Helper()
			for range 600 {
				time.Sleep(100 * time.Millisecond)
				w := h.writers()
				if len(w) > 1 {
					t.Fatalf("%s: %v all write", what, w)
				}
				if len(w) == 1 && !slices.Contains(not, w[0]) {
					return w[0]
				}
			}
			t.Fatalf("%s: nobody writes after a minute", what)
			return ""
		}
		first := one("at the start")
		time.Sleep(5 * time.Minute)
		if got := one("later"); got != first {
			t.Errorf("%s took over from %s for no reason", got, first)
		}
		if l, err := h.places[first].Confirm(t.Context()); err != nil || l.Epoch == 0 || time.Until(l.Until) < 7*time.Second {
			t.Errorf("%+v, %v", l, err)
		}
		agree := func(writer string) {
			t.Helper()
			for _, name := range all {
				if l := h.places[name].Leader(); l.Place != writer || l.Epoch != h.places[writer].Leader().Epoch {
					t.Errorf("%s believes that %q writes, not %s (%+v)", name, l.Place, writer, l)
				}
			}
		}
		agree(first)
		epoch := h.places[first].Leader().Epoch

		h.mu.Lock()
		h.cut[first] = true
		h.mu.Unlock()
		confirm, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := h.places[first].Confirm(confirm); err == nil {
			t.Error("confirmed without a majority")
		}
		cancel()
		second := one("the writer is cut off", first)
		if h.places[second].Leader().Epoch <= epoch {
			t.Error("the epoch did not grow")
		}
		time.Sleep(time.Minute) // in which it campaigns in vain, so that its term is beyond the writer's
		h.mu.Lock()
		h.cut[first] = false
		h.mu.Unlock()
		time.Sleep(time.Minute)
		if got := one("all are back"); got != second {
			t.Errorf("%s took over from %s for no reason", got, second)
		}
		agree(second)

		// It steps down, and another takes over at once.
		now := one("before resigning")
		h.places[now].Resign(time.Minute)
		begun := time.Now()
		one("after resigning", now)
		if d := time.Since(begun); d > 9*time.Second {
			t.Errorf("took %s to replace a writer that resigned", d)
		}

		// Two of five elect nobody.
		rest := all[2:]
		for _, name := range rest {
			stops[name]()
		}
		time.Sleep(time.Minute)
		if w := h.writers(); len(w) != 0 {
			t.Errorf("%v writes with two of five", w)
		}
		// A third comes back, but cannot keep its promises; nor does a fourth want to write.
		h.mu.Lock()
		h.broken["c"] = true
		h.mu.Unlock()
		stops["c"] = h.start(t, "c", all)
		time.Sleep(time.Minute)
		if w := h.writers(); len(w) != 0 {
			t.Errorf("%v writes on the word of a place that cannot remember", w)
		}
		h.mu.Lock()
		h.broken["c"] = false
		h.mute["a"], h.mute["b"] = true, true
		h.mu.Unlock()
		if got := one("two do not want to"); got != "c" {
			t.Errorf("%s writes though it does not want to", got)
		}
		for _, name := range []string{"a", "b", "c"} {
			stops[name]()
		}
	})
}

func TestReceiveRefuses(t *testing.T) {
	q := elect.NewQuorum(elect.Config{Place: "a", Places: []string{"a"}, Keep: func(elect.Promise) error { return nil }, Broadcast: func([]byte) {}, Send: func(string, []byte) {}})
	for _, body := range []string{"", "{", "[]", fmt.Sprintf("%02000d", 0)} {
		if err := q.Receive("b", []byte(body)); err == nil {
			t.Errorf("%.20q was taken", body)
		}
	}
	if err := q.Receive("b", []byte("{}")); err != nil {
		t.Error(err)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"ask":{"Term":1,"From":"b","Round":1}}`))
	f.Add([]byte(`{"reply":{"Term":1,"Round":1,"Granted":true}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q := elect.NewQuorum(elect.Config{Place: "a", Places: []string{"a", "b", "c"}, Keep: func(elect.Promise) error { return nil }, Broadcast: func([]byte) {}, Send: func(string, []byte) {}})
		_ = q.Receive("b", b)
		if !q.Leader().Until.IsZero() {
			t.Fatal("one message made it the writer")
		}
	})
}

func TestEtcd(t *testing.T) {
	client := testkit.Etcd(t)
	var muted atomic.Bool
	var cut atomic.Value // a place
	cut.Store("")
	start := func(place string) (*elect.Etcd, func()) {
		e := elect.NewEtcd(elect.EtcdConfig{Place: place, Client: client, Key: "/test/writer", Lease: 5 * time.Second, Eligible: func() bool { return place != cut.Load() && (place != "c" || !muted.Load()) }})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		return e, sync.OnceFunc(func() { cancel(); <-done })
	}
	await := func(what string, fn func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if fn() {
				return
			}
		}
		t.Fatal("never happened: " + what)
	}
	leads := func(e *elect.Etcd) bool { return !e.Leader().Until.IsZero() }
	a, stopA := start("a")
	defer stopA()
	await("a writes", func() bool { return leads(a) })
	b, stopB := start("b")
	defer stopB()
	await("b knows", func() bool { return b.Leader().Place == "a" })
	l, err := a.Confirm(t.Context())
	if err != nil || l.Epoch != b.Leader().Epoch || time.Until(l.Until) <= 0 {
		t.Errorf("%+v, %v; b knows of %+v", l, err, b.Leader())
	}
	if _, err := b.Confirm(t.Context()); err == nil {
		t.Error("b confirms what it is not")
	}
	// One that reaches etcd but not the other places is in nobody's way.
	cut.Store("a")
	await("b takes over", func() bool { return leads(b) })
	a.Resign(time.Hour)
	cut.Store("")
	if leads(a) || b.Leader().Epoch <= l.Epoch {
		t.Errorf("a: %+v, b: %+v", a.Leader(), b.Leader())
	}
	// Somebody removes the key: b notices before it writes.
	if _, err := client.Delete(t.Context(), "/test/writer"); err != nil {
		t.Fatal(err)
	}
	await("b notices", func() bool { _, err := b.Confirm(t.Context()); return err != nil || b.Leader().Epoch > l.Epoch+1 })
	await("b writes again", func() bool { return leads(b) })
	stopB()
	stopA()
	// A restarted agent finds its own key and need not wait for it to expire.
	if _, err := client.Put(t.Context(), "/test/writer", "c"); err != nil {
		t.Fatal(err)
	}
	muted.Store(true)
	c, stopC := start("c")
	defer stopC()
	time.Sleep(time.Second)
	if leads(c) {
		t.Error("c writes though it does not want to")
	}
	muted.Store(false)
	await("c writes", func() bool { return leads(c) })
}
