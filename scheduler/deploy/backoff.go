package deploy

import (
	"hash/fnv"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
)

const (
	firstBackoff = time.Second
	maxBackoff   = time.Minute
	// healthyResets is how long a task must have run healthy for its failure to
	// be the first again.
	healthyResets = 5 * time.Minute
	// portRetries is how often a slot gets another port at once because something
	// else listened on the one it was given.
	portRetries = 3
)

// restart says when the next task of a slot may start, given how the last one ended.
//
//   - none, or one that was stopped or lost with its agent: at once;
//   - it had been healthy for 5 minutes: at once, and failures count from 0;
//   - it had been healthy and is the first to fail: at once;
//   - another program held a port that we picked: at once with another, 3 times;
//   - the clock was set back to before its end: at once;
//   - otherwise after 1 s, 2 s, 4 s … 60 s, less up to a fifth.
func restart(in Input, s Slot) Launch {
	l := Launch{Slot: s}
	t := last(in.Ended, s)
	if t == nil {
		return l
	}
	if !failed(t) {
		l.Restarts = t.Restarts
		return l
	}
	if wasHealthy(t) && t.Status.Updated.Sub(t.FirstHealthy) >= healthyResets {
		return l
	}
	l.Restarts = t.Restarts + 1
	if t.Status.Updated.After(in.Now) {
		return l // the clock was set back; waiting for it could take hours
	}
	if wasHealthy(t) && t.Restarts == 0 || pickedPortInUse(in, t) && l.Restarts <= portRetries {
		return l
	}
	l.NotBefore = t.Status.Updated.Add(backoff(l.Restarts, t.ID))
	return l
}

// backoff doubles from 1 s to 60 s. The task's id takes off up to a fifth, so
// that tasks which failed together do not all return together.
func backoff(n int, id string) time.Duration {
	d := min(maxBackoff, firstBackoff<<min(max(n, 1)-1, 10))
	h := fnv.New32a()
	h.Write([]byte(id))
	return d - d/5*time.Duration(h.Sum32()%1000)/1000
}

// last returns the task of the slot that ended last, nil if none has.
func last(ended []*pancake.Task, s Slot) *pancake.Task {
	for _, t := range slices.Backward(ended) {
		if t.DeployID == s.Deploy && t.Instance == s.Instance {
			return t
		}
	}
	return nil
}

// failed reports whether a task ended by itself: not because it was asked to,
// nor because its agent was lost.
func failed(t *pancake.Task) bool {
	if t.Desired != pancake.DesiredRun {
		return false
	}
	switch t.Status.State {
	case pancake.TaskFailed, pancake.TaskError, pancake.TaskFinished:
		return true
	}
	return false
}

// pickedPortInUse reports whether a task failed because something else held a
// host port that the scheduler, not the spec, had chosen.
func pickedPortInUse(in Input, t *pancake.Task) bool {
	if t.Status.Reason != pancake.ReasonPortInUse {
		return false
	}
	for _, d := range []*pancake.Deploy{in.Active, in.Pending} {
		if d == nil || d.ID != t.DeployID {
			continue
		}
		for _, m := range d.Container.Ports {
			if m.HostPort != 0 {
				return false
			}
		}
	}
	return true
}
