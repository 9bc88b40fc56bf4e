package scheduler_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler"
	"github.com/pancake-stack/pancake/scheduler/state"
)

func TestRestartKeepsTasksAndRedeliversLaunches(t *testing.T) {
	client := testkit.Etcd(t)
	s := start(t, client, "one")
	a := newAgent(t, "node-a", 4).start(s.grpc)
	s.ready(t, 1)
	s.release(t, body("1", 2))
	before := a.running()

	a.set(func() { a.mute = true })
	if _, err := s.Submit(t.Context(), body("2", 2)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deploy 2 was launched", func() bool { return len(a.launched()) == 4 })
	s.stop()
	a.halt()
	a.set(func() { a.mute = false })

	s = start(t, client, "one")
	a.start(s.grpc)
	if v := s.outcome(t, "2"); v.Deploy.State != pancake.DeploySucceeded {
		t.Fatalf("deploy 2: %s %s", v.Deploy.State, v.Deploy.Message)
	}
	eventually(t, "the old tasks are stopped", func() bool { return len(a.running()) == 2 })
	launches := a.launched()
	if len(launches) != 4 {
		t.Errorf("%d tasks were launched, want the same 4", len(launches))
	}
	for _, id := range before {
		if launches[id] != 1 {
			t.Errorf("running task %s was launched %d times", id, launches[id])
		}
	}

	// A restart with nothing to do changes nothing.
	before = a.running()
	s.stop()
	s = start(t, client, "one")
	a.set(func() { a.scheduler = s.grpc })
	a.halt()
	a.start(s.grpc)
	s.ready(t, 1)
	if got := a.running(); !slices.Equal(got, before) || len(a.launched()) != 4 {
		t.Errorf("after an idle restart %v run, before %v", got, before)
	}
}

func TestLostAgentIsReplacedAndCleanedUpWhenItReturns(t *testing.T) {
	t.Parallel()
	s := start(t, testkit.Etcd(t), "one", func(c *scheduler.Config) {
		c.Silence, c.HardTimeout = 300*time.Millisecond, time.Hour
	})
	a, b, c := newAgent(t, "node-a", 4).start(s.grpc), newAgent(t, "node-b", 4).start(s.grpc), newAgent(t, "node-c", 4).start(s.grpc)
	s.ready(t, 3)
	s.release(t, body("1", 3))
	lost := a.running()[0]
	a.halt()
	b.set(func() { b.dead = []string{"node-a"} })
	// One of two others is no majority. Two ticks later nothing may have changed.
	time.Sleep(2500 * time.Millisecond)
	if tasks := s.live(t); len(tasks) != 3 {
		t.Fatalf("%d tasks, the agent was given up too early", len(tasks))
	}
	c.set(func() { c.dead = []string{"node-a", "somebody"} })
	eventually(t, "its task is replaced", func() bool { return len(b.running())+len(c.running()) == 3 })
	ended, err := s.Tasks(t.Context(), "dev_hello", true)
	if err != nil || !slices.ContainsFunc(ended, func(t pancake.Task) bool {
		return t.ID == lost && t.Status.State == pancake.TaskUnreachable && t.Status.Reason == pancake.ReasonAgentLost
	}) {
		t.Errorf("history %v, %v", ended, err)
	}

	a.start(s.grpc)
	eventually(t, "its stale task is stopped", func() bool { return len(a.running()) == 0 })
	s.ready(t, 3)
	if tasks := s.live(t); len(tasks) != 3 || slices.ContainsFunc(tasks, func(t pancake.Task) bool { return t.ID == lost }) {
		t.Errorf("live tasks %v", tasks)
	}
}

func TestHardTimeoutAndTasksThatAnAgentForgot(t *testing.T) {
	t.Parallel()
	s := start(t, testkit.Etcd(t), "one", func(c *scheduler.Config) { c.Silence, c.HardTimeout = 100*time.Millisecond, 500*time.Millisecond })
	a := newAgent(t, "node-a", 4).start(s.grpc)
	s.ready(t, 1)
	s.release(t, body("1", 1))
	first := a.running()[0]
	a.halt()
	eventually(t, "the task waits for an agent", func() bool {
		r, err := s.Request(t.Context(), "dev_hello")
		return err == nil && len(r.Tasks) == 0 && len(r.Unplaced) == 1 && r.Unplaced[0].Reasons[0].Message == "1 agent is not active: node-a is UNREACHABLE"
	})
	a.set(func() { clear(a.tasks) }) // it lost everything
	a.start(s.grpc)
	eventually(t, "a new task runs", func() bool { return len(a.running()) == 1 && a.running()[0] != first })

	second := a.running()[0]
	eventually(t, "the scheduler knows that it runs", func() bool { // else it would launch it once more
		return slices.ContainsFunc(s.live(t), func(t pancake.Task) bool { return t.ID == second && t.Status.State == pancake.TaskRunning })
	})
	a.halt()
	a.set(func() { clear(a.tasks) })
	a.start(s.grpc)
	eventually(t, "what it came back without is replaced", func() bool { return len(a.running()) == 1 && a.running()[0] != second })
	task, err := s.Tasks(t.Context(), "dev_hello", true)
	if err != nil || !slices.ContainsFunc(task, func(t pancake.Task) bool { return t.ID == second && t.Status.State == pancake.TaskLost }) {
		t.Errorf("history %+v, %v", task, err)
	}
}

func TestUnknownTasksAreStoppedAndStaleStatusesIgnored(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4)
	a.tasks["stranger"] = pancake.TaskStatus{State: pancake.TaskRunning, Sequence: 4}
	a.tasks["ended"] = pancake.TaskStatus{State: pancake.TaskFailed, Sequence: 9}
	a.start(s.grpc)
	eventually(t, "the unknown task is stopped and the ended one acknowledged", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.tasks) == 0 && a.kills["stranger"] > 0 && a.kills["ended"] == 0
	})
	s.ready(t, 1)
	s.release(t, body("1", 1))
	id := a.running()[0]
	eventually(t, "all that the agent has sent is acknowledged", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.acked[id] == a.tasks[id].Sequence
	})
	a.set(func() { a.acked[id] = 0 })
	a.send(id, pancake.TaskStatus{State: pancake.TaskFailed, Sequence: 1})
	eventually(t, "the stale status is acknowledged", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.acked[id] == 1
	})
	if tasks := s.live(t); len(tasks) != 1 || tasks[0].Status.State != pancake.TaskRunning {
		t.Errorf("tasks %+v", tasks)
	}
}

