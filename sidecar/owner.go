package sidecar

import (
	"context"
	"log/slog"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

const (
	// sweepEvery is how often what is due by time is done: Sidecar's tombstone sweep.
	sweepEvery = 2 * time.Second
	// maxBatch bounds how many events share one snapshot.
	maxBatch = 256
	// warnEvery is how often a host is complained about again, maxWarned how many
	// are remembered for that: names come from the network.
	warnEvery = time.Hour
	maxWarned = 1000
)

// event changes the catalogue. It runs on the owner's goroutine and must not block.
type event func(c *catalog.Catalog, now time.Time) []catalog.Change

// owner owns the catalogue: all changes go through its one goroutine.
type owner struct {
	log     *slog.Logger
	catalog *catalog.Catalog
	events  chan event
	state   *feed.Feed[*catalog.Snapshot]
	publish func([]catalog.Change)
	// complete is closed when all of this host is known.
	complete  chan struct{}
	completed bool
	// refused counts records of peers that were not taken, by reason.
	refused func(catalog.Reason)
	warned  map[string]time.Time // by host
}

func newOwner(c *catalog.Catalog, log *slog.Logger) *owner {
	return &owner{
		log: log, catalog: c, events: make(chan event, 1024), state: feed.New(c.Snapshot()),
		complete: make(chan struct{}), publish: func([]catalog.Change) {}, refused: func(catalog.Reason) {}, warned: map[string]time.Time{},
	}
}

// own applies events until ctx ends. Those that are waiting share one snapshot.
func (o *owner) own(ctx context.Context) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		var changes []catalog.Change
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sweep.C:
			changes = o.catalog.Sweep(time.Now())
		case e := <-o.events:
			changes = e(o.catalog, time.Now())
			for range min(len(o.events), maxBatch) {
				changes = append(changes, (<-o.events)(o.catalog, time.Now())...)
			}
		}
		o.show(ctx, changes)
		if !o.completed && o.catalog.Complete() {
			o.completed = true
			close(o.complete)
		}
	}
}

// show hands on what has changed: to the peers, and to all who watch, unless
// it is only repetitions.
func (o *owner) show(ctx context.Context, changes []catalog.Change) {
	if len(changes) == 0 {
		return
	}
	snap, notable := o.catalog.Snapshot(), false
	for _, c := range changes {
		notable = notable || !c.Refresh
		if c.Status() {
			level := slog.LevelDebug
			if c.Service.Hostname == snap.Self {
				level = slog.LevelInfo
			}
			o.log.Log(ctx, level, "service changed", "service", c.Service.Name, "id", c.Service.ID, "host", c.Service.Hostname,
				"status", c.Service.Status, "new", c.New, "before", c.Before, "note", c.Service.Note)
		}
	}
	if notable {
		o.state.Set(snap)
	} else {
		o.state.Replace(snap)
	}
	o.publish(changes)
}

// do hands an event to the owner, unless ctx has ended.
func (o *owner) do(ctx context.Context, e event) {
	select {
	case o.events <- e:
	case <-ctx.Done():
	}
}

// flush returns when all events that were handed over before it are applied
// and shown, or ctx ends.
func (o *owner) flush(ctx context.Context) {
	for range 2 { // the second is in a later batch than the first, which has been shown by then
		done := make(chan struct{})
		o.do(ctx, func(*catalog.Catalog, time.Time) []catalog.Change {
			close(done)
			return nil
		})
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// Snapshot, Merge and HostGone make an owner what gossip works for.

// Snapshot returns the catalogue as it was after the last event.
func (o *owner) Snapshot() *catalog.Snapshot {
	snap, _ := o.state.Get()
	return snap
}

// Merge takes records of a peer.
func (o *owner) Merge(ctx context.Context, records []pancake.Service) {
	o.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes, refused := c.Merge(records, now)
		for _, r := range refused {
			o.refused(r.Reason)
			if r.Reason == catalog.RefusedAhead && now.Sub(o.warned[r.Host]) > warnEvery {
				if len(o.warned) >= maxWarned {
					clear(o.warned)
				}
				o.warned[r.Host] = now
				o.log.WarnContext(ctx, "a host's clock is ahead of ours; its services are not taken until the clocks agree",
					"host", r.Host, "allowed", catalog.MaxAhead)
			}
		}
		return changes
	})
}

// HostGone ends the services of a peer that has left or is dead.
func (o *owner) HostGone(ctx context.Context, host string) {
	o.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		delete(o.warned, host)
		return c.HostGone(host, now)
	})
}

// drain takes a service of this host out of traffic and returns once it is.
func (o *owner) drain(ctx context.Context, id string) (pancake.Service, error) {
	type answer struct {
		svc pancake.Service
		err error
	}
	done := make(chan answer, 1)
	o.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		svc, changes, err := c.Drain(id, now)
		done <- answer{svc, err}
		return changes
	})
	select {
	case a := <-done:
		return a.svc, a.err
	case <-ctx.Done():
		return pancake.Service{}, ctx.Err()
	}
}
