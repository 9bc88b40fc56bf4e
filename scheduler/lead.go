package scheduler

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/agents"
	"github.com/pancake-stack/pancake/scheduler/api"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/deploy"
	"github.com/pancake-stack/pancake/scheduler/events"
	"github.com/pancake-stack/pancake/scheduler/state"
)

const (
	inboxSize = 1024
	maxBatch  = 512                    // messages per turn
	tick      = time.Second            // how often agents are looked at
	resend    = 3 * time.Second        // an unanswered Launch or Kill
	turnLimit = 100 * time.Millisecond // a slower turn is worth a warning
)

// message is something for the owner of the state to do. It must check
// everything before it changes anything. reply hears of its end, once stored.
type message struct {
	do    func() error
	reply chan<- error // buffered; nil if nobody waits
}

// lead is one term of leading. One goroutine, run, owns all but what is said
// to be shared.
type lead struct {
	cfg     Config
	log     *slog.Logger
	store   Store
	term    state.Term
	links   *agents.Server
	metrics *metrics
	events  *events.Hub
	handler http.Handler

	inbox chan message  // shared
	done  chan struct{} // shared; closed when the term is over

	now  time.Time    // of this turn
	work *state.State // what is stored, and what this turn is about to store
	// changes and after are this turn's decisions, and what to do once they are stored.
	changes []state.Change
	after   []func()

	dirty    map[string]bool // requests to reconcile this turn
	wakes    wakes
	waiting  map[string]map[deploy.Slot]client.Unplaced // by request
	roomier  bool                                       // something ended or registered: what waits may fit
	offers   map[string]pancake.Offer                   // by agent; missing ones are worked out
	cursors  map[string]int                             // by agent, where the search for a port begins
	sent     map[string]time.Time                       // by task, when the unanswered Launch or Kill was sent
	heard    map[string]time.Time                       // by agent that was connected in this term
	joining  map[string]bool                            // agents that register in this turn
	leaving  map[string]bool                            // agents that are decommissioned, or about to be
	moving   map[string]bool                            // tasks on them that may be replaced now
	began    time.Time                                  // of the term, with a monotonic reading
	evacuate float64                                    // how many tasks of lost agents may be replaced now

	mu     sync.RWMutex
	stored *state.State // shared, under mu: what is stored
	why    map[string][]client.Unplaced
}

func newLead(s *Scheduler, term state.Term, st *state.State) *lead {
	l := &lead{
		cfg: s.cfg, log: s.log, store: s.cfg.Store, term: term, links: s.links, metrics: s.metrics,
		// The numbers of a later term begin above those of this one: a commit
		// moves the revision, and holds far fewer than 1024 events per operation.
		events: events.New(uint64(term.Revision) << 10),
		inbox:  make(chan message, inboxSize), done: make(chan struct{}),
		now: now(), work: st, stored: st.Clone(), why: map[string][]client.Unplaced{},
		dirty: map[string]bool{}, waiting: map[string]map[deploy.Slot]client.Unplaced{},
		wakes: wakes{earliest: map[string]time.Time{}}, offers: map[string]pancake.Offer{}, cursors: cursors(st), sent: map[string]time.Time{}, heard: map[string]time.Time{}, joining: map[string]bool{}, leaving: map[string]bool{},
		evacuate: float64(s.cfg.ReplacementBurst),
	}
	l.began = time.Now()
	l.handler = s.api(l)
	l.restore()
	return l
}

// now is the time as it is stored: without a monotonic reading.
func now() time.Time { return time.Now().UTC().Round(0) }

// restore prepares the first turn: every request is looked at once, what was
// not answered is sent again, and a deploy gets its time anew, since its tasks
// could not report while nobody led.
func (l *lead) restore() {
	for id, r := range l.work.Requests {
		l.dirty[id] = true
		if d := l.work.Deploy(id, r.PendingDeploy); d != nil && d.Progress.StepHealthy.IsZero() {
			c := *d
			c.Progress.StepStarted = l.now
			l.change(state.Change{Deploys: []*pancake.Deploy{&c}})
		}
	}
	for _, t := range l.work.Tasks {
		if unanswered(t) {
			l.sent[t.ID] = time.Time{}
		}
	}
}

// run takes turns until ctx ends or the term is over.
func (l *lead) run(ctx context.Context) error {
	defer close(l.done)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	wake := time.NewTimer(0) // the first turn begins at once
	defer wake.Stop()
	for {
		var replies []func()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.term.Lost:
			return pancake.Errorf(pancake.Unavailable, "the session in etcd is over: %w", state.ErrDeposed)
		case m := <-l.inbox:
			replies = l.take(m)
		case <-wake.C:
			l.now = now()
		case <-ticker.C:
			l.now = now()
			l.watchAgents(ctx, l.links.Links())
			l.resendUnanswered()
		}
		if err := l.finish(ctx, replies); err != nil {
			return err
		}
		if at, ok := l.wakes.next(); ok {
			wake.Reset(max(0, time.Until(at)))
		}
	}
}

