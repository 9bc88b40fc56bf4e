// Package executor runs the tasks of one node. It dials the scheduler, does
// what that asks with the node's Docker engine, learns from the node's Sidecar
// how the tasks are, and reports. What it must not forget it writes to disk
// first, so that it may be stopped, killed and replaced at any time: running
// containers are never touched by that, and are found again.
//
// One goroutine owns each task; package step decides what it does next. One
// goroutine owns the link to the scheduler, one watches the engine, one Sidecar.
package executor

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/checkpoint"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/executor/step"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// Executor runs the tasks of one node.
type Executor struct {
	cfg        Config
	address    netip.Addr
	registered *signal // the scheduler has taken the agent in, once at least
}

// New checks the configuration; nothing is started yet. Errors are Invalid.
func New(cfg Config) (*Executor, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	address, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	return &Executor{cfg: cfg, address: address, registered: newSignal()}, nil
}

// Ready waits until a scheduler has taken the agent in.
func (e *Executor) Ready(ctx context.Context) error {
	select {
	case <-e.registered.done:
		return nil
	case <-ctx.Done():
		return pancake.Errorf(pancake.Unavailable, "no scheduler at %v has taken the agent in", e.cfg.SchedulerAddrs)
	}
}

// signal says that something has happened, as often as it likes.
type signal struct {
	once sync.Once
	done chan struct{}
}

func newSignal() *signal { return &signal{done: make(chan struct{})} }

func (s *signal) set() { s.once.Do(func() { close(s.done) }) }

// node is a running executor.
type node struct {
	cfg     Config
	agent   pancake.Agent
	address netip.Addr
	log     *slog.Logger
	engine  *docker.Engine
	sidecar *client.Client
	store   *checkpoint.Store
	table   *table
	metrics *metrics
	dead    deadHosts
	// registered is set when a scheduler has taken the agent in.
	registered *signal
	// spawn runs the goroutine of a task.
	spawn func(*task)
}

// Run works until ctx is done, and returns nil then: the containers go on
// without it. It fails when it cannot start: Unavailable without a Docker
// engine, Conflict when another executor uses the data directory.
func (e *Executor) Run(ctx context.Context) error {
	unlock, err := checkpoint.Lock(dir(e.cfg.DataDir))
	if err != nil {
		return err
	}
	defer unlock()
	engine, err := docker.New(e.cfg.Docker)
	if err != nil {
		return err
	}
	defer engine.Close()
	if err := engine.Ping(ctx); err != nil {
		return err
	}
	n, err := e.node(ctx, engine)
	if err != nil {
		return err
	}
	unregister, err := n.metrics.register(e.cfg.Metrics)
	if err != nil {
		return err
	}
	defer unregister()

	g, ctx := errgroup.WithContext(ctx)
	n.spawn = func(t *task) {
		g.Go(func() error { t.run(ctx); return nil })
	}
	if err := n.restore(ctx); err != nil {
		return err
	}
	n.log.InfoContext(ctx, "executor started", "agent", n.agent.ID, "hostname", n.agent.Hostname,
		"address", n.agent.Address, "resources", n.agent.Resources.String(), "tasks", len(n.table.all()))
	g.Go(func() error { n.watchEngine(ctx); return nil })
	g.Go(func() error { n.reconcileEngine(ctx); return nil })
	g.Go(func() error { n.watchSidecar(ctx); return nil })
	g.Go(func() error { n.watchMembers(ctx); return nil })
	g.Go(func() error { n.link(ctx); return nil })
	return g.Wait()
}

func (e *Executor) node(ctx context.Context, engine *docker.Engine) (*node, error) {
	agent, err := e.cfg.agent(ctx, engine)
	if err != nil {
		return nil, err
	}
	store, err := checkpoint.Open(dir(e.cfg.DataDir))
	if err != nil {
		return nil, err
	}
	n := &node{
		cfg: e.cfg, agent: agent, address: e.address, log: e.cfg.Log, engine: engine,
		sidecar: &client.Client{URL: e.cfg.SidecarURL}, store: store, table: newTable(),
		registered: e.registered,
	}
	n.metrics = newMetrics(n.table)
	return n, nil
}

// restore takes up the tasks that were held before. What their containers do
// now each finds out by itself.
func (n *node) restore(ctx context.Context) error {
	records, setAside, err := n.store.Load()
	if err != nil {
		return err
	}
	for _, path := range setAside {
		n.log.ErrorContext(ctx, "damaged checkpoint set aside; its container is found by its labels", "path", path)
	}
	for _, rec := range records {
		n.hold(n.newTask(rec, step.Unknown))
	}
	return nil
}

// hold starts to own a task, unless it is or was owned already.
func (n *node) hold(t *task) bool {
	if !n.table.add(t) {
		return false
	}
	n.spawn(t)
	return true
}

// launch starts a task. One that is known already is only reported again.
func (n *node) launch(a agentlink.Assignment) {
	if n.hold(n.newTask(checkpoint.Record{Assignment: a}, step.Absent)) {
		n.metrics.launches.Inc()
		return
	}
	n.table.news(a.Task.ID, true)
}

// kill ends a task. One that is not known is reported lost, or as it ended, so
// that the scheduler stops asking.
func (n *node) kill(id string, k checkpoint.Kill) {
	t := n.table.get(id)
	if t == nil {
		n.table.news(id, true)
		return
	}
	t.mailbox.put(func(m *mail) bool {
		if m.kill != nil {
			k.Now = k.Now || m.kill.Now // there is no way back from now
		}
		changed := m.kill == nil || *m.kill != k
		m.kill = &k
		return changed
	})
	n.table.news(id, true)
}

// acknowledge notes that the scheduler has the statuses of a task up to sequence.
func (n *node) acknowledge(id string, sequence uint64) {
	if t := n.table.get(id); t != nil {
		t.mailbox.put(func(m *mail) bool {
			changed := sequence > m.acked
			m.acked = max(m.acked, sequence)
			return changed
		})
	}
}

// reconcile has the status of the named tasks, or of all, reported again.
func (n *node) reconcile(ids []string) {
	if len(ids) == 0 {
		for id := range n.table.all() {
			n.table.news(id, true)
		}
	}
	for _, id := range ids {
		n.table.news(id, true)
	}
}

// reject answers a launch that cannot be understood.
func (n *node) reject(id string, err error) {
	now := time.Now()
	n.table.reject(id, pancake.TaskStatus{
		State: pancake.TaskError, Sequence: ahead(now), Updated: now,
		Reason: pancake.ReasonCreate, Message: err.Error(),
	})
	n.table.news(id, true)
}
