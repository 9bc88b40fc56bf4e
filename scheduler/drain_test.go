package scheduler_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// watchHealthy notes, change by change, the fewest instances that were healthy.
func (s *running) watchHealthy(t *testing.T) (fewest func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	healthy := map[string]int{} // by task, its instance
	for _, task := range s.live(t) {
		healthy[task.ID] = task.Instance
	}
	least := make(chan int, 1)
	go func() {
		n := 1000
		_ = s.Events(ctx, "dev_hello", 0, func(e client.Event) error {
			if e.Body == nil {
				return nil
			}
			if task := e.Body.Task; task != nil {
				delete(healthy, task.ID)
				if task.Desired == pancake.DesiredRun && task.Status.Health == pancake.Healthy {
					healthy[task.ID] = task.Instance
				}
				instances := map[int]bool{}
				for _, i := range healthy {
					instances[i] = true
				}
				n = min(n, len(instances))
			}
			return nil
		})
		least <- n
	}()
	time.Sleep(50 * time.Millisecond) // until the stream stands; what comes before only makes the check weaker
	return func() int { cancel(); return <-least }
}

func (s *running) state(t *testing.T, agent string) pancake.AgentState {
	t.Helper()
	v, err := s.Agent(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	return v.Agent.State
}

func TestDrainReplacesTasksElsewhereFirst(t *testing.T) {
	store := testkit.Etcd(t)
	s := start(t, store, "one")
	a, b, c := newAgent(t, "node-a", 4).start(s.grpc), newAgent(t, "node-b", 4).start(s.grpc), newAgent(t, "node-c", 4)
	s.ready(t, 2)
	s.release(t, body("1", 6))
	c.start(s.grpc)
	s.ready(t, 3)

	fewest := s.watchHealthy(t)
	if v, err := s.DecommissionAgent(t.Context(), a.info.ID, 2); err != nil || v.Agent.State != pancake.AgentDecommissioning || v.Agent.Parallel != 2 || v.Tasks != 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	eventually(t, "the agent is empty", func() bool { return s.state(t, a.info.ID) == pancake.AgentDecommissioned })
	if n := fewest(); n < 6 {
		t.Errorf("only %d of 6 instances were healthy", n)
	}
	if n := len(b.running()) + len(c.running()); len(a.running()) != 0 || n != 6 {
		t.Errorf("%d run there, %d elsewhere", len(a.running()), n)
	}
	moved, err := s.Tasks(t.Context(), "dev_hello", true)
	if err != nil || !slices.ContainsFunc(moved, func(task pancake.Task) bool {
		return task.AgentID == a.info.ID && task.Status.State == pancake.TaskKilled && strings.HasPrefix(task.KillReason, "its agent is decommissioned; instance ")
	}) {
		t.Errorf("history %+v, %v", moved, err)
	}
	if err := s.ForgetAgent(t.Context(), a.info.ID); pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), "is connected") {
		t.Errorf("forget while it is there: %v", err)
	}

	// The wish outlives scheduler and agent, and new tasks go elsewhere.
	s.stop()
	for _, agent := range []*fakeAgent{a, b, c} {
		agent.halt()
	}
	s = start(t, store, "one")
	for _, agent := range []*fakeAgent{a, b, c} {
		agent.start(s.grpc)
	}
	s.ready(t, 2)
	eventually(t, "it is back", func() bool { v, err := s.Agent(t.Context(), a.info.ID); return err == nil && v.Connected })
	if got := s.state(t, a.info.ID); got != pancake.AgentDecommissioned {
		t.Errorf("after a restart it is %s", got)
	}
	if _, err := s.Scale(t.Context(), "dev_hello", 8); err != nil {
		t.Fatal(err)
	}
	eventually(t, "8 run elsewhere", func() bool { return len(b.running())+len(c.running()) == 8 })
	if len(a.launched()) != 3 {
		t.Errorf("%d tasks were launched on the drained agent in all, want 3", len(a.launched()))
	}

	a.halt()
	eventually(t, "it is forgotten", func() bool { return s.ForgetAgent(t.Context(), a.info.ID) == nil })
	if _, err := s.Agent(t.Context(), a.info.ID); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("forgotten: %v", err)
	}
	if err := s.ForgetAgent(t.Context(), a.info.ID); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("forgotten twice: %v", err)
	}
	if err := s.ForgetAgent(t.Context(), b.info.ID); pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), "is ACTIVE") {
		t.Errorf("forget one that works: %v", err)
	}
	s.stop()
	s = start(t, store, "one")
	eventually(t, "2 agents are known", func() bool { views, err := s.Agents(t.Context()); return err == nil && len(views) == 2 })
}

