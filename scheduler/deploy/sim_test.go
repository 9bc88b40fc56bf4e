package deploy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

// quality is how the tasks of a deploy turn out.
type quality struct {
	healthyAfter int // seconds; 0 means never
	failPercent  int // chance, per second, to fail
}

// world is a tiny cluster that does what Reconcile says, one second at a time.
type world struct {
	t         *rapid.T
	now       time.Time
	request   pancake.Request
	deploys   map[string]*pancake.Deploy
	quality   map[string]quality
	live      []*pancake.Task
	ended     []*pancake.Task
	waiting   map[Slot]string
	capacity  int
	launched  int
	calm      bool            // nothing fails any more
	leaving   map[string]bool // agents that are decommissioned
	move      int             // how many of their tasks may be replaced at a time
	pendingAt time.Time
}

// agents are few, so that drained ones hold several tasks of a request.
var agents = []string{"a", "b", "c"}

func (w *world) chance(percent int, label string) bool {
	return !w.calm && percent > 0 && rapid.IntRange(0, 99).Draw(w.t, label) < percent
}

// healthy counts the instances that a healthy task serves.
func (w *world) healthy() int {
	serving := map[Slot]bool{}
	for _, t := range w.live {
		if Healthy(t, w.now) {
			serving[Slot{t.DeployID, t.Instance}] = true
		}
	}
	return len(serving)
}

func (w *world) finish(t *pancake.Task, state pancake.TaskState, reason string) {
	t.Status.State, t.Status.Reason, t.Status.Updated = state, reason, w.now
	w.live = slices.DeleteFunc(w.live, func(o *pancake.Task) bool { return o == t })
	w.ended = append(w.ended, t)
	w.ended = w.ended[max(0, len(w.ended)-50):]
}

// tick lets a second of life pass.
func (w *world) tick() {
	w.now = w.now.Add(time.Second)
	for _, t := range slices.Clone(w.live) {
		q := w.quality[t.DeployID]
		age := int(w.now.Sub(t.Created) / time.Second)
		switch {
		case t.Desired == pancake.DesiredKill:
			w.finish(t, pancake.TaskKilled, pancake.ReasonKilled)
		case w.chance(1, "lost"):
			w.finish(t, pancake.TaskUnreachable, pancake.ReasonAgentLost)
		case w.chance(q.failPercent, "fails"):
			w.finish(t, pancake.TaskFailed, rapid.SampledFrom([]string{pancake.ReasonExited, pancake.ReasonPortInUse}).Draw(w.t, "reason"))
		case q.healthyAfter > 0 && age >= q.healthyAfter && t.FirstHealthy.IsZero():
			t.Status.State, t.Status.Health, t.FirstHealthy = pancake.TaskRunning, pancake.Healthy, w.now
		}
	}
}

func (w *world) input() Input {
	return Input{
		Request: w.request, Active: w.deploys[w.request.ActiveDeploy], Pending: w.deploys[w.request.PendingDeploy],
		Live: w.live, Ended: w.ended, Waiting: w.waiting, Leaving: w.leaving, Move: w.moving(), Now: w.now,
	}
}

// moving are the first few tasks that have to leave.
func (w *world) moving() map[string]bool {
	out := map[string]bool{}
	for _, t := range w.live {
		if w.leaving[t.AgentID] && len(out) < w.move {
			out[t.ID] = true
		}
	}
	return out
}

// drain decommissions an agent or takes it back; one at least is always left.
func (w *world) drain() {
	a := rapid.SampledFrom(agents).Draw(w.t, "agent")
	if w.leaving[a] {
		delete(w.leaving, a)
	} else if len(w.leaving) < len(agents)-1 {
		w.leaving[a] = true
	}
}

// place picks an agent for a new task.
func (w *world) place() string {
	open := slices.DeleteFunc(slices.Clone(agents), func(a string) bool { return w.leaving[a] })
	return open[w.launched%len(open)]
}

// reconcile does what the plans say until there is nothing left to change.
func (w *world) reconcile() {
	for range 10 {
		p := Reconcile(w.input())
		w.kill(p.Kill)
		w.launch(p.Launch)
		if p.Deploy == nil {
			w.oneEach()
			return
		}
		if p.Deploy.State == pancake.DeploySucceeded {
			w.request = *w.request.As(w.deploys[p.Deploy.ID])
			w.request.ActiveDeploy = p.Deploy.ID
		}
		if p.Deploy.State.Final() {
			w.request.PendingDeploy = ""
		}
		w.deploys[p.Deploy.ID] = p.Deploy
	}
	w.t.Fatalf("still changing after 10 rounds: %+v", w.input())
}

