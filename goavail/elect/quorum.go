package elect

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
)

// Config says how the places elect a writer. Place, Places, Keep, Broadcast and Send
// are required.
type Config struct {
	Place  string   // this agent's
	Places []string // all that are configured, this one included
	// Lease is how long a promise holds: a writer that dies is replaced after that and a
	// bit. Default 10 s.
	Lease time.Duration
	// Promise is what Keep last kept before a restart.
	Promise Promise
	// Keep brings a promise to disk.
	Keep func(Promise) error
	// Broadcast and Send tell the other places. They do not wait, and may fail silently.
	Broadcast func(body []byte)
	Send      func(place string, body []byte)
	// Eligible says whether this agent should want to write: it sees most of the others,
	// and the provider lets it. Default: always.
	Eligible func() bool
	Log      *slog.Logger // default: none
}

// Quorum elects a writer among the places.
type Quorum struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex
	voter  *Voter
	me     *Candidate
	wait   time.Time // before this it does not campaign
	wins   chan struct{}
	leader Leader // as this place knows
}

// Leader is who writes, as far as this agent knows.
type Leader struct {
	Place string
	Epoch uint64
	Until time.Time // of this agent's own lease; zero if it is another's
}

// message is what travels: one of the two.
type message struct {
	Ask   *Request `json:"ask,omitempty"`
	Reply *Reply   `json:"reply,omitempty"`
}

// NewQuorum makes a Quorum. Run starts it.
func NewQuorum(cfg Config) *Quorum {
	cfg.Lease = cmp.Or(cfg.Lease, 10*time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Eligible == nil {
		cfg.Eligible = func() bool { return true }
	}
	now := time.Now()
	q := &Quorum{cfg: cfg, log: cfg.Log, voter: NewVoter(cfg.Promise, cfg.Lease, now), me: NewCandidate(len(cfg.Places), cfg.Lease), wins: make(chan struct{})}
	if len(cfg.Places) == 1 {
		q.voter.until = now // there is nobody that it could have promised itself to
	}
	q.me.Resume(cfg.Promise, cfg.Place)
	return q
}

// Run campaigns, and prolongs what it won, until ctx ends; then it steps down.
func (q *Quorum) Run(ctx context.Context) error {
	tick := q.cfg.Lease / 10
	for {
		q.step(time.Now())
		select {
		case <-ctx.Done():
			q.Resign(0)
			return ctx.Err()
		case <-time.After(tick + rand.N(tick/2+1)):
		}
	}
}

// step does what is due.
func (q *Quorum) step(now time.Time) {
	q.mu.Lock()
	leads, tried := q.me.Leads(now), q.me.Pending()
	may := now.After(q.wait) && (q.voter.Free(now) || q.voter.Holder == q.cfg.Place)
	q.mu.Unlock()
	switch {
	case leads && !q.cfg.Eligible():
		q.release(true, 0)
	case leads:
		q.round(now)
	case tried:
		// Two that campaign at once take promises from each other: give them back, and
		// let chance decide who is first next time.
		q.release(true, q.cfg.Lease/10+rand.N(q.cfg.Lease/4))
	case may && q.cfg.Eligible():
		q.round(now)
	}
}

// round asks all places once.
func (q *Quorum) round(now time.Time) {
	q.mu.Lock()
	r := q.me.Round(q.cfg.Place, now)
	q.mu.Unlock()
	q.answer(r, q.cfg.Place)
	if body, err := json.Marshal(message{Ask: &r}); err == nil {
		q.cfg.Broadcast(body)
	}
}

// maxMessage bounds what another place may send, in bytes.
const maxMessage = 1024

// Receive takes what another place sent with Broadcast or Send.
func (q *Quorum) Receive(from string, body []byte) error {
	var m message
	if len(body) > maxMessage {
		return pancake.Errorf(pancake.Invalid, "a message of the election has %d bytes", len(body))
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return pancake.Errorf(pancake.Invalid, "a message of the election: %w", err)
	}
	switch {
	case m.Ask != nil:
		m.Ask.From = from // nobody asks for another
		q.answer(*m.Ask, from)
	case m.Reply != nil:
		q.take(from, *m.Reply)
	}
	return nil
}

// answer decides on a request and replies once the promise is kept.
func (q *Quorum) answer(r Request, from string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	reply, keep := q.voter.Ask(r, now)
	q.me.Saw(reply.Term)
	if keep {
		if err := q.cfg.Keep(q.voter.Promise); err != nil {
			// A promise that may be forgotten is none. That it was recorded here only makes
			// this place careful.
			q.log.Error("a promise to a writer cannot be kept on disk, so it is not given", "to", from, "err", err)
			return
		}
	}
	if reply.Granted && q.leader.Place != from {
		q.leader = Leader{Place: from, Epoch: r.Term}
	}
	q.leader.Epoch = max(q.leader.Epoch, reply.Term)
	if from == q.cfg.Place {
		q.won(from, reply, now)
		return
	}
	if body, err := json.Marshal(message{Reply: &reply}); err == nil && !r.Release {
		q.cfg.Send(from, body)
	}
}

func (q *Quorum) take(from string, r Reply) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.won(from, r, time.Now())
}

