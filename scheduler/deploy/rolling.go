package deploy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

// rolling moves a pending deploy on. A step aims for instances 1 to Target of
// the new deploy beside the old ones; once they are healthy the old ones with
// the same numbers go, and after a pause the next step begins. The first rule
// that matches wins:
//
//  1. a new task ended before it was healthy: FAILED
//  2. the step is not healthy and its time is up: OVERDUE
//  3. the step is healthy and was the last: SUCCEEDED
//  4. the step has just become healthy: note when
//  5. the pause behind a healthy step is over: next step
//  6. otherwise keep the tasks that the step wants
//
// When a deploy fails nothing needs to be undone: without a pending deploy,
// Reconcile wants the active one only, starts what is missing of it, and lets the
// healthy new tasks serve until the old ones do.
func rolling(in Input) Plan {
	d, n := in.Pending, in.Request.As(in.Pending).Instances
	step := &d.Progress
	deadline := step.StepStarted.Add(Timeout(d))
	resume := step.StepHealthy.Add(time.Duration(d.Strategy.StepWaitMillis) * time.Millisecond)
	reached := step.StepHealthy.IsZero() && countHealthy(in, d.ID, step.Target) >= step.Target

	switch failures := startFailures(in); {
	case len(failures) > 0:
		return end(in, pancake.DeployFailed, failures[0].Message, failures...)
	case step.StepHealthy.IsZero() && !reached && !in.Now.Before(deadline):
		message, failures := overdue(in)
		return end(in, pancake.DeployOverdue, message, failures...)
	case reached && step.Target >= n:
		return end(in, pancake.DeploySucceeded, fmt.Sprintf("Successfully deployed to %d instances.", n))
	case reached:
		return change(d, func(d *pancake.Deploy) { d.Progress.StepHealthy = in.Now })
	case !step.StepHealthy.IsZero() && !in.Now.Before(resume):
		return change(d, func(d *pancake.Deploy) {
			d.Progress.Target = min(step.Target+perStep(d, n), n)
			d.Progress.StepStarted, d.Progress.StepHealthy = in.Now, time.Time{}
		})
	}

	wanted := slots(nil, d.ID, 1, step.Target)
	if in.Active != nil {
		wanted = slots(wanted, in.Active.ID, replaced(d, n)+1, step.Before)
	}
	p := keep(in, wanted, step.Before)
	if step.StepHealthy.IsZero() {
		p.Wake = earliest(p.Wake, deadline)
	} else {
		p.Wake = earliest(p.Wake, resume)
	}
	return p
}

// replaced is how many old instances the new ones have taken over from: the
// target of the last step that was healthy.
func replaced(d *pancake.Deploy, n int) int {
	if !d.Progress.StepHealthy.IsZero() {
		return d.Progress.Target
	}
	size := perStep(d, n)
	return (d.Progress.Target - 1) / size * size
}

func change(d *pancake.Deploy, fn func(*pancake.Deploy)) Plan {
	c := *d
	fn(&c)
	return Plan{Deploy: &c}
}

// What is remembered of a deploy that did not succeed. All of it must fit into
// one transaction of the store, beside the deploy.
const (
	maxFailures = 10      // tasks
	maxLogs     = 3       // of them with their last lines
	maxDetail   = 2 << 10 // bytes of one task's message
	maxMessage  = 16 << 10
)

// end finishes the pending deploy.
func end(in Input, state pancake.DeployState, message string, failures ...pancake.DeployFailure) Plan {
	failures = slices.Clone(failures[:min(len(failures), maxFailures)])
	for i := range failures {
		failures[i].Message = clip(failures[i].Message, maxDetail)
		if i >= maxLogs {
			failures[i].Log = nil
		}
	}
	return change(in.Pending, func(d *pancake.Deploy) {
		d.State, d.Message, d.Failures, d.Finished = state, clip(message, maxMessage), failures, in.Now
		d.Settings = nil
	})
}