func (w *world) kill(kills []Kill) {
	before := w.healthy()
	for _, k := range kills {
		i := slices.IndexFunc(w.live, func(t *pancake.Task) bool { return t.ID == k.TaskID })
		if i < 0 || w.live[i].Desired == pancake.DesiredKill || k.Reason == "" {
			w.t.Fatalf("kill of %+v, which is not running", k)
		}
		w.live[i].Desired = pancake.DesiredKill
	}
	floor := w.request.Instances
	if w.request.State == pancake.RequestDeleting || w.request.ActiveDeploy == "" {
		floor = 0
	}
	if p := w.deploys[w.request.PendingDeploy]; p != nil {
		floor = min(floor, p.Progress.Before)
	}
	if after := w.healthy(); after < min(floor, before) {
		w.t.Fatalf("kills took the healthy count from %d to %d; %d wanted: %+v", before, after, w.request.Instances, kills)
	}
}

func (w *world) launch(launches []Launch) {
	w.waiting = map[Slot]string{}
	for _, l := range launches {
		if l.NotBefore.After(w.now) {
			continue
		}
		if len(w.live) >= w.capacity {
			w.waiting[l.Slot] = "no room"
			continue
		}
		w.launched++
		w.live = append(w.live, &pancake.Task{
			ID: fmt.Sprintf("t%d", w.launched), DeployID: l.Slot.Deploy, Instance: l.Slot.Instance, AgentID: w.place(),
			Desired: pancake.DesiredRun, Created: w.now, Restarts: l.Restarts, Status: pancake.TaskStatus{State: pancake.TaskStaging},
		})
	}
}

// oneEach fails when two tasks are wanted in one slot, but for those that are replaced.
func (w *world) oneEach() {
	seen := map[Slot]bool{}
	for _, t := range w.live {
		if w.leaving[t.AgentID] || t.Desired != pancake.DesiredRun {
			continue
		}
		s := Slot{t.DeployID, t.Instance}
		if seen[s] {
			w.t.Fatalf("two tasks wanted in %v", s)
		}
		seen[s] = true
	}
}

// submit starts a deploy, or scales when that is what is drawn.
func (w *world) submit(i int) {
	if w.request.PendingDeploy != "" {
		return
	}
	n := rapid.IntRange(1, 5).Draw(w.t, "instances")
	if w.request.ActiveDeploy != "" && rapid.IntRange(0, 3).Draw(w.t, "scale") == 0 {
		w.request.Instances = n
		return
	}
	d := &pancake.Deploy{ID: fmt.Sprintf("d%d", i), Strategy: pancake.Strategy{
		InstancesPerStep: rapid.IntRange(0, 3).Draw(w.t, "per step"), StepWaitMillis: rapid.SampledFrom([]int{0, 3000}).Draw(w.t, "wait"),
	}, Health: pancake.Health{TimeoutSeconds: 20}}
	before := 0
	if w.request.ActiveDeploy != "" {
		before = w.request.Instances
	}
	Start(d, n, before, w.now)
	d.Settings, w.request.PendingDeploy = &pancake.Settings{Instances: n}, d.ID
	w.deploys[d.ID] = d
	w.pendingAt = w.now
	w.quality[d.ID] = quality{
		healthyAfter: rapid.IntRange(0, 6).Draw(w.t, "healthy after"),
		failPercent:  rapid.SampledFrom([]int{0, 0, 0, 2, 20}).Draw(w.t, "fails"),
	}
}

func TestSimulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, now: now, request: pancake.Request{ID: "r", State: pancake.RequestActive, Instances: 1},
			deploys: map[string]*pancake.Deploy{}, quality: map[string]quality{}, leaving: map[string]bool{}, move: rapid.IntRange(1, 3).Draw(t, "move"), capacity: rapid.IntRange(4, 12).Draw(t, "capacity"),
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "changes") {
			w.submit(i)
			if rapid.Bool().Draw(t, "drain") {
				w.drain()
			}
			for range rapid.IntRange(1, 40).Draw(t, "seconds") {
				w.tick()
				w.reconcile()
				// 5 steps of 20 s with pauses of 3 s, and a second for each tick in between
				if w.request.PendingDeploy != "" && w.now.Sub(w.pendingAt) > 5*25*time.Second {
					t.Fatalf("deploy %s is still pending", w.request.PendingDeploy)
				}
			}
		}
		w.settle()
	})
}

// settle stops all faults and gives room: what is wanted must come to run, and
// nothing else; and a deleted request must go.
func (w *world) settle() {
	w.calm, w.capacity = true, 100
	for range 5 * 30 {
		w.tick()
		w.reconcile()
	}
	if w.request.PendingDeploy != "" {
		w.t.Fatalf("deploy %s never ended", w.request.PendingDeploy)
	}
	want := w.request.Instances
	if w.request.ActiveDeploy == "" {
		want = 0
	}
	if len(w.live) != want || w.healthy() != want {
		w.t.Fatalf("%d live and %d healthy, %d wanted", len(w.live), w.healthy(), want)
	}
	for _, t := range w.live {
		if w.leaving[t.AgentID] {
			w.t.Fatalf("task %s is still on agent %s", t.ID, t.AgentID)
		}
	}
	w.request.State = pancake.RequestDeleting
	for range 3 {
		w.reconcile()
		w.tick()
	}
	if p := Reconcile(w.input()); !p.Gone || len(w.live) > 0 {
		w.t.Fatalf("deleted, but %d tasks are left", len(w.live))
	}
}
