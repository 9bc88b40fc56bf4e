// Package goavail keeps what is down out of DNS. Agents in different places probe
// targets, tell each other what they see, and one of them, the writer, changes records
// once more than half of all places agree.
//
// Everything is level-triggered: what should be in service follows from the votes, the
// orders of people and the live records alone, is worked out again after every change
// and every so often, and is compared with what is. Nothing depends on an event that
// could be missed. What the agent does not know, after a restart for example, changes
// nothing.
//
// One mutex guards what the agent knows. It is never held while something waits: the
// provider, the election, the network and the disk are called without it.
package goavail

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/api"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/elect"
	"github.com/pancake-stack/pancake/goavail/gossip"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/state"
	"github.com/pancake-stack/pancake/goavail/vote"
	"github.com/pancake-stack/pancake/internal/admit"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
)

// elector picks the writer.
type elector interface {
	Run(ctx context.Context) error
	// Leader is who writes as far as this agent knows; Until is set if it is this agent.
	Leader() elect.Leader
	// Confirm makes sure that this agent is the writer still, and returns until when.
	Confirm(ctx context.Context) (elect.Leader, error)
	// Resign steps down, and does not want to write for a while.
	Resign(rest time.Duration)
}

// Agent is one vantage point.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	dir     *state.Dir
	prober  *probe.Prober
	gossip  *gossip.Gossip
	elector elector
	metrics *metrics

	kick      chan struct{} // something may have to be done
	speak     chan struct{} // a vote has changed
	notes     chan client.Entry
	listening chan struct{}

	disk     sync.Mutex // one writes the state at a time, so that the newest one stays
	planning sync.Mutex // one reads for a plan at a time

	mu sync.Mutex
	knowledge
}

// knowledge is what the agent knows; Agent.mu guards it.
type knowledge struct {
	targets  map[string]*watched // by name
	byID     map[uint64]string   // names of targets
	canaries map[string]bool
	canary   vote.Canary
	records  []Record
	hash     string // of the configuration, with these records

	board     *vote.Board
	providers *vote.Board // on whether places can use the provider
	seq       uint64      // of this agent's own ballots
	said      map[string]told
	beat      uint64 // how often votes were repeated
	opinions  map[string]vote.Verdict
	penalties map[string]vote.Penalty
	configs   map[string]uint64 // other places' configurations
	book      vote.Book
	history   []client.Entry
	ids       map[string]bool // of history
	entries   uint64          // made by this agent

	incarnation uint64
	dirty       bool // something has to be saved

	live  map[dns.Key]dns.Set // as it was read last
	act   writing
	known []vote.Plan // what was decided last
}

// watched is a target with what this place thinks of it.
type watched struct {
	Target
	id      uint64
	meter   vote.Meter
	err     string // of the last probe that failed
	ownErr  string // of the last probe, if the failure was our own
	started time.Time
}

