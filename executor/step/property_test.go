package step_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/step"
)

// world carries actions out the way the executor does, in an environment that
// does its worst: calls fail, the executor restarts, containers end, are
// removed by others, Sidecar changes its mind, and kills come at any time.
type world struct {
	f         step.Facts
	now       time.Time
	container step.ContainerState // what it really is
	trouble   int                 // how many more bad things may happen
	runs      int                 // how often a container was started
}

func (w *world) act(t *rapid.T, a step.Action) {
	unlucky := w.unlucky(t, string(a.Do))
	switch a.Do {
	case step.Wait:
		w.wait(t, a.Until)
		return
	case step.Report:
		w.check(t, a)
		w.f.Reported, w.f.ReportedReason, w.f.ReportedHealth = a.State, a.Reason, w.f.Health
		w.f.ReportedNote, w.f.ReportedAt = w.f.Note, w.now
		w.f.Ran = w.f.Ran || a.State == pancake.TaskRunning
		return
	case step.Drain:
		w.f.DrainedAt, w.f.DrainAgain = w.now, false
		return
	}
	if unlucky && rapid.Bool().Draw(t, "no answer") {
		if rapid.Bool().Draw(t, "but it was done") {
			w.effect(a.Do)
		}
		w.f.RetryAt = w.now.Add(time.Second)
		if a.Do != step.Pull {
			w.f.Container = step.Unknown
		}
		return
	}
	switch a.Do {
	case step.Look:
		w.f.Container = w.container
		w.f.StartAsked = w.f.StartAsked || w.container != step.Absent
	case step.Pull:
		w.f.NeedImage = false
		w.fail(unlucky, pancake.ReasonImagePull)
	case step.Create:
		if w.fail(unlucky, pancake.ReasonCreate); !unlucky {
			w.effect(a.Do)
			w.f.Container, w.f.StartAsked = step.Created, true
		}
	case step.Start:
		if w.fail(unlucky, pancake.ReasonStart); !unlucky {
			w.effect(a.Do)
			w.f.Container = step.Running
		}
	case step.Stop:
		w.effect(a.Do)
		w.f.Container = step.Unknown
	case step.Remove:
		w.effect(a.Do)
		w.f.Container = step.Absent
	}
}

// effect is what an action does to the container.
func (w *world) effect(v step.Verb) {
	switch v {
	case step.Create:
		w.container = step.Created
	case step.Start:
		w.container = step.Running
		w.runs++
	case step.Stop:
		w.container = step.Exited
	case step.Remove:
		w.container = step.Absent
	}
}

func (w *world) fail(unlucky bool, reason string) {
	if unlucky {
		w.f.Problem = &step.Problem{State: pancake.TaskFailed, Reason: reason, Message: "no"}
	}
}

func (w *world) unlucky(t *rapid.T, what string) bool {
	if w.trouble == 0 || rapid.IntRange(0, 3).Draw(t, "luck of "+what) > 0 {
		return false
	}
	w.trouble--
	return true
}

// wait lets time pass, or something happen.
func (w *world) wait(t *rapid.T, until time.Time) {
	if !until.IsZero() && !w.unlucky(t, "waiting") {
		w.now = until
		return
	}
	w.now = w.now.Add(time.Second)
	switch event := rapid.IntRange(0, 5).Draw(t, "event"); {
	case event == 0 && w.container == step.Running:
		w.container, w.f.Container = step.Exited, step.Unknown
		w.f.ExitCode = rapid.IntRange(0, 3).Draw(t, "exit code")
	case event == 1 && w.container != step.Absent:
		w.container, w.f.Container = step.Absent, step.Unknown
	case event == 2:
		w.f.Health, w.f.WasHealthy, w.f.UnhealthySince, w.f.Note = pancake.Healthy, true, time.Time{}, ""
	case event == 3:
		w.f.Health, w.f.UnhealthySince = pancake.Unhealthy, w.now
		w.f.Note = rapid.SampledFrom([]string{"500", "refused"}).Draw(t, "note")
	case event == 4: // a restart of the executor
		w.f.Container, w.f.UnhealthySince = step.Unknown, time.Time{}
		w.f.DrainAgain = !w.f.DrainedAt.IsZero()
	default:
		if w.f.Want == step.Run {
			w.f.Want = rapid.SampledFrom([]step.Want{step.Kill, step.KillNow}).Draw(t, "kill")
		}
	}
}

