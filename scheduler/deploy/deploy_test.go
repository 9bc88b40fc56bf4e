package deploy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pancake-stack/pancake"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// task makes a running, healthy task of deploy d; the options change it.
func task(d string, instance int, options ...func(*pancake.Task)) *pancake.Task {
	t := &pancake.Task{
		ID: fmt.Sprintf("r-%s-%d", d, instance), RequestID: "r", DeployID: d, Instance: instance, Hostname: "node-a",
		Desired: pancake.DesiredRun, Created: now.Add(-time.Hour), FirstHealthy: now.Add(-50 * time.Minute),
		Status: pancake.TaskStatus{State: pancake.TaskRunning, Health: pancake.Healthy, Sequence: 3, Updated: now},
	}
	for _, o := range options {
		o(t)
	}
	return t
}

func starting(t *pancake.Task) {
	t.Status.State, t.Status.Health, t.FirstHealthy = pancake.TaskStarting, "", time.Time{}
}

func ended(state pancake.TaskState, reason string, healthyFor time.Duration, restarts int) func(*pancake.Task) {
	return func(t *pancake.Task) {
		t.Status.State, t.Status.Reason, t.Status.Health, t.Restarts = state, reason, "", restarts
		t.Created, t.FirstHealthy = now, time.Time{}
		if healthyFor > 0 {
			t.FirstHealthy = now.Add(-healthyFor)
		}
	}
}

func killing(t *pancake.Task) { t.Desired = pancake.DesiredKill }

func named(id string) func(*pancake.Task) { return func(t *pancake.Task) { t.ID = id } }

func request(n int) pancake.Request {
	return pancake.Request{ID: "r", State: pancake.RequestActive, Instances: n}
}

func pendingDeploy(perStep, n, before int, age time.Duration) *pancake.Deploy {
	d := &pancake.Deploy{ID: "new", RequestID: "r", Strategy: pancake.Strategy{InstancesPerStep: perStep, StepWaitMillis: 2000}}
	Start(d, n, before, now.Add(-age))
	return d
}

// summary prints a plan in one line.
func summary(p Plan) string {
	var out []string
	for _, l := range p.Launch {
		s := fmt.Sprintf("+%s/%d", l.Slot.Deploy, l.Slot.Instance)
		if !l.NotBefore.IsZero() {
			s += " later"
		}
		out = append(out, s)
	}
	for _, k := range p.Kill {
		out = append(out, "-"+k.TaskID)
	}
	if d := p.Deploy; d != nil {
		out = append(out, fmt.Sprintf("%s target %d healthy %t", d.State, d.Progress.Target, !d.Progress.StepHealthy.IsZero()))
	}
	if p.Gone {
		out = append(out, "gone")
	}
	return strings.Join(out, " ")
}

