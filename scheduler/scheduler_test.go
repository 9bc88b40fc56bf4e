package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/etcd"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// limit bounds every wait; nothing here should come near it.
const limit = 30 * time.Second

// running is one scheduler of a test.
type running struct {
	*client.Client
	grpc string
	stop func() // and wait until it has
}

type option func(*scheduler.Config)

func start(t *testing.T, etcdClient *clientv3.Client, id string, options ...option) *running {
	t.Helper()
	store, err := etcd.Open(t.Context(), etcdClient)
	if err != nil {
		t.Fatal(err)
	}
	cfg := scheduler.Config{
		ID: id, Store: store, HTTP: listen(t), GRPC: listen(t), Log: slog.New(slog.DiscardHandler),
		Heartbeat: 50 * time.Millisecond,
	}
	for _, o := range options {
		o(&cfg)
	}
	s, err := scheduler.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run of %s: %v", id, err)
		}
	})
	t.Cleanup(stop)
	return &running{Client: &client.Client{URL: cfg.HTTP.Addr().String()}, grpc: cfg.GRPC.Addr().String(), stop: stop}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// eventually polls until ok says that what is waited for has come.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

func body(deploy string, instances int, change ...func(*client.DeployBody)) client.DeployBody {
	b := client.DeployBody{
		Request: pancake.Request{ID: "dev_hello", Instances: instances},
		Deploy: pancake.Deploy{
			ID: deploy, Tag: deploy, Resources: pancake.Resources{CPUs: pancake.CPUs(0.5), MemoryMB: 64},
			Container: pancake.Container{Image: "hello:" + deploy, Ports: []pancake.PortMapping{{ContainerPort: 8080}}},
		},
	}
	for _, fn := range change {
		fn(&b)
	}
	return b
}

// release submits a deploy and waits until it is over.
func (s *running) release(t *testing.T, b client.DeployBody) client.DeployView {
	t.Helper()
	if _, err := s.Submit(t.Context(), b); err != nil {
		t.Fatalf("submit %s: %v", b.Deploy.ID, err)
	}
	return s.outcome(t, b.Deploy.ID)
}

func (s *running) outcome(t *testing.T, deploy string) (view client.DeployView) {
	t.Helper()
	eventually(t, "deploy "+deploy+" is over", func() bool {
		v, err := s.Deploy(t.Context(), "dev_hello", deploy)
		view = v
		return err == nil && v.Deploy.State.Final()
	})
	return view
}

// ready waits until agents are connected.
func (s *running) ready(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d agents connected", n), func() bool {
		views, err := s.Agents(t.Context())
		connected := 0
		for _, v := range views {
			if v.Connected && v.Agent.State == pancake.AgentActive {
				connected++
			}
		}
		return err == nil && connected == n
	})
}

func (s *running) live(t *testing.T) []pancake.Task {
	t.Helper()
	tasks, err := s.Tasks(t.Context(), "dev_hello", false)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

func TestDeployRollingUpdateScaleDelete(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a, b := newAgent(t, "node-a", 4).start(s.grpc), newAgent(t, "node-b", 4).start(s.grpc)
	s.ready(t, 2)

	v := s.release(t, body("1", 2))
	if v.Deploy.State != pancake.DeploySucceeded || len(v.Tasks) != 2 {
		t.Fatalf("deploy 1: %s %q with %d tasks", v.Deploy.State, v.Deploy.Message, len(v.Tasks))
	}
	if len(a.running()) != 1 || len(b.running()) != 1 {
		t.Errorf("not spread: %v and %v", a.running(), b.running())
	}
	for _, task := range v.Tasks {
		if task.FirstHealthy.IsZero() || task.Created.Before(v.Deploy.Created) || task.Ports[0].HostPort < 31000 {
			t.Errorf("task %+v", task)
		}
	}

	oneByOne := func(b *client.DeployBody) { b.Deploy.Strategy = pancake.Strategy{InstancesPerStep: 1, StepWaitMillis: 10} }
	v = s.release(t, body("2", 2, oneByOne))
	if v.Deploy.State != pancake.DeploySucceeded {
		t.Fatalf("deploy 2: %s %q", v.Deploy.State, v.Deploy.Message)
	}
	eventually(t, "only tasks of deploy 2 are left, one on each agent", func() bool {
		tasks := s.live(t)
		return len(tasks) == 2 && tasks[0].DeployID == "2" && tasks[1].DeployID == "2" && tasks[0].AgentID != tasks[1].AgentID &&
			len(a.running()) == 1 && len(b.running()) == 1
	})

	if _, err := s.Submit(t.Context(), body("2", 2)); pancake.KindOf(err) != pancake.Conflict || err.Error() != "deploy 2 of dev_hello is already active" {
		t.Errorf("same deploy again: %v", err)
	}
	if _, err := s.Scale(t.Context(), "dev_hello", 4); err != nil {
		t.Fatal(err)
	}
	eventually(t, "4 run", func() bool { return len(a.running())+len(b.running()) == 4 })
	if _, err := s.Scale(t.Context(), "dev_hello", 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "1 runs", func() bool { return len(a.running())+len(b.running()) == 1 })

	if err := s.Delete(t.Context(), "dev_hello"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request is gone", func() bool {
		_, err := s.Request(t.Context(), "dev_hello")
		return pancake.KindOf(err) == pancake.NotFound
	})
	if n := len(a.running()) + len(b.running()); n != 0 {
		t.Errorf("%d tasks still run", n)
	}
}

