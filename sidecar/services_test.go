package sidecar

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/discover"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// host is an owner and the services that it has, without a network.
type host struct {
	t   *testing.T
	ctx context.Context
	*services
	log *bytes.Buffer
}

func newHost(t *testing.T) *host {
	buf := &bytes.Buffer{}
	log := slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelError}))
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	o := newOwner(catalog.New("here", "default"), slog.New(slog.DiscardHandler))
	group.Go(func() error { return o.own(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = group.Wait() // of the context
	})
	return &host{t: t, ctx: ctx, services: newServices(o, health.New(health.Config{}), group, log), log: buf}
}

func found(id, name, check string) discover.Found {
	return discover.Found{Service: pancake.Service{ID: id, Name: name}, Check: health.Spec{Type: check}}
}

// see waits until the catalogue says this of a service: its name and status.
func (h *host) see(id, want string) {
	h.t.Helper()
	got := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if here := h.owner.Snapshot().Hosts["here"]; here != nil && here.Services[id] != nil {
			s := here.Services[id]
			if got = strings.TrimSpace(fmt.Sprint(s.Name, " ", s.Status, " ", s.Note)); got == want {
				return
			}
		}
	}
	h.t.Fatalf("%s is %q, want %q", id, got, want)
}

func (h *host) complete() bool {
	h.owner.flush(h.ctx)
	select {
	case <-h.owner.complete:
		return true
	default:
		return false
	}
}

func TestSourcesLeaveEachOtherAlone(t *testing.T) {
	h := newHost(t)
	docker, static := h.source("docker"), h.source("static")
	docker.Up(h.ctx, found("a", "container", "AlwaysSuccessful"))
	static.Up(h.ctx, found("b", "entry", "AlwaysSuccessful"))
	docker.Settled(h.ctx)
	docker.Settled(h.ctx)
	if h.complete() {
		t.Error("settled while one source has not")
	}
	static.Settled(h.ctx)
	h.see("a", "container Alive")
	h.see("b", "entry Alive")
	if !h.complete() {
		t.Error("not settled though all sources have")
	}

	static.Up(h.ctx, found("a", "impostor", "AlwaysSuccessful"))
	static.Up(h.ctx, found("a", "impostor", "AlwaysSuccessful"))
	static.Status(h.ctx, "a", pancake.Sick, "no")
	docker.Gone(h.ctx, "b")
	h.owner.flush(h.ctx)
	h.see("a", "container Alive")
	h.see("b", "entry Alive")
	if n := strings.Count(h.log.String(), "two sources of discovery"); n != 1 {
		t.Errorf("logged %d times: %s", n, h.log)
	}
	if !static.taken("a") || docker.taken("a") || static.taken("c") {
		t.Error("it is not known whose a is")
	}
	docker.Gone(h.ctx, "a")
	h.see("a", "impostor Alive")
	static.Gone(h.ctx, "a")
	h.see("a", "impostor Tombstone")
}

func TestSourcesThatKnow(t *testing.T) {
	h := newHost(t)
	docker, registry := h.source("docker"), h.source("registry")
	docker.Settled(h.ctx)
	registry.Settled(h.ctx)
	docker.Up(h.ctx, found("a", "x", "Docker"))
	h.see("a", "x Unhealthy")
	docker.Status(h.ctx, "a", pancake.Alive, "")
	h.see("a", "x Alive")
	docker.Status(h.ctx, "a", pancake.Sick, "why")
	h.see("a", "x Unhealthy why")
	registry.Up(h.ctx, found("a", "y", "Ttl"))
	registry.Status(h.ctx, "a", pancake.Alive, "")
	h.owner.flush(h.ctx)
	h.see("a", "x Unhealthy why")
	docker.Gone(h.ctx, "a")
	h.see("a", "y Alive")

	docker.Up(h.ctx, found("b", "x", "AlwaysSuccessful"))
	h.see("b", "x Alive")
	docker.Status(h.ctx, "b", pancake.Sick, "it is not asked")
	h.owner.flush(h.ctx)
	h.see("b", "x Alive")
}

func TestListeners(t *testing.T) {
	h := newHost(t)
	docker := h.source("docker")
	f := found("a", "x", "AlwaysSuccessful")
	f.Listener = "http://127.0.0.1:1/sidecar/update"
	_, changed := h.listeners.Get()
	docker.Up(h.ctx, f)
	<-changed
	if urls, _ := h.listeners.Get(); fmt.Sprint(urls) != "map[a:"+f.Listener+"]" {
		t.Errorf("%v", urls)
	}
	docker.Gone(h.ctx, "a")
	if urls, _ := h.listeners.Get(); len(urls) != 0 {
		t.Errorf("%v", urls)
	}
}

// TestSourcesAtOnce has many sources tell of many services, some under the same IDs.
func TestSourcesAtOnce(t *testing.T) {
	h := newHost(t)
	var wg sync.WaitGroup
	var sinks []*source
	for i := range 8 {
		sinks = append(sinks, h.source(fmt.Sprint(i)))
	}
	for i, s := range sinks {
		wg.Go(func() {
			for round := range 50 {
				id := fmt.Sprint(round % 10)
				s.Up(h.ctx, found(id, fmt.Sprint("n", i), "AlwaysSuccessful"))
				s.Gone(h.ctx, id)
			}
			s.Up(h.ctx, found(fmt.Sprint("own", i), "own", "AlwaysSuccessful"))
			s.Settled(h.ctx)
		})
	}
	wg.Wait()
	for i := range 8 {
		h.see(fmt.Sprint("own", i), "own Alive")
	}
	if !h.complete() {
		t.Error("not settled")
	}
	for id := range 10 {
		if h.running[fmt.Sprint(id)] != nil {
			t.Errorf("%d is still announced", id)
		}
	}
}
