package goavail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/elect"
	"github.com/pancake-stack/pancake/goavail/vote"
)

const (
	// lookEvery is how often it is looked whether there is something to do, though nobody said so.
	lookEvery = time.Second
	// callLimit bounds one call of the provider.
	callLimit = 30 * time.Second
	// settleFor is how long a change may take to show at the provider.
	settleFor = 15 * time.Second
)

// writing is how the changing of records goes. Agent.mu guards it.
type writing struct {
	epoch    uint64               // that this agent was told it leads in; 0: it does not lead
	read     time.Time            // last successful
	next     time.Time            // the latest time for the next
	retry    time.Time            // nothing is tried before, after a failure
	limited  bool                 // the provider itself named the time of retry
	err      string               // of the last failure
	tried    map[dns.Key]string   // what was to be live after the changes that failed
	expect   map[dns.Key][]string // what should be live, as far as is known
	settling map[dns.Key]settling // changes that may not show yet
	shown    string               // the diff of the dry run that was shown last
	alerts   map[string]string    // the texts of those that were raised and hold
	trouble
}

type settling struct {
	old   []string
	until time.Time
}

// readSoon brings the next reading forward, each agent at a time of its own.
func (w *writing) readSoon(now time.Time, within time.Duration) {
	if at := now.Add(within + rand.N(4*within)); at.Before(w.next) {
		w.next = at
	}
}

// hurry takes back the wait after a failure: something has changed, and may well work,
// unless the provider does not want to be called.
func (w *writing) hurry() {
	if !w.limited {
		w.retry = time.Time{}
	}
}

// acting compares what is with what should be, whenever something has changed and
// every so often, and changes it if this agent is the writer.
func (a *Agent) acting(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-a.kick:
		}
		a.look(ctx)
	}
}

// look does what is due.
func (a *Agent) look(ctx context.Context) {
	now := time.Now()
	leader := a.elector.Leader()
	a.succession(leader)
	a.mu.Lock()
	a.book.Forget(now)
	waiting := now.Before(a.act.retry)
	plans := a.decide(now)
	due := !now.Before(a.act.next)
	wanted := !a.dryRun(now) && (slices.ContainsFunc(plans, vote.Plan.Changes) || a.adopting(now))
	a.mu.Unlock()
	switch {
	case waiting:
	case leader.Until.IsZero():
		if due {
			a.failed(ctx, a.readOnly(ctx))
		}
	case due || wanted:
		err := a.reconcile(ctx)
		a.failed(ctx, err)
		if err == nil {
			a.relieved()
		}
	}
}

// succession takes note of this agent's becoming the writer.
func (a *Agent) succession(l elect.Leader) {
	a.mu.Lock()
	was := a.act.epoch
	a.act.epoch = 0
	if !l.Until.IsZero() {
		a.act.epoch = l.Epoch
	}
	if l.Place != "" {
		a.act.vacant = time.Time{}
	} else if a.act.vacant.IsZero() {
		a.act.vacant = time.Now()
	}
	news := a.act.epoch != 0 && a.act.epoch != was
	if news {
		// What it knows of the live records may be old: the last writer changed them.
		a.act.next, a.act.expect, a.act.tried, a.act.tries = time.Time{}, map[dns.Key][]string{}, map[dns.Key]string{}, 0
		a.act.hurry()
	}
	a.mu.Unlock()
	if news {
		a.note(client.Entry{Kind: client.KindWriter, Epoch: l.Epoch, Text: a.cfg.Place + " is the writer"})
	}
}

// dryRun says that the configuration has not been confirmed. a.mu is held.
func (a *Agent) dryRun(now time.Time) bool {
	_, confirmed := a.book.Of(vote.Confirm, a.hash, now)
	return !a.cfg.NoDryRun && !confirmed
}

// adopting says that there is something to adopt. a.mu is held.
func (a *Agent) adopting(now time.Time) bool {
	return slices.ContainsFunc(a.records, func(r Record) bool {
		_, ok := a.adopt(r, now)
		return ok
	})
}

// errNotWriter ends a reconciliation without being a failure.
var errNotWriter = errors.New("not the writer")