func TestFailedDeployKeepsTheOldOne(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4).start(s.grpc)
	s.ready(t, 1)
	s.release(t, body("1", 2))
	before := a.running()

	a.set(func() { a.script = crashing })
	v := s.release(t, body("2", 3))
	if v.Deploy.State != pancake.DeployFailed || len(v.Deploy.Failures) == 0 {
		t.Fatalf("deploy 2: %s %+v", v.Deploy.State, v.Deploy.Failures)
	}
	f := v.Deploy.Failures[0]
	if f.Reason != pancake.FailedOnStartup || !strings.Contains(f.Message, "exited with code 3") || !slices.Equal(f.Log, []string{"no database"}) || f.TaskID == "" {
		t.Errorf("failure %+v", f)
	}
	r, err := s.Request(t.Context(), "dev_hello")
	if err != nil || r.Request.ActiveDeploy != "1" || r.Request.PendingDeploy != "" || r.Request.Instances != 2 || !strings.Contains(r.LastFailure, "exited with code 3") {
		t.Errorf("request %+v, %q, %v", r.Request, r.LastFailure, err)
	}
	eventually(t, "exactly the old tasks run", func() bool { return slices.Equal(a.running(), before) })
}

func TestFailedTaskIsRestartedElsewhereInItsRange(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4).start(s.grpc)
	s.ready(t, 1)
	s.release(t, body("1", 1))
	first := a.running()[0]
	a.becomes(first, pancake.TaskStatus{State: pancake.TaskFailed, Reason: pancake.ReasonExited, Message: "killed"})
	eventually(t, "another task runs", func() bool { return len(a.running()) == 1 && a.running()[0] != first })
	second := a.running()[0]
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ports[first][0] == a.ports[second][0] {
		t.Errorf("port %d was handed out again at once", a.ports[first][0])
	}
}

func TestNoRoomChangesNothing(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	eventually(t, "leads", func() bool { _, err := s.Leader(t.Context()); return err == nil })
	if _, err := s.Submit(t.Context(), body("1", 1)); pancake.KindOf(err) != pancake.NoRoom || !strings.Contains(err.Error(), "no agent has registered") {
		t.Errorf("without agents: %v", err)
	}
	newAgent(t, "node-a", 1).start(s.grpc)
	s.ready(t, 1)
	_, err := s.Submit(t.Context(), body("1", 3))
	want := "no room for 1 of 3 instances of dev_hello: cpus: 1 agent has too little; the nearest, node-a, has 0 free of the 0.5 needed: 0.5 short"
	if pancake.KindOf(err) != pancake.NoRoom || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if rs, err := s.Requests(t.Context()); err != nil || len(rs) != 0 {
		t.Errorf("something was stored: %v, %v", rs, err)
	}
	v, err := s.Submit(t.Context(), body("1", 2, func(b *client.DeployBody) { b.DryRun = true }))
	if err != nil || len(v.Tasks) != 2 || v.Tasks[0].Hostname != "node-a" {
		t.Errorf("dry run: %+v, %v", v, err)
	}
	if rs, err := s.Requests(t.Context()); err != nil || len(rs) != 0 {
		t.Errorf("the dry run stored something: %v, %v", rs, err)
	}
	// A rolling deploy needs room for a step only, so it fits.
	s.release(t, body("1", 1))
	if v := s.release(t, body("2", 2, func(b *client.DeployBody) { b.Deploy.Strategy.InstancesPerStep = 1 })); v.Deploy.State != pancake.DeploySucceeded {
		t.Errorf("deploy 2: %s %s", v.Deploy.State, v.Deploy.Message)
	}
	if _, err := s.Scale(t.Context(), "dev_hello", 3); pancake.KindOf(err) != pancake.NoRoom {
		t.Errorf("scale beyond the room: %v", err)
	}
}

func TestOverdueDeploySaysWhatItWaitedFor(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4)
	a.script = func(agentlink.Assignment) []pancake.TaskStatus {
		return []pancake.TaskStatus{{State: pancake.TaskRunning, Health: pancake.Unhealthy, HealthNote: "connection refused"}}
	}
	a.start(s.grpc)
	s.ready(t, 1)
	v := s.release(t, body("1", 1, func(b *client.DeployBody) { b.Deploy.Health.TimeoutSeconds = 1 }))
	if v.Deploy.State != pancake.DeployOverdue || !strings.Contains(v.Deploy.Message, "UNHEALTHY: connection refused") {
		t.Errorf("%s %q", v.Deploy.State, v.Deploy.Message)
	}
	eventually(t, "its task is stopped", func() bool { return len(a.running()) == 0 })
}

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

