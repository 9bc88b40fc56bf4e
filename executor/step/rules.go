package step

import (
	"fmt"
	"time"

	"github.com/pancake-stack/pancake"
)

// Next decides what to do at the time now. Equal input, equal answer.
func Next(f Facts, now time.Time) Action {
	for _, r := range rules {
		if r.when(&f, now) {
			return r.then(&f)
		}
	}
	return Action{Do: Wait} // the last rule always matches; this is for the compiler
}

type rule struct {
	when func(f *Facts, now time.Time) bool
	then func(f *Facts) Action
}

// rules is in order of precedence: the first that matches decides.
var rules = []rule{
	// 1. The end was reported and nothing is left of the container.
	{func(f *Facts, _ time.Time) bool { return f.Reported.Terminal() && f.Container == Absent }, do(Done)},

	// 2. A kill before the container existed, for example during a pull, or after it is gone.
	{
		func(f *Facts, _ time.Time) bool { return f.Want != Run && f.Container == Absent },
		report(pancake.TaskKilled, pancake.ReasonKilled, "stopped, as the scheduler asked"),
	},

	// 3. A step failed for good: say why. What is left of the container goes by rule 6.
	{
		func(f *Facts, _ time.Time) bool { return f.Problem != nil && !f.Reported.Terminal() && f.Want == Run },
		func(f *Facts) Action {
			return Action{Do: Report, State: f.Problem.State, Reason: f.Problem.Reason, Message: f.Problem.Message}
		},
	},

	// 4. The engine did not answer: no rule below can do without it, or may
	// hurry. Nothing is made a failure of the task by that, but whoever waits for it is told.
	{
		func(f *Facts, now time.Time) bool {
			return now.Before(f.RetryAt) && f.starting() && f.ReportedReason != pancake.ReasonNoDocker
		},
		func(f *Facts) Action {
			return Action{Do: Report, State: f.Reported, Reason: pancake.ReasonNoDocker, Message: f.Trouble}
		},
	},
	{
		func(f *Facts, now time.Time) bool { return now.Before(f.RetryAt) },
		func(f *Facts) Action { return Action{Do: Wait, Until: f.RetryAt} },
	},

	// 5. After a restart, an event or a failed call nobody knows what the container does.
	{func(f *Facts, _ time.Time) bool { return f.Container == Unknown }, do(Look)},

	// 6. The end was reported: clean up. Its last lines were taken with the report.
	{func(f *Facts, _ time.Time) bool { return f.Reported.Terminal() }, do(Remove)},

	// 7. A killed container that does not run needs no stop.
	{func(f *Facts, _ time.Time) bool { return f.Want != Run && f.Container != Running }, do(Remove)},

	// 8. A kill of a running container is reported before it is carried out.
	{
		func(f *Facts, _ time.Time) bool { return f.Want != Run && f.Reported != pancake.TaskKilling },
		report(pancake.TaskKilling, pancake.ReasonKilled, "being stopped, as the scheduler asked"),
	},

	// 9. It ended by itself, or because it was given up.
	{func(f *Facts, _ time.Time) bool { return f.Container == Exited }, exited},

	// 10. It was started, and now there is none: somebody removed it. It is
	// never made again on the quiet; where to run it anew is the scheduler's decision.
	{
		func(f *Facts, _ time.Time) bool { return f.Container == Absent && f.StartAsked },
		report(pancake.TaskFailed, pancake.ReasonContainerGone, "the container was removed by somebody else"),
	},

	// 11. Pull, if need be: always when the spec forces it, otherwise when
	// creating the container showed that the image is missing.
	{
		func(f *Facts, _ time.Time) bool {
			return f.Container == Absent && f.NeedImage && f.Reported != pancake.TaskStaging
		},
		func(f *Facts) Action {
			return Action{Do: Report, State: pancake.TaskStaging, Message: "pulling image " + f.Image}
		},
	},
	{func(f *Facts, _ time.Time) bool { return f.Container == Absent && f.NeedImage }, do(Pull)},

	// 12. Create, once that is written down and said.
	{
		func(f *Facts, _ time.Time) bool { return f.Container == Absent && f.Reported != pancake.TaskStarting },
		report(pancake.TaskStarting, "", ""),
	},
	{func(f *Facts, _ time.Time) bool { return f.Container == Absent }, do(Create)},

	// 13. Start.
	{func(f *Facts, _ time.Time) bool { return f.Container == Created }, do(Start)},

	// From here on the container runs.

	// 14. Say so, and say it again when Sidecar's opinion changes.
	{
		func(f *Facts, _ time.Time) bool { return f.Want == Run && f.Reported != pancake.TaskRunning },
		report(pancake.TaskRunning, "", ""),
	},
	{
		func(f *Facts, _ time.Time) bool { return f.Health != f.ReportedHealth },
		func(f *Facts) Action { return Action{Do: Report, State: f.Reported} },
	},
	// What a failing check answers may change with each check, and each report is
	// stored by the scheduler: not more often than needed to explain it.
	{
		func(f *Facts, now time.Time) bool {
			return f.Want == Run && f.Note != f.ReportedNote && !now.Before(f.noteDue())
		},
		func(f *Facts) Action { return Action{Do: Report, State: f.Reported} },
	},

	// 15. Nothing routes to a task that never was reported running, and "now"
	// means now: stop without drain.
	{func(f *Facts, _ time.Time) bool { return f.Want == KillNow || (f.Want == Kill && !f.Ran) }, do(Stop)},

	// 16. Drain, give traffic the time to move, stop. The wait is kept even if
	// Sidecar could not be told: other ways may still take traffic off it.
	{func(f *Facts, _ time.Time) bool { return f.ending() && (f.DrainedAt.IsZero() || f.DrainAgain) }, do(Drain)},
	{
		func(f *Facts, now time.Time) bool { return f.ending() && now.Before(f.DrainedAt.Add(f.DrainFor)) },
		func(f *Facts) Action { return Action{Do: Wait, Until: f.DrainedAt.Add(f.DrainFor)} },
	},
	{func(f *Facts, _ time.Time) bool { return f.ending() }, do(Stop)},

	// 17. The answer of a failing check is due for a report soon, or the task to be given up.
	{
		func(f *Facts, _ time.Time) bool {
			return f.Note != f.ReportedNote && (!f.sick() || !f.unhealthyUntil().Before(f.noteDue()))
		},
		func(f *Facts) Action { return Action{Do: Wait, Until: f.noteDue()} },
	},

	// 18. It was healthy and has been unhealthy for too long: give it up. Once
	// it is draining there is no way back (rule 16).
	{func(f *Facts, now time.Time) bool { return f.sick() && !now.Before(f.unhealthyUntil()) }, do(Drain)},
	{
		func(f *Facts, _ time.Time) bool { return f.sick() },
		func(f *Facts) Action { return Action{Do: Wait, Until: f.unhealthyUntil()} },
	},

	// 19. It runs, and that is all that is wanted.
	{func(*Facts, time.Time) bool { return true }, do(Wait)},
}

