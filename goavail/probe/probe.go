// Package probe asks targets, again and again, whether they work.
package probe

import (
	"cmp"
	"container/heap"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Target is something to be probed.
type Target struct {
	Name  string
	Check Check
}

// Result is the outcome of one probe.
type Result struct {
	Target  string
	Started time.Time
	Took    time.Duration
	Err     error // nil: the target works
	// Own says that the failure is this machine's and tells nothing of the target: no
	// permission, no free port, no route.
	Own bool
}

// Config says how a Prober works.
type Config struct {
	// Observe takes each result. With soon it asks for the next probe at once, after the
	// check's Recheck rather than its Interval. It is called by many goroutines. Required.
	Observe func(Result) (soon bool)
	// Concurrency bounds the probes that are under way. Default 512: a thousand targets that
	// are probed every second and all hang for half of it need no more.
	Concurrency int
	Log         *slog.Logger // default: none
}

// Prober probes a list of targets.
type Prober struct {
	cfg   Config
	log   *slog.Logger
	tools *tools

	mu      sync.Mutex
	targets map[string]*runner
	changed chan struct{}
}

// runner is one target that is probed.
type runner struct {
	Target
	begin   begin
	at      time.Time // of the next probe; owned by Run
	index   int       // in the heap; owned by Run
	queued  bool      // in the heap; owned by Run
	stopped bool      // under Prober.mu
}

// New makes a Prober. Run starts it.
func New(cfg Config) *Prober {
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 512)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Prober{cfg: cfg, log: cfg.Log, tools: newTools(cfg.Log), targets: map[string]*runner{}, changed: make(chan struct{}, 1)}
}

// Set replaces the targets, also while Run works. Those that stay as they were go on
// undisturbed. It fails with Invalid, and changes nothing, when a check makes no sense.
func (p *Prober) Set(targets []Target) error {
	next := make(map[string]*runner, len(targets))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range targets {
		t.Check = t.Check.WithDefaults()
		if old := p.targets[t.Name]; old != nil && old.Check == t.Check {
			next[t.Name] = old
			continue
		}
		begin, err := p.tools.prepare(t.Check)
		if err != nil {
			return err
		}
		next[t.Name] = &runner{Target: t, begin: begin}
	}
	for name, r := range p.targets {
		r.stopped = next[name] != r
	}
	p.targets = next
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

// Run probes until ctx ends. Then it waits for the probes that are under way: for
// their timeouts at the longest.
func (p *Prober) Run(ctx context.Context) error {
	defer p.tools.close()
	s := schedule{p: p, ctx: ctx, known: map[*runner]bool{}, done: make(chan finished, p.cfg.Concurrency)}
	return s.run()
}

// schedule decides who is probed when. One goroutine owns it.
type schedule struct {
	p       *Prober
	ctx     context.Context // Run's
	queue   queue
	known   map[*runner]bool
	running int
	done    chan finished
}

type finished struct {
	r  *runner
	at time.Time // of the next probe
}

func (s *schedule) run() error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if len(s.queue) > 0 && s.running < s.p.cfg.Concurrency {
			wait = max(time.Until(s.queue[0].at), 0)
		}
		timer.Reset(wait)
		select {
		case <-s.ctx.Done():
			for ; s.running > 0; s.running-- {
				<-s.done
			}
			return s.ctx.Err()
		case <-s.p.changed:
			s.reload(time.Now())
		case f := <-s.done:
			s.finish(f)
			for range len(s.done) { // those nearby answer together
				s.finish(<-s.done)
			}
		case now := <-timer.C:
			s.start(now)
		}
	}
}

// finish plans the next probe of a target.
func (s *schedule) finish(f finished) {
	s.running--
	if s.known[f.r] {
		f.r.at = f.at
		s.push(f.r)
	}
}

// reload takes over the list of targets. New ones begin at random within their
// interval, so that they do not all go off together for ever.
func (s *schedule) reload(now time.Time) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	next := make(map[*runner]bool, len(s.p.targets))
	for _, r := range s.p.targets {
		next[r] = true
		if !s.known[r] {
			r.at = now.Add(time.Duration(rand.Int64N(int64(r.Check.Interval))))
			s.push(r)
		}
	}
	for r := range s.known {
		if !next[r] && r.queued {
			heap.Remove(&s.queue, r.index)
		}
	}
	s.known = next
}

func (s *schedule) push(r *runner) { heap.Push(&s.queue, r) }

// together bounds how much too early a probe may start, to share a wake-up with others:
// at a thousand per second, waking up costs as much as probing.
const together = 100 * time.Millisecond

// early is how much too early a probe of that interval may start. The next one is planned
// half as much later, so that they do not come more often than they should.
func early(interval time.Duration) time.Duration { return min(together, interval/10) }

// start begins the probes that are due.
func (s *schedule) start(now time.Time) {
	for len(s.queue) > 0 && s.running < s.p.cfg.Concurrency {
		r := s.queue[0]
		if r.at.After(now.Add(early(r.Check.Interval))) {
			break
		}
		heap.Pop(&s.queue)
		s.running++
		s.begin(r)
	}
	s.p.tools.settle()
}

func (s *schedule) begin(r *runner) {
	started := time.Now()
	r.begin(s.ctx, func(err error) {
		s.done <- finished{r, s.p.ended(s.ctx, r, started, err)} // it has room for all
	})
}

// ended takes the outcome of a probe, and returns when to probe next.
func (p *Prober) ended(ctx context.Context, r *runner, started time.Time, err error) time.Time {
	took := time.Since(started)
	next := started.Add(jitter(r.Check.Interval) + early(r.Check.Interval)/2)
	p.mu.Lock()
	stopped := r.stopped
	p.mu.Unlock()
	if stopped || ctx.Err() != nil {
		return next // the result may come from the end itself
	}
	soon := p.cfg.Observe(Result{Target: r.Name, Started: started, Took: took, Err: err, Own: err != nil && own(err)})
	// From the start on: a probe that had to time out has waited long enough.
	if at := started.Add(r.Check.Recheck); soon && at.Before(next) {
		return at
	}
	return next
}

// jitter spreads probes by a tenth to either side, so that places do not hit a target in step.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}

// queue is a heap by time.
type queue []*runner

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push adds a runner, for container/heap.
func (q *queue) Push(x any) {
	if r, ok := x.(*runner); ok {
		r.index, r.queued = len(*q), true
		*q = append(*q, r)
	}
}

// Pop takes the last one, for container/heap.
func (q *queue) Pop() any {
	last := len(*q) - 1
	r := (*q)[last]
	r.queued = false
	(*q)[last] = nil
	*q = (*q)[:last]
	return r
}