func TestEventsAndLogs(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4)
	a.logs = []string{"hello\n", "world\r\n"}
	a.start(s.grpc)
	s.ready(t, 1)

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	enough := errors.New("enough")
	var seen []client.Event
	watching := make(chan error, 1)
	go func() {
		watching <- s.Events(ctx, "dev_hello", 1, func(e client.Event) error { // 1: whatever is kept
			seen = append(seen, e)
			if e.Type == client.EventDeploy && e.Body.Deploy.State.Final() {
				return enough
			}
			return nil
		})
	}()
	v := s.release(t, body("1", 1))
	if err := <-watching; !errors.Is(err, enough) {
		t.Fatal(err)
	}
	states := map[string]bool{}
	for i, e := range seen {
		if i > 0 && e.ID <= seen[i-1].ID {
			t.Errorf("event ids %d, %d", seen[i-1].ID, e.ID)
		}
		if e.Type == client.EventTask {
			states[string(e.Body.Task.Status.State)+" "+string(e.Body.Task.Status.Health)] = true
		}
	}
	want := []string{"TASK_RUNNING ", "TASK_RUNNING HEALTHY", "TASK_STAGING ", "TASK_STARTING "}
	if got := slices.Sorted(maps.Keys(states)); !slices.Equal(got, want) {
		t.Errorf("task states seen: %q", got)
	}
	// Resuming from an event repeats nothing.
	var next client.Event
	err := s.Events(ctx, "dev_hello", seen[1].ID, func(e client.Event) error { next = e; return enough })
	if !errors.Is(err, enough) || next.ID != seen[2].ID {
		t.Errorf("resumed at %d, want %d: %v", next.ID, seen[2].ID, err)
	}

	var lines []client.LogLine
	collect := func(l client.LogLine) error { lines = append(lines, l); return nil }
	if err := s.Logs(ctx, v.Tasks[0].ID, 10, false, collect); err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, l := range lines {
		text = append(text, l.Source+" "+l.Text)
	}
	if want := []string{"stderr error 0", "stdout hello", "stderr error 1", "stdout world"}; !slices.Equal(text, want) {
		t.Errorf("logs %q", text)
	}
	if err := s.Logs(ctx, v.Tasks[0].ID, 0, true, func(l client.LogLine) error {
		if l.Text == "world" {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) {
		t.Errorf("follow: %v", err)
	}
	a.halt()
	if err := s.Logs(ctx, v.Tasks[0].ID, 0, false, collect); pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), "not connected") {
		t.Errorf("logs without the agent: %v", err)
	}
}

func TestHTTPRefusals(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	eventually(t, "ready", func() bool {
		resp, err := http.Get("http://" + s.URL + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	tests := map[string]struct {
		method, path, body string
		status             int
		text               string
	}{
		"unknown field":    {"POST", "/v1/deploys", `{"reqest":{}}`, 400, "unknown field"},
		"not JSON":         {"POST", "/v1/deploys", `x`, 400, "not the JSON"},
		"too large":        {"POST", "/v1/deploys", `{"request":{"id":"` + strings.Repeat("x", 600<<10) + `"}}`, 400, "larger than"},
		"no id":            {"POST", "/v1/deploys", `{}`, 400, "Id cannot be null"},
		"scale to nothing": {"POST", "/v1/requests/x/scale", `{"instances":0}`, 400, "Instances must be greater than 0"},
		"scale nobody":     {"POST", "/v1/requests/x/scale", `{"instances":1}`, 404, "Couldn't find request with id x"},
		"no request":       {"GET", "/v1/requests/x", ``, 404, "Couldn't find request"},
		"no deploys":       {"GET", "/v1/requests/x/deploys", ``, 404, "Couldn't find request"},
		"no task":          {"GET", "/v1/tasks/x", ``, 404, "Couldn't find task"},
		"kill no task":     {"POST", "/v1/tasks/x/kill", ``, 404, "Couldn't find task"},
		"logs of no task":  {"GET", "/v1/tasks/x/logs", ``, 404, "Couldn't find task"},
		"bad tail":         {"GET", "/v1/tasks/x/logs?tail=-1", ``, 400, "tail"},
		"bad flag":         {"GET", "/v1/tasks?history=maybe", ``, 400, "neither true nor false"},
		"no such path":     {"GET", "/v1/nothing", ``, 404, "there is no GET /v1/nothing"},
		"metrics":          {"GET", "/metrics", ``, 200, "pancake_scheduler_leads 1"},
		"health":           {"GET", "/healthz", ``, 200, ""},
		"empty lists":      {"GET", "/v1/requests", ``, 200, "[]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+s.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(text), tt.text) {
				t.Errorf("%d %s, %v", resp.StatusCode, text, err)
			}
		})
	}
}
