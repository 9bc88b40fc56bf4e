// Package step decides the next action of one task. It is pure: what is wanted,
// what was written down and what was seen go in, exactly one action comes out.
// The executor carries the action out, puts what came of it into the Facts and
// asks again, until the answer is Done.
package step

import (
	"time"

	"github.com/pancake-stack/pancake"
)

// Verb is what to do.
type Verb string

// The verbs. Wait, Report and Done need no Docker engine; the others do, but Drain.
const (
	Wait   Verb = "wait"   // for Until, or for something to happen if Until is zero
	Report Verb = "report" // tell the scheduler State
	Look   Verb = "look"   // inspect the container
	Pull   Verb = "pull"   // get the image from its registry
	Create Verb = "create" // create the container
	Start  Verb = "start"  // start it
	Drain  Verb = "drain"  // ask Sidecar to take it out of traffic
	Stop   Verb = "stop"   // SIGTERM, grace, SIGKILL
	Remove Verb = "remove" // remove the container
	Done   Verb = "done"   // nothing is left to do but to have the last status acknowledged
)

// Interruptible reports whether the action may be given up half way when
// something else is wanted. A create, start or drain is quick and must be known
// to have happened; a stop or remove is wanted whatever happens.
func (v Verb) Interruptible() bool { return v == Pull }

// Action is what to do next.
type Action struct {
	Do    Verb
	Until time.Time // of Wait

	// Of Report: the state and why.
	State   pancake.TaskState
	Reason  string
	Message string
}

// ContainerState is what is known of a task's container.
type ContainerState string

// The container states. The zero value means that the engine must be asked.
const (
	Unknown ContainerState = ""
	Absent  ContainerState = "absent"
	Created ContainerState = "created"
	Running ContainerState = "running"
	Exited  ContainerState = "exited"
)

// Want is what the scheduler wants of a task.
type Want string

// The wants. The zero value means Run.
const (
	Run     Want = ""
	Kill    Want = "kill"     // drain, then stop
	KillNow Want = "kill_now" // stop without drain
)

// Problem is a step that failed for good: asking again would fail again.
type Problem struct {
	State   pancake.TaskState // TaskFailed, or TaskError when it can never work
	Reason  string
	Message string
}

// Facts are all that a decision rests on.
type Facts struct {
	Want Want

	// What the checkpoint says.
	Reported       pancake.TaskState   // the state last reported; "" at first
	ReportedHealth pancake.HealthState // the health last reported
	ReportedReason string              // the reason last reported
	ReportedNote   string              // the answer of the failing check last reported
	ReportedAt     time.Time           // when that was
	Ran            bool                // TASK_RUNNING has been reported
	StartAsked     bool                // a container was seen or made, so it may have been started since
	WasHealthy     bool                // Sidecar called it alive at least once
	DrainedAt      time.Time           // when Sidecar was asked to drain it
	DrainAgain     bool                // that was before a restart, which Sidecar may have had too: it forgets

	// What was observed.
	Container ContainerState
	ExitCode  int  // of an exited container
	OOM       bool // the kernel killed it for its memory
	NeedImage bool // the image must be pulled before the container can be created
	Health    pancake.HealthState
	Note      string // the last answer of the failing check
	// UnhealthySince is when Sidecar began to call it unhealthy; zero while it does not, or while
	// Sidecar is not heard: an old word must not end a task.
	UnhealthySince time.Time
	Problem        *Problem
	// RetryAt is when to try again what could not be done, because the engine
	// did not answer, as Trouble says.
	RetryAt time.Time
	Trouble string

	// The settings.
	Image          string        // for messages
	DrainFor       time.Duration // between drain and stop
	UnhealthyAfter time.Duration // how long a task that was healthy may be unhealthy
}

// ending reports whether the task is on its way out, by a kill or by our own
// decision to give an unhealthy task up: only that drains without a kill.
func (f *Facts) ending() bool { return f.Want != Run || f.gaveUp() }

func (f *Facts) gaveUp() bool { return f.Want == Run && !f.DrainedAt.IsZero() }

func (f *Facts) sick() bool {
	return f.Container == Running && f.WasHealthy && !f.UnhealthySince.IsZero()
}

// starting reports whether the container is still on its way.
func (f *Facts) starting() bool {
	return f.Want == Run && (f.Reported == pancake.TaskStaging || f.Reported == pancake.TaskStarting)
}