// take applies a message and those that wait behind it.
func (l *lead) take(m message) (replies []func()) {
	l.now = now()
	for n := 1; ; n++ {
		err := m.do()
		if reply := m.reply; reply != nil {
			replies = append(replies, func() { reply <- err })
		}
		if n == maxBatch {
			return replies
		}
		select {
		case m = <-l.inbox:
		default:
			return replies
		}
	}
}

// finish ends a turn: decide, store, publish, act, answer.
func (l *lead) finish(ctx context.Context, replies []func()) error {
	began := time.Now()
	l.drain(ctx)
	looked := l.reconcile(ctx)
	planned := time.Now()
	if len(l.changes) > 0 {
		if err := l.commit(ctx); err != nil {
			return err
		}
	}
	stored := time.Now()
	for _, fn := range l.after {
		fn()
	}
	l.publish(looked)
	for _, fn := range replies {
		fn()
	}
	if n := len(l.changes); n > 0 {
		l.metrics.turn(planned.Sub(began), stored.Sub(planned))
		level := slog.LevelDebug
		if time.Since(began) > turnLimit {
			level = slog.LevelInfo
		}
		l.log.Log(ctx, level, "turn is done", "changes", n, "requests", len(looked),
			"plan", planned.Sub(began), "commit", stored.Sub(planned), "act", time.Since(stored))
	}
	l.changes, l.after = nil, nil
	clear(l.joining)
	return nil
}

// commit stores this turn's changes. A failure that may pass is retried while
// the term lasts.
func (l *lead) commit(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, 2*time.Second
	for {
		err := l.store.Commit(ctx, l.term, l.changes)
		if err == nil || pancake.KindOf(err) != pancake.Unavailable {
			return err
		}
		l.log.WarnContext(ctx, "commit failed and is repeated", "err", err)
		select {
		case <-time.After(pause.NextBackOff()):
		case <-l.term.Lost:
			return pancake.Errorf(pancake.Unavailable, "the session in etcd ended before the state was stored: %w", state.ErrDeposed)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change makes a decision. It is stored at the end of the turn.
func (l *lead) change(c state.Change) {
	l.work.Apply(c)
	l.changes = append(l.changes, c)
	for _, a := range c.Agents {
		delete(l.offers, a.ID)
		l.roomier = true
	}
	if id := c.ForgetAgent; id != "" {
		delete(l.offers, id)
		delete(l.heard, id)
		delete(l.cursors, id)
	}
	for _, t := range c.Tasks {
		delete(l.offers, t.AgentID)
	}
	for _, t := range c.Ended {
		delete(l.offers, t.AgentID)
		l.roomier = true
	}
}

// publish shows readers and watchers what was stored, and sends what it means to agents.
func (l *lead) publish(looked []string) {
	l.mu.Lock()
	for _, c := range l.changes {
		l.stored.Apply(c)
	}
	for _, id := range looked {
		if l.why[id] = l.unplaced(id); l.why[id] == nil {
			delete(l.why, id)
		}
	}
	l.mu.Unlock()
	for _, c := range l.changes {
		l.events.Publish(eventsOf(c, l.now))
		for _, t := range c.Tasks {
			l.tell(t.ID)
		}
		for _, t := range c.Ended {
			delete(l.sent, t.ID)
		}
	}
}

// Read implements api.Scheduler.
func (l *lead) Read(fn func(api.View)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	fn(api.View{State: l.stored, Unplaced: l.why})
}

// ask has the owner do something and waits until it is stored.
func (l *lead) ask(ctx context.Context, do func() error) error {
	reply := make(chan error, 1)
	if err := l.post(ctx, message{do, reply}); err != nil {
		return err
	}
	select {
	case err := <-reply:
		return err
	case <-l.done:
		return notLeading()
	case <-ctx.Done():
		return pancake.Errorf(pancake.Unavailable, "the scheduler is busy: %w", ctx.Err())
	}
}

// post leaves a message for the owner.
func (l *lead) post(ctx context.Context, m message) error {
	select {
	case l.inbox <- m:
		return nil
	case <-l.done:
		return notLeading()
	case <-ctx.Done():
		return pancake.Errorf(pancake.Unavailable, "the scheduler is busy: %w", ctx.Err())
	}
}

func notLeading() error {
	return pancake.Errorf(pancake.Unavailable, "this scheduler leads no more; try again")
}