func TestKillIsRepeatedUntilAnswered(t *testing.T) {
	t.Parallel()
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4).start(s.grpc)
	s.ready(t, 1)
	s.release(t, body("1", 1))
	id := a.running()[0]
	a.set(func() { a.sticky = true })
	if err := s.KillTask(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kill is repeated, and another task started", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.kills[id] >= 2 && len(a.tasks) == 2
	})
	a.set(func() { a.sticky = false })
	eventually(t, "it is stopped", func() bool { return len(a.running()) == 1 && a.running()[0] != id })
	if err := s.KillTask(t.Context(), id); pancake.KindOf(err) != pancake.Conflict {
		t.Errorf("kill of an ended task: %v", err)
	}
}

// gate is a store whose writes can be held up, as by a partition.
type gate struct {
	scheduler.Store
	hold chan struct{} // writes wait while it is not nil and open
	mu   sync.Mutex
	late chan error // how a write ended that had been held up
}

func (g *gate) Commit(ctx context.Context, term state.Term, changes []state.Change) error {
	g.mu.Lock()
	hold := g.hold
	g.mu.Unlock()
	if hold == nil {
		return g.Store.Commit(ctx, term, changes)
	}
	<-hold
	err := g.Store.Commit(ctx, term, changes)
	g.late <- err
	return err
}

func TestSecondSchedulerTakesOver(t *testing.T) {
	cl := testkit.Etcd(t)
	g := &gate{late: make(chan error, 1)}
	one := start(t, cl, "one", func(c *scheduler.Config) { g.Store, c.Store = c.Store, g })
	eventually(t, "one leads", func() bool { l, err := one.Leader(t.Context()); return err == nil && l.Self })
	two := start(t, cl, "two")
	eventually(t, "two follows", func() bool { l, err := two.Leader(t.Context()); return err == nil && l.ID == "one" && !l.Self })

	// Agents and callers reach the leader through the follower.
	a := newAgent(t, "node-a", 4).start(two.grpc)
	two.ready(t, 1)
	two.release(t, body("1", 1))
	before := a.running()

	// One's write hangs while it loses the lead.
	g.mu.Lock()
	g.hold = make(chan struct{})
	g.mu.Unlock()
	hung := make(chan error, 1)
	go func() { _, err := one.Scale(context.Background(), "dev_hello", 3); hung <- err }()
	leases, err := cl.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := cl.Get(t.Context(), "/pancake/v1/leader/", clientv3.WithFirstCreate()...)
	if err != nil || len(leases.Leases) != 2 {
		t.Fatalf("leader's key: %v, %v", leases, err)
	}
	if _, err := cl.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two leads", func() bool { l, err := two.Leader(t.Context()); return err == nil && l.Self })
	close(g.hold)
	if err := <-g.late; !errors.Is(err, state.ErrDeposed) {
		t.Errorf("the late write: %v, want ErrDeposed", err)
	}
	if err := <-hung; pancake.KindOf(err) != pancake.Unavailable {
		t.Errorf("the caller of the late write got %v", err)
	}
	two.ready(t, 1)
	r, err := two.Request(t.Context(), "dev_hello")
	if err != nil || r.Request.Instances != 1 || !slices.Equal(a.running(), before) {
		t.Errorf("%d instances, running %v, before %v, %v", r.Request.Instances, a.running(), before, err)
	}
	g.mu.Lock()
	g.hold = nil
	g.mu.Unlock()
	two.stop()
	eventually(t, "one leads again", func() bool { l, err := one.Leader(t.Context()); return err == nil && l.Self })
}
