package bridge

import (
	"context"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// Ours is the Pancake Sidecar that the bridge works for.
type Ours interface {
	// Watch calls fn with the catalogue at once and after every change, until ctx
	// ends. What wakes no watcher, such as a new member, is shown within ten seconds.
	// It never returns nil.
	Watch(ctx context.Context, fn func(*catalog.Snapshot)) error
	// Members lists the cluster, its own host and the dead included.
	Members() []client.Member
	// Mirror takes records of hosts that are no members, repetitions included:
	// merges them into the catalogue and tells the other members, to whom they live
	// for 80 s after the last call.
	Mirror(ctx context.Context, records []pancake.Service)
}

// lookEvery is how often a Local shows its catalogue though it was not woken.
const lookEvery = 5 * time.Second

// Local is the Sidecar in whose process the bridge runs. All fields are required.
type Local struct {
	State *feed.Feed[*catalog.Snapshot]
	Peers func() []client.Member
	Merge func(ctx context.Context, records []pancake.Service)
}

// Watch calls fn with the catalogue.
func (l Local) Watch(ctx context.Context, fn func(*catalog.Snapshot)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		snap, changed := l.State.Get()
		fn(snap)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
		}
	}
}

// Members lists the cluster.
func (l Local) Members() []client.Member { return l.Peers() }

// Mirror merges records.
func (l Local) Mirror(ctx context.Context, records []pancake.Service) { l.Merge(ctx, records) }
