// Package scheduler decides where tasks run and sees that they do. Several
// may run at a time: one leads, the others hand API calls on to it and send
// agents to it.
//
// What it does passes through one goroutine, in turns: commands and statuses
// that have arrived are applied, the requests they touch are reconciled
// (deploy), what is missing gets an agent (plan), all of it is stored in one go
// (etcd), and only then are agents told and callers answered.
package scheduler

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/agents"
	"github.com/pancake-stack/pancake/scheduler/guard"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// Store is what the scheduler needs from etcd, and no more.
type Store interface {
	// Lead waits until me leads, calls fn with the term, and steps down when fn returns.
	Lead(ctx context.Context, me state.Leader, fn func(context.Context, state.Term) error) error
	// Observe calls fn with the leader now and whenever it changes, until ctx ends.
	Observe(ctx context.Context, fn func(state.Leader)) error
	Load(ctx context.Context) (*state.State, error)
	// Commit stores changes in order, each as a whole. It may be repeated. It
	// fails with state.ErrDeposed when the term is over, and with an error of kind
	// Unavailable when a retry may help.
	Commit(ctx context.Context, term state.Term, changes []state.Change) error
}

// Config says how a Scheduler runs.
type Config struct {
	// ID tells schedulers apart: no two that run at the same time may share
	// one, and one that is restarted should keep its own. Required.
	ID    string
	Store Store // required
	// HTTP and GRPC are where it serves the API and agents. Required; Run closes them.
	HTTP, GRPC net.Listener
	// AdvertiseHTTP and AdvertiseGRPC are the host:port where other schedulers
	// and agents reach it. Default: the listeners' own.
	AdvertiseHTTP, AdvertiseGRPC string
	// Heartbeat is how often agents report. Default 2 s.
	Heartbeat time.Duration
	// Silence is how long an agent must be silent before it is lost when most of
	// the others' gossip calls it dead, too. Default 5 s.
	Silence time.Duration
	// HardTimeout is how long until it is lost in any case. Default 60 s.
	HardTimeout time.Duration
	// Replacements is how many tasks of lost agents are replaced per second, once
	// ReplacementBurst have been at once. Default 50 and 200.
	Replacements, ReplacementBurst int
	// Guard, if set, makes the scheduler secure: TLS, and who may do what. Run runs it.
	Guard *guard.Guard
	// Log defaults to slog.Default.
	Log *slog.Logger
}

// Scheduler is one scheduler of a cluster.
type Scheduler struct {
	cfg     Config
	log     *slog.Logger
	links   *agents.Server
	metrics *metrics

	leader  atomic.Pointer[state.Leader] // whom the store names; nil or without ID while there is none
	current atomic.Pointer[lead]         // set while this scheduler leads
}

// New checks the configuration.
func New(cfg Config) (*Scheduler, error) {
	if cfg.ID == "" || cfg.Store == nil || cfg.HTTP == nil || cfg.GRPC == nil {
		return nil, pancake.Errorf(pancake.Invalid, "a scheduler needs an ID, a store, and listeners for HTTP and gRPC")
	}
	cfg.AdvertiseHTTP = cmp.Or(cfg.AdvertiseHTTP, cfg.HTTP.Addr().String())
	cfg.AdvertiseGRPC = cmp.Or(cfg.AdvertiseGRPC, cfg.GRPC.Addr().String())
	cfg.Silence = cmp.Or(cfg.Silence, 5*time.Second)
	cfg.HardTimeout = cmp.Or(cfg.HardTimeout, time.Minute)
	cfg.Replacements = cmp.Or(cfg.Replacements, 50)
	cfg.ReplacementBurst = cmp.Or(cfg.ReplacementBurst, 200)
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	s := &Scheduler{cfg: cfg, log: cfg.Log}
	links := agents.Config{Leader: s.leaderGRPC, Heartbeat: cfg.Heartbeat}
	if cfg.Guard != nil {
		links.Security = cfg.Guard
	}
	s.links = agents.New(links)
	s.metrics = newMetrics(s)
	if cfg.Guard != nil {
		s.metrics.registry.MustRegister(cfg.Guard.Metrics()...)
		cfg.Guard.Watch(guard.Watcher{Changed: s.links.Share, Revoked: s.links.Drop})
	}
	return s, nil
}

