package step_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/step"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// running are the facts of a task that runs as it should; each test changes what it is about.
func running(change func(*step.Facts)) step.Facts {
	f := step.Facts{
		Reported: pancake.TaskRunning, Ran: true, StartAsked: true, Container: step.Running,
		Image: "hello:1", DrainFor: 10 * time.Second, UnhealthyAfter: 90 * time.Second,
	}
	if change != nil {
		change(&f)
	}
	return f
}

func fresh(change func(*step.Facts)) step.Facts {
	f := step.Facts{Container: step.Absent, Image: "hello:1", DrainFor: 10 * time.Second, UnhealthyAfter: 90 * time.Second}
	if change != nil {
		change(&f)
	}
	return f
}

func TestNext(t *testing.T) {
	problem := &step.Problem{State: pancake.TaskFailed, Reason: pancake.ReasonPortInUse, Message: "port 127.0.0.1:80 is already in use"}
	for name, tt := range map[string]struct {
		facts step.Facts
		want  string // verb, or "report STATE reason"
	}{
		"a new task is reported first":        {fresh(nil), "report TASK_STARTING"},
		"then created":                        {fresh(func(f *step.Facts) { f.Reported = pancake.TaskStarting }), "create"},
		"a forced pull is reported first":     {fresh(func(f *step.Facts) { f.NeedImage = true }), "report TASK_STAGING"},
		"a missing image is reported":         {fresh(func(f *step.Facts) { f.Reported, f.NeedImage = pancake.TaskStarting, true }), "report TASK_STAGING"},
		"then pulled":                         {fresh(func(f *step.Facts) { f.Reported, f.NeedImage = pancake.TaskStaging, true }), "pull"},
		"and after the pull created":          {fresh(func(f *step.Facts) { f.Reported = pancake.TaskStaging }), "report TASK_STARTING"},
		"a created container is started":      {fresh(func(f *step.Facts) { f.Container, f.StartAsked = step.Created, true }), "start"},
		"a running one is reported":           {running(func(f *step.Facts) { f.Reported = pancake.TaskStarting }), "report TASK_RUNNING"},
		"and left alone":                      {running(nil), "wait"},
		"a change of health is reported":      {running(func(f *step.Facts) { f.Health = pancake.Healthy }), "report TASK_RUNNING"},
		"after a restart one looks first":     {running(func(f *step.Facts) { f.Container = step.Unknown }), "look"},
		"removed by somebody":                 {running(func(f *step.Facts) { f.Container = step.Absent }), "report TASK_FAILED container_gone"},
		"removed by somebody before it began": {fresh(func(f *step.Facts) { f.Reported, f.StartAsked = pancake.TaskStarting, true }), "report TASK_FAILED container_gone"},

		"exit 0":      {running(func(f *step.Facts) { f.Container = step.Exited }), "report TASK_FINISHED exited"},
		"exit 3":      {running(func(f *step.Facts) { f.Container, f.ExitCode = step.Exited, 3 }), "report TASK_FAILED exited"},
		"no memory":   {running(func(f *step.Facts) { f.Container, f.ExitCode, f.OOM = step.Exited, 137, true }), "report TASK_FAILED out_of_memory"},
		"clean up":    {running(func(f *step.Facts) { f.Reported, f.Container = pancake.TaskFailed, step.Exited }), "remove"},
		"nothing now": {running(func(f *step.Facts) { f.Reported, f.Container = pancake.TaskFailed, step.Absent }), "done"},

		"a problem is reported":                            {fresh(func(f *step.Facts) { f.Problem = problem }), "report TASK_FAILED port_in_use"},
		"and its container removed":                        {fresh(func(f *step.Facts) { f.Problem, f.Reported, f.Container = problem, pancake.TaskFailed, step.Created }), "remove"},
		"no engine: say so once":                           {fresh(func(f *step.Facts) { f.Reported, f.RetryAt = pancake.TaskStarting, now.Add(time.Second) }), "report TASK_STARTING no_docker"},
		"no engine: then wait":                             {fresh(func(f *step.Facts) { noEngine(f) }), "wait until 1s"},
		"no engine: running tasks wait too":                {running(func(f *step.Facts) { f.RetryAt, f.Container = now.Add(time.Second), step.Unknown }), "wait until 1s"},
		"no engine: then again":                            {fresh(func(f *step.Facts) { noEngine(f); f.RetryAt = now }), "create"},
		"kill needs no engine before there is a container": {fresh(func(f *step.Facts) { noEngine(f); f.Want = step.Kill }), "report TASK_KILLED killed"},

		"kill before anything":        {fresh(func(f *step.Facts) { f.Want = step.Kill }), "report TASK_KILLED killed"},
		"kill during a pull":          {fresh(func(f *step.Facts) { f.Want, f.Reported, f.NeedImage = step.Kill, pancake.TaskStaging, true }), "report TASK_KILLED killed"},
		"kill of a created container": {fresh(func(f *step.Facts) { f.Want, f.Container = step.Kill, step.Created }), "remove"},
		"kill despite a problem":      {fresh(func(f *step.Facts) { f.Want, f.Container, f.Problem = step.Kill, step.Created, problem }), "remove"},
		"kill is reported":            {running(func(f *step.Facts) { f.Want = step.Kill }), "report TASK_KILLING killed"},
		"then drains":                 {running(func(f *step.Facts) { killing(f) }), "drain"},
		"then waits":                  {running(func(f *step.Facts) { killing(f); f.DrainedAt = now.Add(-4 * time.Second) }), "wait until 6s"},
		"and says what Sidecar says":  {running(func(f *step.Facts) { killing(f); f.DrainedAt, f.Health = now, pancake.HealthDraining }), "report TASK_KILLING"},
		"drains again after a restart": {running(func(f *step.Facts) {
			killing(f)
			f.DrainedAt, f.DrainAgain = now.Add(-time.Hour), true
		}), "drain"},
		"unless there is no time": {running(func(f *step.Facts) {
			killing(f)
			f.Want, f.DrainedAt, f.DrainAgain = step.KillNow, now, true
		}), "stop"},
		"then stops":                  {running(func(f *step.Facts) { killing(f); f.DrainedAt = now.Add(-10 * time.Second) }), "stop"},
		"then removes":                {running(func(f *step.Facts) { killing(f); f.DrainedAt, f.Container = now, step.Exited }), "remove"},
		"kill of an exited container": {running(func(f *step.Facts) { f.Want, f.Container, f.ExitCode = step.Kill, step.Exited, 1 }), "remove"},
		"kill of a removed container": {running(func(f *step.Facts) { killing(f); f.Container = step.Absent }), "report TASK_KILLED killed"},
		"kill now":                    {running(func(f *step.Facts) { killing(f); f.Want = step.KillNow }), "stop"},
		"kill now cuts a drain short": {running(func(f *step.Facts) { killing(f); f.Want, f.DrainedAt = step.KillNow, now }), "stop"},
		"kill before TASK_RUNNING":    {running(func(f *step.Facts) { killing(f); f.Ran = false }), "stop"},

		"a newer answer of the check is not hurried": {running(func(f *step.Facts) { f.Note, f.ReportedAt = "500", now.Add(-time.Second) }), "wait until 1s"},
		"but reported": {running(func(f *step.Facts) { f.Note, f.ReportedAt = "500", now.Add(-2*time.Second) }), "report TASK_RUNNING"},
		"a newer answer does not put off the end":     {running(func(f *step.Facts) { sick(f, 90*time.Second); f.Note, f.ReportedAt = "500", now }), "drain"},
		"nor matters to a task that is being stopped": {running(func(f *step.Facts) { killing(f); f.Note = "500" }), "drain"},

		"unhealthy from the start":     {running(func(f *step.Facts) { sick(f, time.Hour); f.WasHealthy = false }), "wait"},
		"unhealthy for a while":        {running(func(f *step.Facts) { sick(f, 60*time.Second) }), "wait until 30s"},
		"unhealthy too long":           {running(func(f *step.Facts) { sick(f, 90*time.Second) }), "drain"},
		"given up waits":               {running(func(f *step.Facts) { sick(f, 95*time.Second); f.DrainedAt = now.Add(-5 * time.Second) }), "wait until 5s"},
		"given up stops, even if well": {running(func(f *step.Facts) { f.WasHealthy, f.DrainedAt = true, now.Add(-10*time.Second) }), "stop"},
		"given up has failed":          {running(func(f *step.Facts) { f.DrainedAt, f.Container = now, step.Exited }), "report TASK_FAILED unhealthy"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := describe(step.Next(tt.facts, now)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func noEngine(f *step.Facts) {
	f.Reported, f.ReportedReason, f.RetryAt = pancake.TaskStarting, pancake.ReasonNoDocker, now.Add(time.Second)
}

func killing(f *step.Facts) { f.Want, f.Reported = step.Kill, pancake.TaskKilling }

func sick(f *step.Facts, since time.Duration) {
	f.WasHealthy, f.UnhealthySince = true, now.Add(-since)
	f.Health, f.ReportedHealth = pancake.Unhealthy, pancake.Unhealthy
}

func describe(a step.Action) string {
	words := []string{string(a.Do)}
	if !a.Until.IsZero() {
		words = append(words, "until", a.Until.Sub(now).String())
	}
	for _, w := range []string{string(a.State), a.Reason} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}