// noteEvery is the least time between two reports that differ only in what a failing check answers.
const noteEvery = 2 * time.Second

func (f *Facts) noteDue() time.Time { return f.ReportedAt.Add(noteEvery) }

func (f *Facts) unhealthyUntil() time.Time { return f.UnhealthySince.Add(f.UnhealthyAfter) }

func do(v Verb) func(*Facts) Action {
	return func(*Facts) Action { return Action{Do: v} }
}

func report(s pancake.TaskState, reason, message string) func(*Facts) Action {
	return func(*Facts) Action { return Action{Do: Report, State: s, Reason: reason, Message: message} }
}

// exited says how a container ended that nobody killed.
func exited(f *Facts) Action {
	a := Action{Do: Report, State: pancake.TaskFailed, Reason: pancake.ReasonExited}
	switch {
	case f.gaveUp():
		a.Reason = pancake.ReasonUnhealthy
		a.Message = fmt.Sprintf("stopped after Sidecar had called it unhealthy for %s", f.UnhealthyAfter)
	case f.OOM:
		a.Reason = pancake.ReasonOOM
		a.Message = "killed by the kernel for exceeding its memory limit; raise memoryMb or let it use less"
	case f.ExitCode == 0:
		a.State = pancake.TaskFinished
		a.Message = "exited with code 0"
	default:
		a.Message = fmt.Sprintf("exited with code %d", f.ExitCode)
	}
	return a
}