// Run serves until ctx ends, and returns its error.
func (s *Scheduler) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.cfg.Guard != nil {
		g.Go(func() error { return s.cfg.Guard.Run(ctx) })
	}
	g.Go(func() error { return serve.Run(ctx, s.listener(), s.handler(), s.log) })
	g.Go(func() error { return s.serveAgents(ctx) })
	g.Go(func() error { return s.observe(ctx) })
	g.Go(func() error { return s.campaign(ctx) })
	return g.Wait()
}

// maxStreams is how many streams one agent may have at a time: its session, and
// the logs that people read of it.
const maxStreams = 256

// serveAgents runs the gRPC server. A connection that is dead without a word
// is noticed within 15 s.
func (s *Scheduler) serveAgents(ctx context.Context) error {
	opts := agentlink.ServerOptions()
	if s.cfg.Guard != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(s.cfg.Guard.ServerTLS())), grpc.MaxConcurrentStreams(maxStreams))
	}
	srv := grpc.NewServer(opts...)
	agentlink.RegisterAgentLinkServer(srv, s.links)
	if s.cfg.Guard != nil {
		agentlink.RegisterIdentityServer(srv, s.cfg.Guard.Identity())
	}
	done := context.AfterFunc(ctx, srv.Stop) // sessions have no end of their own to wait for
	defer done()
	if err := srv.Serve(s.cfg.GRPC); err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// observe keeps leader up to date. While etcd does not answer, the leader that
// was known last counts.
func (s *Scheduler) observe(ctx context.Context) error {
	return s.repeat(ctx, "observe the leader", func() error {
		return s.cfg.Store.Observe(ctx, func(l state.Leader) {
			s.leader.Store(&l)
			s.log.InfoContext(ctx, "leader is known", "leader", l.ID, "http", l.HTTP)
		})
	})
}

// campaign leads whenever it is this scheduler's turn, until ctx ends.
func (s *Scheduler) campaign(ctx context.Context) error {
	me := state.Leader{ID: s.cfg.ID, HTTP: s.cfg.AdvertiseHTTP, GRPC: s.cfg.AdvertiseGRPC}
	return s.repeat(ctx, "lead", func() error {
		return s.cfg.Store.Lead(ctx, me, s.lead)
	})
}

// repeat calls fn until ctx ends, with growing pauses while it fails at once.
func (s *Scheduler) repeat(ctx context.Context, what string, fn func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 5*time.Second
	for {
		began := time.Now()
		err := fn()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			s.log.WarnContext(ctx, "failed and will be tried again", "what", what, "err", err)
		}
		if time.Since(began) > time.Minute {
			pause.Reset()
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lead restores the state and leads until the term is over.
func (s *Scheduler) lead(ctx context.Context, term state.Term) error {
	began := time.Now()
	st, err := s.cfg.Store.Load(ctx)
	if err != nil {
		return err
	}
	l := newLead(s, term, st)
	s.log.InfoContext(ctx, "leads", "id", s.cfg.ID, "term", term.Revision, "requests", len(st.Requests), "tasks", len(st.Tasks),
		"agents", len(st.Agents), "restored_in", time.Since(began))
	s.current.Store(l)
	s.links.SetOwner(l)
	defer func() {
		s.current.Store(nil)
		s.links.SetOwner(nil)
		l.events.Close()
	}()
	return l.run(ctx)
}

// leaderGRPC is where agents should go; "" while nobody leads, or while this
// scheduler itself is about to.
func (s *Scheduler) leaderGRPC() string {
	if l := s.leader.Load(); l != nil && l.ID != s.cfg.ID {
		return l.GRPC
	}
	return ""
}
