package bridge

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/bridge/mirror"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

const (
	// tickEvery is how often what is due by time is done.
	tickEvery = time.Second
	// gather is how long changes are gathered before both sides are compared.
	gather = 20 * time.Millisecond
	// watchAgain is the pause before our catalogue is watched again, if that fails.
	watchAgain = time.Second
	// maxWaiting is how many messages of theirs may wait; what is dropped comes
	// again with the next exchange of states.
	maxWaiting = 1024
)

// oldSide is the old cluster, as the loop needs it.
type oldSide interface {
	// hosts says what has become of the Sidecars, and which bridges are alive: the
	// host of ours that each runs on, by its name in the old cluster.
	hosts(now time.Time) (sidecars map[string]mirror.Presence, bridges map[string]string)
	// send tells the Sidecars.
	send(records []pancake.Service)
}

// loop owns the catalogue of the old side and evens out the differences to ours.
type loop struct {
	self   string
	ours   Ours
	theirs oldSide
	oneWay bool
	// refresh is how often a record of ours is repeated to them.
	refresh time.Duration
	report  *report

	incoming chan []pancake.Service
	wake     chan struct{}
	old, own atomic.Pointer[catalog.Snapshot] // the catalogues of both sides
	shown    atomic.Pointer[Status]

	// What follows belongs to the goroutine of run.
	catalog *catalog.Catalog
	before  map[string]mirror.Presence
	mirror  *mirror.Mirror // nil while another bridge mirrors
}

func newLoop(self, cluster string, ours Ours, refresh time.Duration, r *report) *loop {
	l := &loop{
		self: self, ours: ours, refresh: refresh, report: r, incoming: make(chan []pancake.Service, maxWaiting), wake: make(chan struct{}, 1),
		catalog: catalog.New(self, cluster), before: map[string]mirror.Presence{},
	}
	l.old.Store(l.catalog.Snapshot())
	l.shown.Store(&Status{})
	return l
}

func (l *loop) status() Status { return *l.shown.Load() }

// poke makes the loop look at both sides. It does not block.
func (l *loop) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// hear takes records of theirs, unless too many wait.
func (l *loop) hear(records []pancake.Service) bool {
	select {
	case l.incoming <- records:
		return true
	default:
		return false
	}
}

func (l *loop) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.watch(ctx) })
	group.Go(func() error { return l.work(ctx) })
	return group.Wait()
}

// watch keeps the snapshot of our catalogue up to date.
func (l *loop) watch(ctx context.Context) error {
	for {
		err := l.ours.Watch(ctx, func(s *catalog.Snapshot) {
			l.own.Store(s)
			l.poke()
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.report.once(ctx, "watch", "our catalogue cannot be watched; the bridge tries again", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchAgain):
		}
	}
}

func (l *loop) work(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case records := <-l.incoming:
			l.merge(ctx, records, time.Now())
		case <-l.wake:
		case <-tick.C:
			l.catalog.Sweep(time.Now())
		case <-due:
			due = nil
			if !l.step(ctx, time.Now()) {
				continue
			}
		}
		if due == nil {
			due = time.After(gather)
		}
	}
}

// merge takes records into the catalogue of the old side and returns those that
// were not refused.
func (l *loop) merge(ctx context.Context, records []pancake.Service, now time.Time) []pancake.Service {
	_, refused := l.catalog.Merge(records, now)
	if len(refused) == 0 {
		return records
	}
	bad := map[[2]string]bool{}
	for _, r := range refused {
		bad[[2]string{r.Host, r.ID}] = true
		cause := string(r.Reason)
		if r.Reason == catalog.RefusedStale {
			l.report.refused.WithLabelValues(cause).Inc() // what has ended hours ago is still told by some
			continue
		}
		l.report.refuse(ctx, cause, r.Host, "records of a host are not taken: invalid, or of a clock that is ahead",
			pancake.Errorf(pancake.Invalid, "service %s of host %s: %s", r.ID, r.Host, r.Reason))
	}
	taken := make([]pancake.Service, 0, len(records))
	for _, s := range records {
		if !bad[[2]string{s.Hostname, s.ID}] {
			taken = append(taken, s)
		}
	}
	return taken
}

// step compares both sides and sends what is missing. It reports whether there
// was anything, and so may be more to do.
func (l *loop) step(ctx context.Context, now time.Time) bool {
	own := l.own.Load()
	sidecars, bridges := l.theirs.hosts(now)
	l.old.Store(l.catalog.Snapshot())
	alive := l.departures(sidecars, now)
	old := l.catalog.Snapshot()
	l.old.Store(old)
	members := l.ours.Members()
	ours := presence(members)
	leader := elect(l.self, bridges, ours)
	if alive == 0 || own == nil {
		leader = "" // there is nobody to mirror from, or to
	}
	l.lead(ctx, leader, alive+len(bridges))
	if l.mirror == nil {
		return false
	}
	plan := l.mirror.Step(mirror.View{
		Ours: own, Theirs: old, OurHosts: ours, TheirHosts: sidecars, OneWay: l.oneWay, Alone: alone(members, own.Self),
	}, now)
	l.complain(ctx, plan)
	if len(plan.ToTheirs) > 0 {
		l.noteShortened(ctx, own, plan.ToTheirs)
		l.theirs.send(l.merge(ctx, plan.ToTheirs, now))
		l.report.carried.WithLabelValues("theirs").Add(float64(len(plan.ToTheirs)))
	}
	if len(plan.ToOurs) > 0 {
		l.ours.Mirror(ctx, plan.ToOurs)
		l.report.carried.WithLabelValues("ours").Add(float64(len(plan.ToOurs)))
	}
	return len(plan.ToOurs)+len(plan.ToTheirs) > 0
}

