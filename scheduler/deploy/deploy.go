// Package deploy decides what a request needs next: which tasks to start and
// stop, and how far its deploy has come. It is pure and level-triggered: each
// call looks at everything there is and forgets everything else, so a decision
// that was lost, doubled or late is simply made again.
package deploy

import (
	"cmp"
	"time"

	"github.com/pancake-stack/pancake"
)

// Slot is a place that one task fills.
type Slot struct {
	Deploy   string
	Instance int // from 1
}

// Input is everything that is known of one request.
type Input struct {
	Request pancake.Request
	Active  *pancake.Deploy // nil before the first deploy has succeeded
	Pending *pancake.Deploy // nil unless a deploy is on its way in
	Live    []*pancake.Task
	Ended   []*pancake.Task // finished ones, the latest last
	// Waiting says, for slots that no agent has room for, why.
	Waiting map[Slot]string
	// Leaving are the agents that tasks have to leave. Each of their tasks gets a
	// replacement in the same slot, and goes once that is healthy.
	Leaving map[string]bool
	// Move are the tasks on them whose replacement may be launched now, by id.
	Move map[string]bool
	Now  time.Time
}

// leaves reports whether t has to leave its agent.
func (in Input) leaves(t *pancake.Task) bool { return in.Leaving[t.AgentID] }

// Launch asks for a task.
type Launch struct {
	Slot Slot
	// NotBefore is set while a restart is backed off.
	NotBefore time.Time
	// Restarts is how many tasks of the slot failed in a row before this one.
	Restarts int
}

// Kill asks for the end of a task.
type Kill struct {
	TaskID string
	Reason string
}

// Plan is what to do. A plan with a Deploy holds nothing else but Wake: once
// the change is made, Reconcile is called again.
type Plan struct {
	Launch []Launch
	Kill   []Kill
	// Deploy is the pending deploy as it is now to be stored. When it succeeded
	// it becomes the active one, and the request takes its settings over; when
	// its state is final it is pending no more.
	Deploy *pancake.Deploy
	// Gone says that a deleted request has no task left and can be forgotten.
	Gone bool
	// Wake is when to look again though nothing has happened; zero means never.
	Wake time.Time
}

// Start sets the progress of a deploy that is about to be stored: the first
// step of a request that wants instances tasks and had before.
func Start(d *pancake.Deploy, instances, before int, now time.Time) {
	d.State = pancake.DeployWaiting
	d.Created = now
	d.Progress = pancake.Progress{Target: min(perStep(d, instances), instances), StepStarted: now, Before: before}
}

// Reconcile decides what the request needs next. The first rule that matches wins:
//
//  1. a request that is being deleted: cancel its deploy, stop its tasks, go;
//  2. a pending deploy: the rules of rolling;
//  3. otherwise: instances 1 to N of the active deploy, and nothing else.
func Reconcile(in Input) Plan {
	switch {
	case in.Request.State == pancake.RequestDeleting && in.Pending != nil:
		return end(in, pancake.DeployCanceled, "the request was deleted",
			pancake.DeployFailure{Reason: pancake.FailedByRequest, Message: "the request was deleted"})
	case in.Request.State == pancake.RequestDeleting:
		p := keep(in, nil, 0)
		p.Gone = len(in.Live) == 0
		return p
	case in.Pending != nil:
		return rolling(in)
	case in.Active != nil:
		n := in.Request.Instances
		return keep(in, slots(nil, in.Active.ID, 1, n), n)
	}
	return keep(in, nil, 0)
}

func slots(to []Slot, deploy string, first, last int) []Slot {
	for i := first; i <= last; i++ {
		to = append(to, Slot{deploy, i})
	}
	return to
}

func perStep(d *pancake.Deploy, instances int) int {
	return max(1, cmp.Or(d.Strategy.InstancesPerStep, instances))
}

// Timeout is how long a step of the deploy may take to become healthy.
func Timeout(d *pancake.Deploy) time.Duration {
	return time.Duration(cmp.Or(d.Health.TimeoutSeconds, pancake.DefaultHealthTimeoutSeconds)) * time.Second
}

// HealthyAt is when t counts as healthy unless something happens to it, false
// while that depends on Sidecar.
func HealthyAt(t *pancake.Task) (time.Time, bool) {
	if t.Status.State != pancake.TaskRunning || t.FirstHealthy.IsZero() {
		return time.Time{}, false
	}
	return t.FirstHealthy, t.Status.Health == pancake.Healthy || t.Status.Health == pancake.HealthUnwatched
}

// Healthy reports whether t counts as healthy now. A task that is to be
// stopped does not.
func Healthy(t *pancake.Task, now time.Time) bool {
	at, ok := HealthyAt(t)
	// What Sidecar says holds whatever the clock does.
	return ok && t.Desired == pancake.DesiredRun && (t.Status.Health == pancake.Healthy || !now.Before(at))
}

// wasHealthy reports whether a task that ended had been healthy.
func wasHealthy(t *pancake.Task) bool {
	return !t.FirstHealthy.IsZero() && !t.FirstHealthy.After(t.Status.Updated)
}

// earliest returns the earlier of two times, of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
