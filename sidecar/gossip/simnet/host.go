package simnet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/gossip"
)

// Host is a catalogue that gossips: the smallest possible Sidecar.
type Host struct {
	Name string
	// Wire is its part of the network, if it is on one of ours.
	Wire *Transport
	*gossip.Gossip
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex
	c       *catalog.Catalog
	snap    *catalog.Snapshot
	skew    time.Duration
	gone    int64 // how often a member was said to be gone
	refused map[catalog.Reason]int
}

// sweepEvery is the Sidecar's.
const sweepEvery = 2 * time.Second

// Begin starts a host, whose Name and Cluster are set if change does not.
func Begin(name string, skew time.Duration, change func(*gossip.Config)) (*Host, error) {
	h := &Host{Name: name, c: catalog.New(name, "c"), skew: skew, done: make(chan error, 1), refused: map[catalog.Reason]int{}}
	h.snap = h.c.Snapshot()
	cfg := gossip.Config{Name: name, Cluster: "default", Owner: h}
	change(&cfg)
	if w, ok := cfg.Transport.(*Transport); ok {
		h.Wire = w
	}
	g, err := gossip.New(cfg)
	if err != nil {
		return nil, err
	}
	h.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() { h.done <- g.Run(ctx) }()
	go func() {
		t := time.NewTicker(sweepEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.Sweep(now) })
			}
		}
	}()
	return h, nil
}

// Stop ends the host and waits until it has. Only the first call may.
func (h *Host) Stop() error {
	h.cancel()
	if err := <-h.done; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: Run returned %w", h.Name, err)
	}
	return nil
}

// Kill has the host end, and does not wait for it.
func (h *Host) Kill() { h.cancel() }

// Change changes the catalogue and tells the peers.
func (h *Host) Change(fn func(c *catalog.Catalog, now time.Time) []catalog.Change) {
	h.mu.Lock()
	changes := fn(h.c, time.Now().Add(h.skew))
	if h.c.Outdated() {
		h.snap = h.c.Snapshot()
	}
	h.mu.Unlock()
	if len(changes) > 0 {
		h.Publish(changes)
	}
}

// SetClock sets how much the host's clock is off.
func (h *Host) SetClock(skew time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skew = skew
}

// Snapshot is gossip's.
func (h *Host) Snapshot() *catalog.Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.snap
}

// Refused counts the records that were not taken for a reason.
func (h *Host) Refused(r catalog.Reason) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused[r]
}

// Merge is gossip's.
func (h *Host) Merge(_ context.Context, _ string, records []pancake.Service) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes, refused := c.Merge(records, now)
		for _, r := range refused {
			h.refused[r.Reason]++
		}
		return changes
	})
}

// Gone is how often gossip has said that a host is gone.
func (h *Host) Gone() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone
}

// HostJoined is gossip's.
func (h *Host) HostJoined(_ context.Context, name string) {
	h.Change(func(c *catalog.Catalog, _ time.Time) []catalog.Change { c.HostJoined(name); return nil })
}

// HostGone is gossip's.
func (h *Host) HostGone(_ context.Context, name string) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change {
		h.gone++
		return c.HostGone(name, now)
	})
}

// Heard is gossip's.
func (h *Host) Heard(_ context.Context, name string, digest uint64) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes, _ := c.Heard(name, digest, now)
		return changes
	})
}

// Mirror is a bridge's.
func (h *Host) Mirror(records []pancake.Service) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes, _ := c.Mirror(records, now)
		return changes
	})
}

// Start makes a service of the host alive.
func (h *Host) Start(id string, labels map[string]string) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes := c.Discover(pancake.Service{
			ID: id, Name: "x", Image: "registry.example/x:1", ProxyMode: "http", Labels: labels, Created: now.UTC(),
			Ports: []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 80, IP: "10.0.0.1"}},
		}, now)
		return append(changes, c.SetStatus(id, pancake.Alive, "", now)...)
	})
}

// Settle says that all services of the host are known.
func (h *Host) Settle() {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.Settle(now) })
}

// Check sets a service's status.
func (h *Host) Check(id string, s pancake.ServiceStatus) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.SetStatus(id, s, "", now) })
}

// Drain drains a service.
func (h *Host) Drain(id string) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change {
		_, changes, _ := c.Drain(id, now) // it may not run
		return changes
	})
}

// End ends a service.
func (h *Host) End(id string) {
	h.Change(func(c *catalog.Catalog, now time.Time) []catalog.Change { return c.Remove(id, now) })
}

// Sees returns the status of a service, "not known" if it is not.
func (h *Host) Sees(name, id string) string {
	if on := h.Snapshot().Hosts[name]; on != nil && on.Services[id] != nil {
		return on.Services[id].Status.String()
	}
	return "not known"
}

// Alive counts the members that are alive, itself included.
func (h *Host) Alive() (n int) {
	for _, m := range h.Members() {
		if m.State == client.MemberAlive {
			n++
		}
	}
	return n
}