func (q *Quorum) won(from string, r Reply, now time.Time) {
	before := q.me.Leads(now)
	q.me.Take(from, r, now)
	if q.me.Leads(now) && !before {
		q.log.Info("this agent is the writer now", "epoch", q.me.Term)
	}
	if q.me.Confirmed() {
		close(q.wins)
		q.wins = make(chan struct{})
	}
}

// Leader returns who writes. Until is set if it is this agent.
func (q *Quorum) Leader() Leader {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if q.me.Leads(now) {
		return Leader{Place: q.cfg.Place, Epoch: q.me.Term, Until: q.me.until}
	}
	if q.voter.Free(now) || q.leader.Place == q.cfg.Place {
		return Leader{Epoch: q.voter.Term}
	}
	return q.leader
}

// Confirm asks all places once more and returns this agent's lease from then on. It fails
// with Conflict when it is not the writer, or most places do not say so within ctx.
func (q *Quorum) Confirm(ctx context.Context) (Leader, error) {
	now := time.Now()
	q.mu.Lock()
	leads := q.me.Leads(now)
	q.mu.Unlock()
	if !leads {
		return Leader{}, pancake.Errorf(pancake.Conflict, "this agent is not the writer")
	}
	q.round(now)
	for {
		q.mu.Lock()
		// Another round may have begun meanwhile, which is as good.
		done, next := q.me.Confirmed() && !q.me.asked.Before(now), q.wins
		l := Leader{Place: q.cfg.Place, Epoch: q.me.Term, Until: q.me.until}
		leads := q.me.Leads(time.Now())
		q.mu.Unlock()
		switch {
		case !leads:
			return Leader{}, pancake.Errorf(pancake.Conflict, "this agent is not the writer any more")
		case done:
			return l, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return Leader{}, pancake.Errorf(pancake.Conflict, "most places do not confirm that this agent is the writer")
		}
	}
}

// Resign steps down and does not want to write for a while.
func (q *Quorum) Resign(rest time.Duration) {
	q.mu.Lock()
	leads := q.me.Leads(time.Now())
	q.mu.Unlock()
	q.release(leads, rest)
}

// release gives up the lease, or the attempt to get one, and tells the places if told.
func (q *Quorum) release(tell bool, rest time.Duration) {
	q.mu.Lock()
	r := q.me.Release(q.cfg.Place)
	q.wait = time.Now().Add(rest)
	q.mu.Unlock()
	if !tell {
		return
	}
	q.answer(r, q.cfg.Place)
	if body, err := json.Marshal(message{Ask: &r}); err == nil {
		q.cfg.Broadcast(body)
	}
}