// reconcile makes sure that this agent is the writer still, reads what is live, decides
// from that and from the votes as they are now, and makes the changes.
func (a *Agent) reconcile(ctx context.Context) error {
	before, err := a.confirm(ctx)
	if err != nil {
		return err
	}
	drifts, partly := a.readLimited(ctx)
	if partly != nil && !errors.Is(partly, errPartly) {
		return partly
	}
	for _, d := range drifts {
		d.Epoch = before.Epoch
		a.log.WarnContext(ctx, "records were changed by somebody else", "set", d.Set, "before", d.Before, "after", d.After)
		a.note(d)
	}
	// Reading may have taken long. The write has all of a lease, and nobody else had one since.
	lease, err := a.confirm(ctx)
	if err != nil {
		return err
	}
	if lease.Epoch != before.Epoch {
		return fmt.Errorf("%w all the time while the records were read", errNotWriter)
	}
	now := time.Now()
	a.mu.Lock()
	a.act.next = now.Add(a.cfg.ReadEvery)
	plans := a.decide(now)
	work := a.work(plans, now)
	dry := a.dryRun(now)
	a.mu.Unlock()
	a.raise(plans)
	switch {
	case len(work) == 0:
		return partly
	case dry:
		a.show(work, lease.Epoch)
		return partly
	}
	ctx, cancel := context.WithDeadline(ctx, earlier(lease.Until, now.Add(callLimit)))
	defer cancel()
	return cmp.Or(a.apply(ctx, work, lease), partly)
}

func (a *Agent) confirm(ctx context.Context) (elect.Leader, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Lease/2)
	defer cancel()
	lease, err := a.elector.Confirm(ctx)
	if err != nil {
		return lease, fmt.Errorf("%w: %w", errNotWriter, err)
	}
	return lease, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// apply makes changes and writes down how that went.
func (a *Agent) apply(ctx context.Context, work []job, lease elect.Leader) error {
	changes := make([]dns.Change, 0, len(work))
	for _, j := range work {
		changes = append(changes, j.change)
	}
	err := a.cfg.Provider.Apply(ctx, changes)
	now := time.Now()
	lost := dns.ReasonOf(err) == dns.Unknown || errors.Is(err, context.DeadlineExceeded)
	a.mu.Lock()
	a.act.changed(err)
	if a.act.settling == nil {
		a.act.settling = map[dns.Key]settling{}
	}
	news := map[dns.Key]bool{}
	for _, j := range work {
		key, after := j.change.Before.Key, list(j.change.After.Values())
		news[key] = err == nil || lost || a.act.tried[key] != after // the same failure again is no news
		if err != nil {
			delete(a.act.expect, key) // some of it may have been done
			a.act.tried[key] = after
			continue
		}
		delete(a.act.tried, key)
		a.act.settling[key] = settling{j.change.Before.Values(), now.Add(settleFor)}
		a.act.expect[key], a.live[key] = j.change.After.Values(), j.change.After
	}
	// Looked at again shortly, and by whoever is the writer then.
	a.act.readSoon(now, a.cfg.VoteEvery)
	a.mu.Unlock()
	for _, j := range work {
		j.entry.Kind, j.entry.Epoch = client.KindChange, lease.Epoch
		if err != nil {
			// Of several changes some may have been made, whatever became of the others.
			j.entry.Error, j.entry.Unsure = err.Error(), lost || len(work) > 1 || len(j.entry.Moves) > 1
		} else {
			a.log.InfoContext(ctx, "records changed", "set", j.entry.Set, "before", j.entry.Before, "after", j.entry.After, "epoch", lease.Epoch, "text", j.entry.Text)
		}
		if news[j.change.Before.Key] {
			a.note(j.entry)
		}
	}
	if err != nil {
		return fmt.Errorf("change records: %w", err)
	}
	return nil
}

// failed takes note of how an attempt ended, and decides when to try again.
func (a *Agent) failed(ctx context.Context, err error) {
	now := time.Now()
	a.mu.Lock()
	if err == nil || errors.Is(err, errNotWriter) || ctx.Err() != nil {
		again := err == nil && a.act.failures > 0
		if err == nil {
			a.act.err, a.act.retry = "", time.Time{}
			a.act.worked()
		}
		a.mu.Unlock()
		if again {
			a.log.InfoContext(ctx, "the provider works again")
		}
		if err != nil && ctx.Err() == nil {
			a.log.DebugContext(ctx, "nothing was changed", "err", err)
		}
		return
	}
	a.act.count(err)
	n := a.act.failures
	wait := min(a.cfg.RetryMin<<min(n-1, 20), a.cfg.RetryMax)
	wait = max(wait/2+rand.N(wait/2+1), dns.RetryAfter(err))
	reason := dns.ReasonOf(err)
	a.act.err, a.act.retry, a.act.limited = err.Error(), now.Add(wait), reason == dns.RateLimited
	a.mu.Unlock()
	a.metrics.providerFailed(reason)
	if n == 1 || n%20 == 0 {
		a.log.ErrorContext(ctx, "the provider failed; it is tried again", "reason", reason, "wait", wait, "failures", n, "err", err)
	}
	if elsewhere(err) {
		a.handOver(now)
	}
	if n == surrender && !a.alerted(providerAlert) {
		a.note(client.Entry{Kind: client.KindAlert, Alert: providerAlert, Text: "the provider fails again and again", Error: err.Error()})
	}
}
