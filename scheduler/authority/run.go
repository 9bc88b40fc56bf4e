package authority

import (
	"cmp"
	"context"
	"io"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// How often things are looked after.
const (
	tendEvery  = time.Minute      // rotations that are due
	sweepEvery = 10 * time.Minute // what ended
)

// Run follows what other schedulers change, advances rotations that are due and
// sweeps what ended, until ctx ends. While etcd does not answer, what was known
// last stays in force.
func (a *Authority) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.follow(ctx) })
	g.Go(func() error { return a.every(ctx, tendEvery, "advance rotations", a.tend) })
	g.Go(func() error {
		return a.every(ctx, sweepEvery, "sweep what ended", a.sweep)
	})
	return g.Wait()
}

func (a *Authority) every(ctx context.Context, pause time.Duration, what string, fn func(context.Context) error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "upkeep of the authority failed; it is tried again", "what", what, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// follow watches etcd, and begins anew when the watch breaks.
func (a *Authority) follow(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 10*time.Second
	for {
		err := a.watch(ctx, pause.Reset)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.WarnContext(ctx, "changes of the CA not seen", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause.NextBackOff()):
		}
	}
}

// watch reads everything after each change, until that fails.
func (a *Authority) watch(ctx context.Context, worked func()) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	ca := a.client.Watch(ctx, caKey)
	gone := a.client.Watch(ctx, revoked, clientv3.WithPrefix())
	gossip := a.client.Watch(ctx, gossipKey)
	for {
		if err := a.refresh(ctx); err != nil {
			return err
		}
		worked()
		var w clientv3.WatchResponse
		var ok bool
		select {
		case w, ok = <-ca:
		case w, ok = <-gone:
		case w, ok = <-gossip:
		}
		err := w.Err()
		if err == nil && !ok {
			err = cmp.Or(context.Cause(ctx), io.EOF)
		}
		if err != nil {
			return pancake.Errorf(pancake.Unavailable, "watch %s in etcd: %w", root, err)
		}
	}
}

// refresh reads everything, and says so if the CAs or gossip keys changed.
func (a *Authority) refresh(ctx context.Context) error {
	changed, err := a.reload(ctx)
	if changed {
		a.changed()
	}
	return err
}

// reload reads everything, and reports whether the CAs or gossip keys changed.
// What is older than what is known already, because two reloads overlap, is left alone.
func (a *Authority) reload(ctx context.Context) (changed bool, err error) {
	d, err := get[caState](ctx, a, caKey)
	if err != nil {
		return false, err
	}
	ca := a.caView()
	if d.revision != ca.revision {
		if ca, err = a.viewCA(ctx, d); err != nil {
			return false, err
		}
	}
	g, err := get[gossipState](ctx, a, gossipKey)
	if err != nil {
		return false, err
	}
	gossip := a.gossipView()
	if g.revision != gossip.revision {
		if gossip, err = a.viewGossip(ctx, g); err != nil {
			return false, err
		}
	}
	gone := map[string]revocation{}
	if err := all(ctx, a, revoked, func(d document[revocation]) { gone[strings.TrimPrefix(d.key, revoked)] = d.value }); err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, r := range a.revoked {
		if newer, ok := gone[key]; ok && newer.At.Before(r.At) {
			gone[key] = r
		}
	}
	a.revoked = gone
	if ca.revision > a.ca.revision {
		a.ca, changed = ca, true
	}
	if gossip.revision > a.gossip.revision {
		a.gossip, changed = gossip, true
	}
	return changed, nil
}

// tend advances the rotations that are due. Of several schedulers one succeeds.
func (a *Authority) tend(ctx context.Context) error {
	now := a.now()
	for _, r := range []struct {
		what     string
		rotation Rotation
		advance  func(context.Context, Phase) error
	}{
		{"CA", a.caView().rotation, a.AdvanceCA},
		{"gossip key", a.gossipView().rotation, a.AdvanceGossipKey},
	} {
		if !r.rotation.due(now) {
			continue
		}
		switch err := r.advance(ctx, r.rotation.Phase); {
		case pancake.KindOf(err) == pancake.Conflict: // another scheduler did
		case err != nil:
			return err
		default:
			a.log.InfoContext(ctx, "rotation advanced", "of", r.what, "from", string(r.rotation.Phase))
		}
	}
	return nil
}

// sweep forgets what ended long enough ago.
func (a *Authority) sweep(ctx context.Context) error {
	now := a.now()
	var ended []clientv3.Op
	var still []clientv3.Cmp
	drop := func(key string, c clientv3.Cmp) {
		ended, still = append(ended, clientv3.OpDelete(key)), append(still, c)
	}
	err := all(ctx, a, tokens, func(d document[tokenRecord]) {
		if now.After(d.value.Expires.Add(keepEnded)) {
			drop(d.key, d.unchanged())
		}
	})
	if err != nil {
		return err
	}
	err = all(ctx, a, issued, func(d document[issuedRecord]) {
		if now.After(d.value.NotAfter.Add(keepEnded)) {
			drop(d.key, d.unchanged())
		}
	})
	if err != nil {
		return err
	}
	err = all(ctx, a, revoked, func(d document[revocation]) {
		if now.After(d.value.At.Add(identity.MaxLife + keepEnded)) { // nothing it refuses is valid any more
			drop(d.key, d.unchanged())
		}
	})
	if err != nil {
		return err
	}
	for i := range ended {
		if _, err := a.commit(ctx, still[i:i+1], ended[i]); err != nil { // changed meanwhile: the next sweep sees
			return err
		}
	}
	return a.trimAudit(ctx)
}