// check looks at what is reported.
func (w *world) check(t *rapid.T, a step.Action) {
	if w.f.Reported.Terminal() {
		t.Fatalf("%s is reported after the end, %s", a.State, w.f.Reported)
	}
	if a.State == w.f.Reported && a.Reason == w.f.ReportedReason && w.f.Health == w.f.ReportedHealth && w.f.Note == w.f.ReportedNote {
		t.Fatalf("%s is reported twice", a.State)
	}
	if (a.State == pancake.TaskKilled || a.State == pancake.TaskFinished) && w.container == step.Running {
		t.Fatalf("%s is reported, and it runs", a.State)
	}
	if a.State == pancake.TaskKilled && w.f.Want == step.Run {
		t.Fatal("killed, and nobody asked")
	}
}

// Every path comes to an end, whatever happens on it, and leaves nothing behind.
func TestEveryPathEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := world{
			f: step.Facts{
				Container: step.Absent, NeedImage: rapid.Bool().Draw(t, "force pull"),
				DrainFor: 10 * time.Second, UnhealthyAfter: 90 * time.Second,
			},
			now: now, container: step.Absent, trouble: rapid.IntRange(0, 12).Draw(t, "trouble"),
		}
		for range 500 {
			a := step.Next(w.f, w.now)
			if a.Do == step.Done {
				if w.container != step.Absent || !w.f.Reported.Terminal() {
					t.Fatalf("done with a container %s after %s", w.container, w.f.Reported)
				}
				if w.runs > 1 {
					t.Fatalf("started %d times", w.runs)
				}
				return
			}
			w.act(t, a)
		}
		t.Fatalf("no end in sight: %+v", w.f)
	})
}

// Whatever the facts are, these never happen.
func TestNever(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFacts(t)
		a := step.Next(f, now)
		if again := step.Next(f, now); again != a {
			t.Fatalf("%+v, then %+v", a, again)
		}
		switch a.Do {
		case step.Pull, step.Create, step.Start:
			if f.Want != step.Run {
				t.Fatalf("%s after a kill", a.Do)
			}
			if a.Do != step.Start && f.StartAsked {
				t.Fatalf("%s of a container that was started before", a.Do)
			}
		case step.Stop:
			drained := !f.DrainedAt.IsZero() && !now.Before(f.DrainedAt.Add(f.DrainFor))
			if (!drained || f.DrainAgain) && f.Want != step.KillNow && f.Ran {
				t.Fatal("stopped without drain, and traffic may go there")
			}
		case step.Remove:
			if f.Container == step.Running && !f.Reported.Terminal() {
				t.Fatal("a running container is removed without stop")
			}
		case step.Wait:
			if !a.Until.IsZero() && !a.Until.After(now) {
				t.Fatalf("waits until %s ago", now.Sub(a.Until))
			}
		}
		if f.Container == step.Unknown && (a.Do == step.Create || a.Do == step.Start || a.Do == step.Remove || a.Do == step.Stop) {
			t.Fatalf("%s of a container that nobody looked at", a.Do)
		}
	})
}

func anyFacts(t *rapid.T) step.Facts {
	moment := func(name string) time.Time {
		if rapid.Bool().Draw(t, name+" is unset") {
			return time.Time{}
		}
		return now.Add(time.Duration(rapid.IntRange(-120, 60).Draw(t, name)) * time.Second)
	}
	f := step.Facts{
		Want: rapid.SampledFrom([]step.Want{step.Run, step.Kill, step.KillNow}).Draw(t, "want"),
		Reported: rapid.SampledFrom([]pancake.TaskState{
			"", pancake.TaskStaging, pancake.TaskStarting, pancake.TaskRunning, pancake.TaskKilling, pancake.TaskFailed,
		}).Draw(t, "reported"),
		Ran: rapid.Bool().Draw(t, "ran"), StartAsked: rapid.Bool().Draw(t, "start asked"), WasHealthy: rapid.Bool().Draw(t, "was healthy"),
		DrainedAt: moment("drained"), DrainAgain: rapid.Bool().Draw(t, "drain again"), UnhealthySince: moment("unhealthy"), RetryAt: moment("retry"),
		Container: rapid.SampledFrom([]step.ContainerState{step.Unknown, step.Absent, step.Created, step.Running, step.Exited}).Draw(t, "container"),
		NeedImage: rapid.Bool().Draw(t, "need image"), OOM: rapid.Bool().Draw(t, "oom"),
		Health: rapid.SampledFrom([]pancake.HealthState{"", pancake.Healthy, pancake.Unhealthy}).Draw(t, "health"),
		Note:   rapid.SampledFrom([]string{"", "500"}).Draw(t, "note"), ReportedAt: moment("reported"),
		DrainFor: 10 * time.Second, UnhealthyAfter: 90 * time.Second,
	}
	if rapid.Bool().Draw(t, "problem") {
		f.Problem = &step.Problem{State: pancake.TaskError, Reason: pancake.ReasonCreate}
	}
	return f
}