// New checks cfg, reads what the agent remembers, and makes an Agent. Run starts it.
func New(cfg Config) (*Agent, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	dir, err := state.Open(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s, moved, err := dir.Load(time.Now())
	if err != nil {
		return nil, err
	}
	if moved != "" {
		cfg.Log.Error("the state could not be read and was moved aside; orders and history are taken from the other places", "file", moved)
	}
	a := &Agent{
		cfg: cfg, log: cfg.Log, dir: dir,
		kick: make(chan struct{}, 1), speak: make(chan struct{}, 1), notes: make(chan client.Entry, 256), listening: make(chan struct{}),
	}
	a.remember(s)
	a.prober = probe.New(probe.Config{Observe: a.observe, Log: cfg.Log})
	if err := a.watch(cfg.Targets, cfg.Records); err != nil {
		return nil, err
	}
	if err := a.connect(s); err != nil {
		return nil, err
	}
	a.metrics, err = newMetrics(a, cfg.Metrics)
	return a, err
}

// remember takes over what was saved. What the targets were like is not among it.
func (a *Agent) remember(s state.State) {
	var places []string
	for _, p := range a.cfg.Places {
		places = append(places, p.Name)
	}
	a.knowledge = knowledge{
		canaries: map[string]bool{}, canary: vote.Canary{Need: a.cfg.CanaryNeed},
		board: vote.NewBoard(places, a.cfg.VoteTTL), providers: vote.NewBoard(places, patience*a.cfg.VoteTTL), said: map[string]told{}, opinions: map[string]vote.Verdict{},
		penalties: map[string]vote.Penalty{}, configs: map[string]uint64{}, ids: map[string]bool{}, live: map[dns.Key]dns.Set{},
		// Greater than ever before, also when the state was lost.
		incarnation: max(s.Incarnation+1, uint64(max(time.Now().UnixNano(), 0))),
		dirty:       true,
	}
	now := time.Now()
	for name, p := range s.Penalties {
		if p = a.cfg.Rules.Damping.Note(p, vote.Unknown, now); p.Points > 0 { // others are of targets that are long gone
			a.penalties[name] = p
		}
	}
	for _, o := range s.Orders {
		a.book.Merge(o)
	}
	for _, e := range s.History {
		if e.At.After(now) { // the clock ran ahead
			e.At = now.UTC().Round(0)
		}
		a.record(e)
	}
}

// connect makes what talks to the other places.
func (a *Agent) connect(s state.State) error {
	key, err := a.dir.Key()
	if err != nil {
		return err
	}
	var peers []gossip.Peer
	var places []string
	for _, p := range a.cfg.Places {
		peers = append(peers, gossip.Peer{Place: p.Name, Address: p.Address, Key: p.Key})
		places = append(places, p.Name)
	}
	a.gossip, err = gossip.New(gossip.Config{
		Place: a.cfg.Place, Cluster: a.cfg.Cluster, Peers: peers, BindAddr: a.cfg.BindAddr, BindPort: a.cfg.BindPort,
		AdvertiseAddr: a.cfg.AdvertiseAddr, AdvertisePort: a.cfg.AdvertisePort, Keys: a.cfg.GossipKeys, Private: key,
		Incarnation: a.incarnation, Seen: s.Seen, Known: s.Known, Receive: a.receive, State: a.everything, Log: a.cfg.Log, Metrics: a.cfg.Metrics,
		Transport: a.cfg.Transport,
	})
	if err != nil {
		return err
	}
	if a.cfg.Etcd != nil {
		a.elector = elect.NewEtcd(elect.EtcdConfig{
			Place: a.cfg.Place, Client: a.cfg.Etcd, Key: "/pancake/v1/goavail/" + a.cfg.Cluster + "/writer",
			Lease: a.cfg.Lease, Eligible: a.eligible, Log: a.cfg.Log,
		})
		return nil
	}
	a.elector = elect.NewQuorum(elect.Config{
		Place: a.cfg.Place, Places: places, Lease: a.cfg.Lease, Promise: a.dir.Promise(), Keep: a.dir.KeepPromise,
		Broadcast: func(b []byte) { a.gossip.Broadcast(gossip.Lease, b) },
		Send:      func(place string, b []byte) { a.gossip.Send(place, gossip.Lease, b) },
		Eligible:  a.eligible, Log: a.cfg.Log,
	})
	return nil
}

// Run works until ctx ends. It fails at once if it cannot listen or write its state.
func (a *Agent) Run(ctx context.Context) error {
	// The incarnation has to be on disk before anything is said under it.
	if err := a.save(); err != nil {
		return err
	}
	ln := a.cfg.Listener
	if ln == nil {
		var err error
		if ln, err = serve.Listen(ctx, a.cfg.HTTPAddr); err != nil {
			return pancake.Errorf(pancake.KindOf(err), "goavail: %w", err)
		}
	}
	defer ln.Close() // for a part that fails before the server has taken it
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{
		a.prober.Run, a.gossip.Run, a.elector.Run, a.voting, a.acting, a.saving, a.notifying,
	} {
		group.Go(func() error { return part(ctx) })
	}
	group.Go(func() error {
		close(a.listening)
		return a.serve(ctx, ln)
	})
	err := group.Wait()
	if saveErr := a.save(); saveErr != nil {
		a.log.Error("the state was not saved at the end", "err", saveErr)
	}
	return err
}

// Ready blocks until the API answers, or ctx ends.
func (a *Agent) Ready(ctx context.Context) error {
	select {
	case <-a.listening:
		return nil
	case <-ctx.Done():
		return pancake.Errorf(pancake.Unavailable, "goavail's API does not answer yet")
	}
}

// Reload replaces targets and records, also while Run works. What stays as it was goes on
// undisturbed. All else needs a restart. Other records than before, apart from their
// members, have to be confirmed by Apply. It fails with Invalid, and changes nothing, for
// what makes no sense.
func (a *Agent) Reload(targets []Target, records []Record) error {
	targets = targetDefaults(targets)
	records = recordDefaults(records, targets)
	if err := validateTargets(targets, a.cfg.Canaries, records, a.cfg.Provider.Capabilities()); err != nil {
		return err
	}
	if err := a.watch(targets, records); err != nil {
		return err
	}
	a.wake()
	return nil
}

// serve answers the API, over TLS if there is an identity.
func (a *Agent) serve(ctx context.Context, ln net.Listener) error {
	handler := api.Handler(api.Config{Agent: a, Token: a.cfg.Token, Metrics: a.cfg.Metrics})
	if a.cfg.Certificate == nil {
		return serve.Run(ctx, ln, handler, a.log)
	}
	denied := func(from string, err error) {
		a.metrics.refused.WithLabelValues(string(identity.ReasonOf(err))).Inc()
		a.log.DebugContext(ctx, "caller of the API refused", "from", from, "err", err)
	}
	return serve.Run(ctx, admit.Listener(ln, a.cfg.Certificate, denied), admit.Handler(handler, denied), a.log)
}

// wake lets the writer look at once.
func (a *Agent) wake() {
	select {
	case a.kick <- struct{}{}:
	default: // it will look anyway
	}
}

const saveEvery = 5 * time.Second

// saving writes the state to disk now and then.
func (a *Agent) saving(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		a.mu.Lock()
		dirty := a.dirty
		a.mu.Unlock()
		if !dirty {
			continue
		}
		err := a.save()
		if err != nil && !failing {
			a.log.ErrorContext(ctx, "the state is not saved; is the disk full?", "err", err)
		}
		failing = err != nil
	}
}

func (a *Agent) save() error {
	a.disk.Lock()
	defer a.disk.Unlock()
	seen, where := a.gossip.Seen(), a.gossip.Known()
	a.mu.Lock()
	s := state.State{Incarnation: a.incarnation, Seen: seen, Known: where, Orders: a.book.All(), Penalties: map[string]vote.Penalty{}}
	for name, p := range a.penalties {
		if p.Points > 0 {
			s.Penalties[name] = p
		}
	}
	s.History = append(s.History, a.history...)
	a.dirty = false
	a.mu.Unlock()
	if err := a.dir.Save(s); err != nil {
		a.mu.Lock()
		a.dirty = true
		a.mu.Unlock()
		return err
	}
	return nil
}

// notifying tells Notify of entries, one after the other.
func (a *Agent) notifying(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-a.notes:
			if a.cfg.Notify != nil {
				a.cfg.Notify(ctx, e)
			}
		}
	}
}