func TestDrainIsBoundedAndCanBeTakenBack(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4).start(s.grpc)
	s.ready(t, 1)
	s.release(t, body("1", 6))
	before := a.running()
	b := newAgent(t, "node-b", 4)
	b.script = func(agentlink.Assignment) []pancake.TaskStatus {
		return []pancake.TaskStatus{{State: pancake.TaskStarting}}
	}
	b.start(s.grpc)
	s.ready(t, 2)
	if _, err := s.DecommissionAgent(t.Context(), a.info.ID, 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "2 replacements start", func() bool { return len(b.launched()) == 2 })
	time.Sleep(1500 * time.Millisecond) // a tick of the scheduler: there could be more by now
	if n := len(b.launched()); n != 2 || !slices.Equal(a.running(), before) {
		t.Fatalf("%d are replaced at a time, want 2; %v still run, want %v", n, a.running(), before)
	}
	if _, err := s.DecommissionAgent(t.Context(), a.info.ID, 3); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a third replacement starts", func() bool { return len(b.launched()) == 3 })

	if v, err := s.ActivateAgent(t.Context(), a.info.ID); err != nil || v.Agent.State != pancake.AgentActive || v.Agent.Wanted != "" || v.Agent.Parallel != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	eventually(t, "the replacements go", func() bool { return len(b.running()) == 0 && len(s.live(t)) == 6 })
	if !slices.Equal(a.running(), before) {
		t.Errorf("%v run, want %v", a.running(), before)
	}
}

func TestDrainWaitsForRoomAndSaysSo(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4).start(s.grpc)
	newAgent(t, "node-b", 0.5).start(s.grpc)
	s.ready(t, 2)
	s.release(t, body("1", 3)) // one on each, and one more on node-a
	if _, err := s.DecommissionAgent(t.Context(), a.info.ID, 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both of its instances wait for room", func() bool {
		r, err := s.Request(t.Context(), "dev_hello")
		return err == nil && len(r.Unplaced) == 2 && len(r.Tasks) == 3 && strings.Contains(reason(r), "node-a is DECOMMISSIONING")
	})
	newAgent(t, "node-c", 4).start(s.grpc)
	eventually(t, "there is room", func() bool { return s.state(t, a.info.ID) == pancake.AgentDecommissioned })
}

func reason(r client.RequestView) string {
	for _, why := range r.Unplaced[0].Reasons {
		if why.Constraint == "state" {
			return why.Message
		}
	}
	return ""
}

func TestFrozenAgentKeepsItsTasksAndGetsNoMore(t *testing.T) {
	t.Parallel()
	s := start(t, testkit.Etcd(t), "one", func(c *scheduler.Config) { c.Silence, c.HardTimeout = 100*time.Millisecond, 500*time.Millisecond })
	a, b := newAgent(t, "node-a", 4).start(s.grpc), newAgent(t, "node-b", 4)
	s.ready(t, 1)
	s.release(t, body("1", 2))
	before := a.running()
	if v, err := s.FreezeAgent(t.Context(), a.info.ID); err != nil || v.Agent.State != pancake.AgentFrozen {
		t.Fatalf("%+v, %v", v, err)
	}
	b.start(s.grpc)
	s.ready(t, 1)
	if _, err := s.Scale(t.Context(), "dev_hello", 4); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new ones run elsewhere", func() bool { return len(b.running()) == 2 })
	if !slices.Equal(a.running(), before) {
		t.Errorf("%v run there, want %v", a.running(), before)
	}
	a.halt()
	eventually(t, "it is lost", func() bool { return s.state(t, a.info.ID) == pancake.AgentUnreachable })
	if _, err := s.FreezeAgent(t.Context(), a.info.ID); err != nil {
		t.Fatal(err)
	}
	if got := s.state(t, a.info.ID); got != pancake.AgentUnreachable {
		t.Errorf("one that is lost cannot be %s", got)
	}
	a.start(s.grpc)
	eventually(t, "it is frozen again", func() bool { return s.state(t, a.info.ID) == pancake.AgentFrozen })
	if _, err := s.ActivateAgent(t.Context(), a.info.ID); err != nil {
		t.Fatal(err)
	}
	s.ready(t, 2)
	if _, err := s.FreezeAgent(t.Context(), "nobody"); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("an agent that nobody knows: %v", err)
	}
	if _, err := s.DecommissionAgent(t.Context(), a.info.ID, -1); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("parallel -1: %v", err)
	}
}
