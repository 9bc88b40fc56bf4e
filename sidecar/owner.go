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
	// warnEvery is how often a cause is complained about again, maxWarned how many
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
	warned  map[string]time.Time // by reason and host
	now     func() time.Time
}

func newOwner(c *catalog.Catalog, log *slog.Logger) *owner {
	return &owner{
		log: log, catalog: c, events: make(chan event, 1024), state: feed.New(c.Snapshot()),
		complete: make(chan struct{}), publish: func([]catalog.Change) {}, refused: func(catalog.Reason) {}, warned: map[string]time.Time{}, now: time.Now,
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
			changes = o.catalog.Sweep(o.now())
		case e := <-o.events:
			changes = e(o.catalog, o.now())
			for range min(len(o.events), maxBatch) {
				changes = append(changes, (<-o.events)(o.catalog, o.now())...)
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
		if o.catalog.Outdated() {
			o.state.Replace(o.catalog.Snapshot())
		}
		return
	}
	snap, notable := o.catalog.Snapshot(), false
	for _, c := range changes {
		notable = notable || !c.Refresh && (!c.Local || c.Status())
		level := slog.LevelDebug
		if c.Service.Hostname == snap.Self {
			level = slog.LevelInfo
		}
		if c.Status() && o.log.Enabled(ctx, level) {
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

// Snapshot, Merge, HostJoined, HostGone and Heard make an owner what gossip works for.

// Snapshot returns the catalogue as it was after the last event.
func (o *owner) Snapshot() *catalog.Snapshot {
	snap, _ := o.state.Get()
	return snap
}

// Merge takes records of a peer; from is its name, "" if that is not known.
func (o *owner) Merge(ctx context.Context, from string, records []pancake.Service) {
	o.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes, refused := c.Merge(records, now)
		o.complain(ctx, from, refused, now)
		return changes
	})
}

// Mirror takes records of hosts of another cluster, for which this Sidecar speaks
// from now on, as a bridge: it is to be called with each record that is heard there,
// refreshes included. A host of which nothing is heard any more expires everywhere.
func (o *owner) Mirror(ctx context.Context, records []pancake.Service) {
	o.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes, refused := c.Mirror(records, now)
		o.complain(ctx, "bridge", refused, now)
		return changes
	})
}

// complaint is what is said of records that were not taken, by reason.
var complaints = map[catalog.Reason]string{
	catalog.RefusedInvalid: "a peer sent records that cannot be; run the same release on all nodes",
	catalog.RefusedAhead:   "a host's clock is more than a day ahead of ours; its services are not taken until the clocks agree",
	catalog.RefusedFull:    "the catalogue is full; services are missing in it",
	catalog.RefusedMember:  "a bridge speaks for a host that is a member itself; its words are ignored",
	catalog.RefusedLie:     "a peer believed something wrong of a service of this host; it was told what is true",
}

// complain counts the records that were not taken, and logs each cause and host
// once in warnEvery.
func (o *owner) complain(ctx context.Context, from string, refused []catalog.Refusal, now time.Time) {
	for _, r := range refused {
		o.refused(r.Reason)
		text, cause := complaints[r.Reason], string(r.Reason)+" "+r.Host
		if text == "" || now.Sub(o.warned[cause]) <= warnEvery {
			continue
		}
		if len(o.warned) >= maxWarned {
			clear(o.warned)
		}
		o.warned[cause] = now
		o.log.LogAttrs(ctx, slog.LevelWarn, "records of a peer were not taken",
			slog.String("why", text), slog.String("reason", string(r.Reason)), slog.String("host", r.Host), slog.String("id", r.ID), slog.String("from", from))
	}
}

// HostJoined says that a peer is a member.
func (o *owner) HostJoined(ctx context.Context, host string) {
	o.do(ctx, func(c *catalog.Catalog, _ time.Time) []catalog.Change {
		c.HostJoined(host)
		return nil
	})
}

// HostGone ends the services of a peer that has left or is dead.
func (o *owner) HostGone(ctx context.Context, host string) {
	o.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		return c.HostGone(host, now)
	})
}

// Heard takes the word of a bridge for a host.
func (o *owner) Heard(ctx context.Context, host string, digest uint64) {
	o.do(ctx, func(c *catalog.Catalog, now time.Time) []catalog.Change {
		changes, _ := c.Heard(host, digest, now)
		return changes
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
