package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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

	oneByOne := func(b *client.DeployBody) {
		b.Deploy.Strategy = pancake.Strategy{InstancesPerStep: 1, StepWaitMillis: 10}
	}
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
	t.Parallel()
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