// clip shortens a text to n bytes at most, and never within a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// countHealthy counts the slots 1 to target of a deploy that have a healthy task.
func countHealthy(in Input, deploy string, target int) int {
	slots := map[int]bool{}
	for _, t := range in.Live {
		if t.DeployID == deploy && t.Instance <= target && Healthy(t, in.Now) {
			slots[t.Instance] = true
		}
	}
	return len(slots)
}

// startFailures returns the new tasks that ended by themselves before they were
// healthy. Those whose picked port was taken get another one, a few times.
func startFailures(in Input) []pancake.DeployFailure {
	var out []pancake.DeployFailure
	for _, t := range in.Ended {
		if t.DeployID != in.Pending.ID || !failed(t) || wasHealthy(t) {
			continue
		}
		if t.Created.Before(in.Pending.Created) {
			continue // of an earlier deploy of the same id, which is forgotten
		}
		if pickedPortInUse(in, t) && t.Restarts < portRetries {
			continue
		}
		out = append(out, failureOf(t))
	}
	return out
}

func failureOf(t *pancake.Task) pancake.DeployFailure {
	f := pancake.DeployFailure{Reason: pancake.FailedOnStartup, TaskID: t.ID, Log: t.Status.Log}
	what := "failed before it was healthy"
	switch {
	case t.Status.State == pancake.TaskFinished:
		f.Reason = pancake.FailedFinished
		what = "ended by itself with exit code 0, but is expected to keep running"
	case t.Status.Reason == pancake.ReasonUnhealthy:
		f.Reason = pancake.FailedHealth
	}
	detail := cmp.Or(t.Status.Message, t.Status.Reason, string(t.Status.State))
	f.Message = fmt.Sprintf("instance %d on %s %s: %s", t.Instance, t.Hostname, what, detail)
	return f
}

// overdue says, for each instance of the step, what it waited for.
func overdue(in Input) (string, []pancake.DeployFailure) {
	d := in.Pending
	var failures []pancake.DeployFailure
	launched := 0
	for i := 1; i <= d.Progress.Target; i++ {
		at := slices.IndexFunc(in.Live, func(t *pancake.Task) bool {
			return t.DeployID == d.ID && t.Instance == i && t.Desired == pancake.DesiredRun
		})
		if at < 0 {
			why := cmp.Or(in.Waiting[Slot{d.ID, i}], "its restart was backed off")
			failures = append(failures, pancake.DeployFailure{
				Reason: pancake.FailedToSchedule, Message: fmt.Sprintf("instance %d was not running: %s", i, why),
			})
			continue
		}
		launched++
		if t := in.Live[at]; !Healthy(t, in.Now) {
			failures = append(failures, waitedFor(t))
		}
	}
	text := fmt.Sprintf("Deploy was able to launch %d tasks, but not all of them became healthy within %s", launched, Timeout(d))
	if launched < d.Progress.Target {
		text = fmt.Sprintf("Only %d of %d tasks could be launched for deploy, there may not be enough resources to launch the remaining tasks",
			launched, d.Progress.Target)
	}
	var details []string
	for _, f := range failures[:min(len(failures), maxFailures)] {
		details = append(details, clip(f.Message, maxMessage/maxFailures/2))
	}
	if more := len(failures) - maxFailures; more > 0 {
		details = append(details, fmt.Sprintf("and %d more", more))
	}
	return text + ": " + strings.Join(details, "; "), failures
}

func waitedFor(t *pancake.Task) pancake.DeployFailure {
	f := pancake.DeployFailure{Reason: pancake.FailedNeverRan, TaskID: t.ID, Log: t.Status.Log}
	state := string(t.Status.State)
	if t.Status.State == pancake.TaskRunning {
		f.Reason = pancake.FailedHealth
		state += ", health " + cmp.Or(string(t.Status.Health), "not known to Sidecar yet")
	}
	if detail := cmp.Or(t.Status.HealthNote, t.Status.Message); detail != "" {
		state += ": " + detail
	}
	f.Message = fmt.Sprintf("instance %d on %s was %s", t.Instance, t.Hostname, state)
	return f
}