// departures ends the services of the Sidecars that have gone since the last
// call, as their peers do, and counts those that are alive. When all have gone
// at once it is more likely this host that is cut off: then their records end
// when their time is over.
func (l *loop) departures(sidecars map[string]mirror.Presence, now time.Time) (alive int) {
	for _, p := range sidecars {
		if p == mirror.Present {
			alive++
		}
	}
	if alive == 0 {
		return 0
	}
	snap := l.old.Load()
	for name, p := range sidecars {
		if p != mirror.Gone || l.before[name] != mirror.Present {
			continue
		}
		var ended []pancake.Service
		for s := range snap.Hosts[name].Live() {
			t := *s
			t.Status, t.Updated = pancake.Tombstone, s.Updated.Add(time.Second) // as they do
			ended = append(ended, t)
		}
		l.catalog.Merge(ended, now)
	}
	l.before = sidecars
	return alive
}

func (l *loop) lead(ctx context.Context, leader string, members int) {
	leading := leader == l.self
	was := l.shown.Swap(&Status{Leading: leading, Leader: leader, Members: members})
	switch {
	case leading && l.mirror == nil:
		l.mirror = mirror.New(shape, l.refresh)
		l.report.leading.Set(1)
		l.report.log.InfoContext(ctx, "this bridge mirrors")
	case !leading && l.mirror != nil:
		l.mirror = nil
		l.report.leading.Set(0)
		fallthrough
	case leader != was.Leader:
		if !leading {
			l.report.log.InfoContext(ctx, "this bridge stands by", "mirrors", cmp.Or(leader, "nobody"))
		}
	}
}

// complain says what is not mirrored as it is.
func (l *loop) complain(ctx context.Context, plan mirror.Plan) {
	for _, host := range plan.Both {
		l.report.once(ctx, "both/"+host, "a host is a member of both clusters; its services are not mirrored until one of its Sidecars has another hostname, or ends", "host", host)
	}
	for _, s := range plan.Unfit {
		l.report.refuse(ctx, "oversized", s.Hostname+"/"+s.Name, "a service is too large for a message of the old cluster; it is not mirrored there",
			pancake.Errorf(pancake.Invalid, "%d ports and a name of %d bytes; %d bytes are allowed in all", len(s.Ports), len(s.Name), maxRecord))
	}
}

// noteShortened says which records of ours go out without all that a Sidecar of
// theirs could know.
func (l *loop) noteShortened(ctx context.Context, own *catalog.Snapshot, sent []pancake.Service) {
	for i := range sent {
		h := own.Hosts[sent[i].Hostname]
		if h == nil || h.Services[sent[i].ID] == nil {
			continue
		}
		if src := h.Services[sent[i].ID]; shortened(src, &sent[i]) {
			l.report.refuse(ctx, "shortened", src.Hostname+"/"+src.Name, "a service is too large for a message of the old cluster; it is mirrored there without its image, and perhaps without the ports that no proxy uses",
				pancake.Errorf(pancake.Invalid, "%d ports and an image's name of %d bytes; %d bytes are allowed in all", len(src.Ports), len(src.Image), maxRecord))
		}
	}
}

// elect returns the bridge that mirrors: the first by name of those that are
// members of both clusters, as far as this one knows. Two that see different
// clusters may both do it; that costs messages and changes nothing.
func elect(self string, bridges map[string]string, ours map[string]mirror.Presence) string {
	leader := self
	for name, host := range bridges {
		if name < leader && ours[host] == mirror.Present {
			leader = name
		}
	}
	return leader
}

// presence is our cluster's list of members.
func presence(members []client.Member) map[string]mirror.Presence {
	out := make(map[string]mirror.Presence, len(members))
	for _, m := range members {
		out[m.Name] = mirror.Gone
		if m.State == client.MemberAlive {
			out[m.Name] = mirror.Present
		}
	}
	return out
}

// alone reports whether several members of our cluster are dead and this host is
// all that is left: more likely it is this host that is cut off.
func alone(members []client.Member, self string) bool {
	dead := 0
	for _, m := range members {
		switch {
		case m.State == client.MemberAlive && m.Name != self:
			return false
		case m.State == client.MemberDead:
			dead++
		}
	}
	return dead > 1
}