func TestReconcile(t *testing.T) {
	old := &pancake.Deploy{ID: "old", RequestID: "r"}
	stepHealthy := func(d *pancake.Deploy, ago time.Duration) *pancake.Deploy {
		d.Progress.StepHealthy = now.Add(-ago)
		return d
	}
	deleting := request(2)
	deleting.State = pancake.RequestDeleting
	tests := map[string]struct {
		in   Input
		want string
	}{
		"nothing to do": {Input{Request: request(1), Active: old, Live: []*pancake.Task{task("old", 1)}}, ""},
		"missing instances are launched": {
			Input{Request: request(3), Active: old, Live: []*pancake.Task{task("old", 2)}}, "+old/1 +old/3",
		},
		"a task being killed does not fill its slot": {
			Input{Request: request(1), Active: old, Live: []*pancake.Task{task("old", 1, killing)}}, "+old/1",
		},
		"scaled down": {
			Input{Request: request(1), Active: old, Live: []*pancake.Task{task("old", 1), task("old", 2)}}, "-r-old-2",
		},
		"of two in a slot the healthy one stays": {
			Input{Request: request(1), Active: old, Live: []*pancake.Task{task("old", 1, starting, named("a")), task("old", 1, named("b"))}}, "-a",
		},
		"a healthy task of another deploy serves until the active one does": {
			Input{Request: request(1), Active: old, Live: []*pancake.Task{task("old", 1, starting), task("gone", 1)}}, "",
		},
		"and goes then": {
			Input{Request: request(1), Active: old, Live: []*pancake.Task{task("old", 1), task("gone", 1)}}, "-r-gone-1",
		},
		"an unhealthy one goes at once": {
			Input{Request: request(1), Active: old, Live: []*pancake.Task{task("old", 1, starting), task("gone", 1, starting)}}, "-r-gone-1",
		},
		"no deploy, no tasks": {Input{Request: request(1), Live: []*pancake.Task{task("x", 1)}}, "-r-x-1"},
		"deleting stops all":  {Input{Request: deleting, Active: old, Live: []*pancake.Task{task("old", 1), task("old", 2, killing)}}, "-r-old-1"},
		"deleting waits":      {Input{Request: deleting, Active: old, Live: []*pancake.Task{task("old", 2, killing)}}, ""},
		"deleted":             {Input{Request: deleting, Active: old}, "gone"},
		"deleting cancels the deploy": {
			Input{Request: deleting, Pending: pendingDeploy(0, 2, 0, 0)}, "CANCELED target 2 healthy false",
		},
		"first deploy launches all": {Input{Request: request(2), Pending: pendingDeploy(0, 2, 0, 0)}, "+new/1 +new/2"},
		"a step launches its share beside the old": {
			Input{Request: request(2), Active: old, Pending: pendingDeploy(1, 2, 2, 0), Live: []*pancake.Task{task("old", 1), task("old", 2)}},
			"+new/1",
		},
		"an old task that fails during a deploy is replaced": {
			Input{Request: request(2), Active: old, Pending: pendingDeploy(1, 2, 2, 0), Live: []*pancake.Task{task("old", 1), task("new", 1, starting)}},
			"+old/2",
		},
		"a healthy step is noted": {
			Input{Request: request(2), Active: old, Pending: pendingDeploy(1, 2, 2, 0), Live: []*pancake.Task{task("old", 1), task("old", 2), task("new", 1)}},
			"WAITING target 1 healthy true",
		},
		"then its old ones go": {
			Input{Request: request(2), Active: old, Pending: stepHealthy(pendingDeploy(1, 2, 2, 0), time.Second), Live: []*pancake.Task{task("old", 1), task("old", 2), task("new", 1)}},
			"-r-old-1",
		},
		"but not below the healthy count": {
			Input{Request: request(2), Active: old, Pending: stepHealthy(pendingDeploy(1, 2, 2, 0), time.Second), Live: []*pancake.Task{task("old", 1), task("old", 2, starting), task("new", 1)}},
			"",
		},
		"after the pause comes the next step": {
			Input{Request: request(2), Active: old, Pending: stepHealthy(pendingDeploy(1, 2, 2, 0), 2*time.Second), Live: []*pancake.Task{task("old", 2), task("new", 1)}},
			"WAITING target 2 healthy false",
		},
		"all healthy: succeeded": {
			Input{Request: request(1), Active: old, Pending: pendingDeploy(0, 1, 1, 0), Live: []*pancake.Task{task("old", 1), task("new", 1)}},
			"SUCCEEDED target 1 healthy false",
		},
		"a new task that fails ends the deploy": {
			Input{
				Request: request(1), Active: old, Pending: pendingDeploy(0, 1, 1, 0), Live: []*pancake.Task{task("old", 1)},
				Ended: []*pancake.Task{task("new", 1, ended(pancake.TaskFailed, pancake.ReasonExited, 0, 0))},
			},
			"FAILED target 1 healthy false",
		},
		"one that ends by itself too": {
			Input{
				Request: request(1), Pending: pendingDeploy(0, 1, 0, 0),
				Ended: []*pancake.Task{task("new", 1, ended(pancake.TaskFinished, pancake.ReasonExited, 0, 0))},
			},
			"FAILED target 1 healthy false",
		},
		"one that was healthy is restarted": {
			Input{
				Request: request(1), Pending: pendingDeploy(0, 1, 0, 0),
				Ended: []*pancake.Task{task("new", 1, ended(pancake.TaskFailed, pancake.ReasonExited, time.Second, 0))},
			},
			"+new/1",
		},
		"a lost one is replaced": {
			Input{
				Request: request(1), Pending: pendingDeploy(0, 1, 0, 0),
				Ended: []*pancake.Task{task("new", 1, ended(pancake.TaskLost, pancake.ReasonUnknownTask, 0, 0))},
			},
			"+new/1",
		},
		"a taken port is exchanged": {
			Input{
				Request: request(1), Pending: pendingDeploy(0, 1, 0, 0),
				Ended: []*pancake.Task{task("new", 1, ended(pancake.TaskFailed, pancake.ReasonPortInUse, 0, 2))},
			},
			"+new/1",
		},
		"but not for ever": {
			Input{
				Request: request(1), Pending: pendingDeploy(0, 1, 0, 0),
				Ended: []*pancake.Task{task("new", 1, ended(pancake.TaskFailed, pancake.ReasonPortInUse, 0, 3))},
			},
			"FAILED target 1 healthy false",
		},
		"time is up": {
			Input{
				Request: request(1), Active: old, Pending: pendingDeploy(0, 1, 1, 2*time.Minute),
				Live: []*pancake.Task{task("old", 1), task("new", 1, starting)},
			},
			"OVERDUE target 1 healthy false",
		},
		"healthy in the last moment": {
			Input{Request: request(1), Pending: pendingDeploy(0, 1, 0, 3*time.Minute), Live: []*pancake.Task{task("new", 1)}},
			"SUCCEEDED target 1 healthy false",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.in.Now = now
			if got := summary(Reconcile(tt.in)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	tests := map[string]struct {
		last     func(*pancake.Task)
		restarts int
		from, to time.Duration // after the task ended; 0 means at once
	}{
		"killed":                         {func(t *pancake.Task) { killing(t); ended(pancake.TaskKilled, "", 0, 4)(t) }, 4, 0, 0},
		"lost":                           {ended(pancake.TaskLost, "", 0, 2), 2, 0, 0},
		"first failure of a healthy one": {ended(pancake.TaskFailed, "", time.Minute, 0), 1, 0, 0},
		"second":                         {ended(pancake.TaskFailed, "", time.Minute, 1), 2, 1600 * time.Millisecond, 2 * time.Second},
		"healthy for long":               {ended(pancake.TaskFailed, "", 5*time.Minute, 9), 0, 0, 0},
		"never healthy":                  {ended(pancake.TaskFailed, "", 0, 0), 1, 800 * time.Millisecond, time.Second},
		"never healthy, fourth":          {ended(pancake.TaskError, "", 0, 3), 4, 6400 * time.Millisecond, 8 * time.Second},
		"never healthy, hundredth":       {ended(pancake.TaskFinished, "", 0, 99), 100, 48 * time.Second, time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := Input{Request: request(1), Active: &pancake.Deploy{ID: "old"}, Now: now, Ended: []*pancake.Task{task("old", 1, tt.last)}}
			l := Reconcile(in).Launch[0]
			if l.Restarts != tt.restarts {
				t.Errorf("restarts %d, want %d", l.Restarts, tt.restarts)
			}
			if tt.to == 0 {
				if !l.NotBefore.IsZero() {
					t.Errorf("waits %s, want at once", l.NotBefore.Sub(now))
				}
				return
			}
			if d := l.NotBefore.Sub(now); d < tt.from || d > tt.to {
				t.Errorf("waits %s, want %s to %s", d, tt.from, tt.to)
			}
			if again := Reconcile(in).Launch[0]; again != l {
				t.Errorf("not deterministic: %v, %v", l, again)
			}
		})
	}
}

func TestOverdueSaysWhatItWaitedFor(t *testing.T) {
	unhealthy := func(t *pancake.Task) { t.Status.Health, t.Status.HealthNote = pancake.Unhealthy, "connection refused" }
	p := Reconcile(Input{
		Request: request(3), Pending: pendingDeploy(0, 3, 0, 2*time.Minute), Now: now,
		Live:    []*pancake.Task{task("new", 1), task("new", 2, unhealthy)},
		Waiting: map[Slot]string{{"new", 3}: "cpus: 1 agent has too little"},
	})
	want := "Only 2 of 3 tasks could be launched for deploy, there may not be enough resources to launch the remaining tasks: " +
		"instance 2 on node-a was TASK_RUNNING, health UNHEALTHY: connection refused; instance 3 was not running: cpus: 1 agent has too little"
	if p.Deploy.Message != want {
		t.Errorf("got  %q\nwant %q", p.Deploy.Message, want)
	}
	var reasons []pancake.FailureReason
	for _, f := range p.Deploy.Failures {
		reasons = append(reasons, f.Reason)
	}
	if !reflect.DeepEqual(reasons, []pancake.FailureReason{pancake.FailedHealth, pancake.FailedToSchedule}) {
		t.Errorf("reasons %v", reasons)
	}
}

func TestUnwatchedTaskIsHealthyAfterAWhile(t *testing.T) {
	unwatched := func(t *pancake.Task) {
		t.Status.Health, t.FirstHealthy = pancake.HealthUnwatched, now.Add(2*time.Second)
	}
	in := Input{Request: request(1), Pending: pendingDeploy(0, 1, 0, time.Second), Live: []*pancake.Task{task("new", 1, unwatched)}, Now: now}
	p := Reconcile(in)
	if p.Deploy != nil || !p.Wake.Equal(now.Add(2*time.Second)) {
		t.Fatalf("got %+v, want to be woken in 2 s", p)
	}
	in.Now = p.Wake
	if got := summary(Reconcile(in)); got != "SUCCEEDED target 1 healthy false" {
		t.Errorf("got %q", got)
	}
}

// The request takes the settings of a deploy over when it succeeds: until then
// they count for the new tasks only, and after a failure not at all.
func TestSettingsOfADeployCountForItsOwnTasks(t *testing.T) {
	d := pendingDeploy(0, 3, 1, 0)
	d.Settings = &pancake.Settings{Instances: 3}
	in := Input{Request: request(1), Active: &pancake.Deploy{ID: "old"}, Pending: d, Now: now}
	if got := summary(Reconcile(in)); got != "+new/1 +new/2 +new/3 +old/1" {
		t.Errorf("got %q", got)
	}
	in.Now = now.Add(2 * time.Minute)
	p := Reconcile(in)
	if p.Deploy.State != pancake.DeployOverdue || p.Deploy.Settings != nil {
		t.Errorf("got %s with the settings %+v", p.Deploy.State, p.Deploy.Settings)
	}
	in.Pending = nil
	if got := summary(Reconcile(in)); got != "+old/1" {
		t.Errorf("after the failure: %q", got)
	}
}

// What a deploy remembers of its failures must fit into one transaction of the
// store, however many instances fail and whatever they print.
func TestWhatIsRememberedOfFailuresIsBounded(t *testing.T) {
	noise := strings.Repeat("\x01", 1024) // six bytes each in JSON
	in := Input{Request: request(1000), Pending: pendingDeploy(0, 1000, 0, 0), Now: now}
	for i := range 1000 {
		in.Ended = append(in.Ended, task("new", i+1, ended(pancake.TaskFailed, pancake.ReasonExited, 0, 0), func(t *pancake.Task) {
			t.Status.Message, t.Status.Log = strings.Repeat("é\x01", 8<<10), slices.Repeat([]string{noise}, 20)
		}))
	}
	overdue := in
	overdue.Ended, overdue.Now = nil, now.Add(time.Hour)
	for i := range 1000 {
		overdue.Live = append(overdue.Live, task("new", i+1, starting, func(t *pancake.Task) { t.Status.Message = strings.Repeat(noise, 16) }))
	}
	for name, in := range map[string]Input{"FAILED": in, "OVERDUE": overdue} {
		d := Reconcile(in).Deploy
		if string(d.State) != name || len(d.Failures) != maxFailures || !utf8.ValidString(d.Message) {
			t.Fatalf("%s with %d failures, want %s with %d", d.State, len(d.Failures), name, maxFailures)
		}
		text, err := json.Marshal(d)
		if err != nil || len(text) > 620<<10 {
			t.Errorf("%s: %d bytes to store, %v", name, len(text), err)
		}
	}
	if d := Reconcile(in).Deploy; len(d.Failures[0].Log) != 20 {
		t.Errorf("the first failure has %d lines of log", len(d.Failures[0].Log))
	}
	if d := Reconcile(overdue).Deploy; !strings.HasSuffix(d.Message, "; and 990 more") {
		t.Errorf("message ends with %q", d.Message[len(d.Message)-30:])
	}
}

// A deploy id may come back after its deploy was forgotten; its tasks of then
// say nothing of the deploy of now.
func TestTasksOfAnEarlierDeployOfTheSameIDDoNotCount(t *testing.T) {
	in := Input{
		Request: request(1), Pending: pendingDeploy(0, 1, 0, 0), Now: now,
		Ended: []*pancake.Task{task("new", 1, ended(pancake.TaskFailed, pancake.ReasonExited, 0, 4), func(t *pancake.Task) {
			t.Created, t.Status.Updated = now.Add(-2*time.Hour), now.Add(-time.Hour)
		})},
	}
	if got := summary(Reconcile(in)); !strings.HasPrefix(got, "+new/1") {
		t.Errorf("got %q", got)
	}
}

// A clock that was set back makes what just happened lie in the future.
func TestAClockThatIsSetBack(t *testing.T) {
	old := &pancake.Deploy{ID: "old", RequestID: "r"}
	p := Reconcile(Input{Request: request(2), Active: old, Now: now.Add(-2 * time.Hour), Live: []*pancake.Task{task("old", 1)}, Ended: []*pancake.Task{
		task("old", 2, ended(pancake.TaskFailed, pancake.ReasonExited, time.Minute, 3)),
	}})
	if len(p.Launch) != 1 || p.Launch[0].NotBefore.After(now.Add(-2*time.Hour+maxBackoff)) {
		t.Errorf("the restart waits for the clock: %+v", p.Launch)
	}
	if !Healthy(task("old", 1), now.Add(-2*time.Hour)) {
		t.Error("what Sidecar calls healthy is not")
	}
}
