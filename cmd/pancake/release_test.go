package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/jobspec"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const helloSpec = `nmesos_version: '3.0.7'
common:
  resources: {cpus: 0.1, memoryMb: 32}
  container:
    image: example/hello
    ports: [8080]
    labels: {ServiceName: hello}
    env_vars: {GREETING: hello}
  singularity: {healthcheckUri: /healthz}
environments:
  dev:
    resources: {instances: 2}
`

// inSpecFolder changes to a folder with hello.yml and returns the deploy id of tag 1.
func inSpecFolder(t *testing.T) string {
	t.Helper()
	t.Chdir(t.TempDir())
	writeFile(t, "hello.yml", helloSpec)
	file, _ := jobspec.Parse("hello.yml", []byte(helloSpec))
	spec, problems := file.Environment("dev")
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	_, deploy, err := spec.Release("1", "")
	if err != nil {
		t.Fatal(err)
	}
	return deploy.ID
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func steps(state pancake.DeployState, tasks ...pancake.Task) client.DeployView {
	return client.DeployView{Deploy: pancake.Deploy{State: state, Created: clock()}, Tasks: tasks}
}

func TestReleaseSucceeds(t *testing.T) {
	id := inSpecFolder(t)
	old := aTask(1, "0_old", pancake.TaskRunning, pancake.HealthDraining)
	old.Desired, old.KillReason = pancake.DesiredKill, "replaced"
	s := &fakeScheduler{steps: []client.DeployView{
		steps(pancake.DeployWaiting, aTask(1, id, pancake.TaskStaging, "")),
		steps(pancake.DeployWaiting, aTask(1, id, pancake.TaskRunning, pancake.Healthy), old),
		steps(pancake.DeploySucceeded, aTask(1, id, pancake.TaskRunning, pancake.Healthy), old),
	}}
	got := command{scheduler: s.start(t), args: []string{"release", "hello", "-e", "dev", "-t", "1"}}.run(t)
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("exit %d, stderr %q", got.code, got.stderr)
	}
	has(t, got.stdout, "deploying example/hello:1 to dev_hello as "+id,
		"hello.1 staging on node1", "hello.1 running, healthy on node1, 31001->8080",
		"SUCCEEDED in ", "dev_hello runs "+id)
	has(t, got.stdout, "hello.1 draining on node1, 31001->8080: old deploy 0_old, replaced")
	if n := strings.Count(got.stdout, "running, healthy"); n != 1 {
		t.Errorf("the same line was printed %d times:\n%s", n, got.stdout)
	}
	body := s.submitted[0]
	if body.Request.ID != "dev_hello" || body.Request.Instances != 2 || body.Deploy.ID != id || body.Deploy.Container.Image != "example/hello:1" || body.DryRun {
		t.Errorf("submitted %+v", body)
	}
}

func TestReleaseOnTerminalRedraws(t *testing.T) {
	id := inSpecFolder(t)
	s := &fakeScheduler{steps: []client.DeployView{
		steps(pancake.DeployWaiting, aTask(1, id, pancake.TaskStarting, "")),
		steps(pancake.DeploySucceeded, aTask(1, id, pancake.TaskRunning, pancake.Healthy)),
	}}
	c := command{scheduler: s.start(t), args: []string{"release", "hello", "-e", "dev", "-t", "1"}, columns: 100}
	got := c.run(t)
	has(t, got.stdout, "INSTANCE", "STATE", "hello.1", "\x1b[33mstarting\x1b[0m", "\x1b[2A\r", "\x1b[32mrunning \x1b[0m", "\x1b[32mhealthy  \x1b[0m", "\x1b[32mSUCCEEDED\x1b[0m")

	s.steps = []client.DeployView{steps(pancake.DeploySucceeded, aTask(1, id, pancake.TaskRunning, pancake.Healthy))}
	c.vars = map[string]string{"NO_COLOR": "1"}
	if got = c.run(t); strings.Contains(got.stdout, "\x1b[3") || !strings.Contains(got.stdout, "\x1b[K") {
		t.Errorf("with NO_COLOR: %q", got.stdout)
	}
}

func TestReleaseFails(t *testing.T) {
	id := inSpecFolder(t)
	failed := aTask(2, id, pancake.TaskFailed, "")
	view := steps(pancake.DeployFailed, failed, aTask(1, "0_old", pancake.TaskRunning, pancake.Healthy))
	view.Deploy.Message = "a task failed"
	view.Deploy.Failures = []pancake.DeployFailure{{
		Reason: pancake.FailedOnStartup, TaskID: failed.ID, Message: "exit code 3", Log: []string{"cannot open\x1b[2J database"},
	}}
	s := &fakeScheduler{steps: []client.DeployView{view}}
	args := []string{"release", "hello", "-e", "dev", "-t", "1"}
	got := command{scheduler: s.start(t), args: args}.run(t)
	if got.code != exitFailed {
		t.Errorf("exit %d", got.code)
	}
	has(t, got.stdout, "hello.2 on node1: TASK_FAILED_ON_STARTUP: exit code 3", "  | cannot open [2J database", "the deploy before it, 0_old, goes on")
	has(t, got.stderr, "pancake: deploy "+id+" of dev_hello FAILED after ", ": a task failed\n")

	got = command{scheduler: s.start(t), args: append(args, "-o", "json")}.run(t)
	var out releaseOutput
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || got.code != exitFailed {
		t.Fatalf("exit %d, %v:\n%s", got.code, err, got.stdout)
	}
	if out.Result != "FAILED" || len(out.Deploy.Failures) != 1 || len(out.Tasks) != 2 {
		t.Errorf("printed %+v", out)
	}
}

func TestReleaseConflicts(t *testing.T) {
	id := inSpecFolder(t)
	refused := pancake.Errorf(pancake.Conflict, "there is a deploy already")
	pending := aRequest(2, "0_old")
	pending.Request.PendingDeploy, pending.Pending = id, &pancake.Deploy{ID: id, State: pancake.DeployWaiting}
	done := steps(pancake.DeploySucceeded, aTask(1, id, pancake.TaskRunning, pancake.Healthy))
	for name, test := range map[string]struct {
		request client.RequestView
		steps   []client.DeployView
		flags   []string
		code    int
		text    string
	}{
		"it is active":            {request: aRequest(2, id), text: "hello " + id + " is already running; nothing to do (use --force to deploy it again)\n"},
		"it is on its way":        {request: pending, steps: []client.DeployView{done}, text: "SUCCEEDED in"},
		"it was deployed before":  {request: aRequest(2, "0_old"), steps: []client.DeployView{done}, code: exitFailed, text: "pancake: There is already a deploy with id " + id + ", use --force to force the redeploy\n"},
		"another is on its way":   {request: aRequest(2, "0_old"), code: exitFailed, text: "pancake: there is a deploy already\n"},
		"it is forced and cannot": {request: aRequest(2, id), flags: []string{"--force"}, code: exitFailed, text: "pancake: there is a deploy already\n"},
		"it is on its way, and not to be followed": {
			request: pending, flags: []string{"--detach"}, text: "hello " + id + " is already on its way\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeScheduler{refuse: refused, requests: []client.RequestView{test.request}, steps: test.steps}
			got := command{scheduler: s.start(t), args: append([]string{"release", "hello", "-e", "dev", "-t", "1"}, test.flags...)}.run(t)
			if got.code != test.code {
				t.Errorf("exit %d, want %d", got.code, test.code)
			}
			has(t, got.stdout+got.stderr, test.text)
		})
	}
}

func TestReleaseForceMakesNewID(t *testing.T) {
	id := inSpecFolder(t)
	s := &fakeScheduler{}
	got := command{scheduler: s.start(t), args: []string{"release", "hello", "-e", "dev", "-t", "1", "--force", "--detach"}}.run(t)
	has(t, got.stdout, "is accepted. Follow it with: pancake status dev_hello --watch")
	if sent := s.submitted[0].Deploy.ID; !strings.HasPrefix(sent, id+"_") {
		t.Errorf("forced deploy has the id %s", sent)
	}
}

func TestReleaseDryRun(t *testing.T) {
	inSpecFolder(t)
	s := &fakeScheduler{}
	c := command{scheduler: s.start(t), args: []string{"release", "hello", "-e", "dev", "-t", "1", "--dry-run"}}
	got := c.run(t)
	has(t, got.stdout, "would deploy example/hello:1 to dev_hello", "2 instances", "nothing was changed")
	if !s.submitted[0].DryRun || got.code != exitOK {
		t.Errorf("exit %d, submitted %+v", got.code, s.submitted[0])
	}
	s.refuse = pancake.Errorf(pancake.NoRoom, "memory: 32 MiB are missing")
	if got = c.run(t); got.code != exitFailed || got.stderr != "pancake: memory: 32 MiB are missing\n" {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestReleaseOutlivesScheduler(t *testing.T) {
	id := inSpecFolder(t)
	s := &fakeScheduler{fail: 2, steps: []client.DeployView{steps(pancake.DeploySucceeded, aTask(1, id, pancake.TaskRunning, pancake.Healthy))}}
	got := command{scheduler: s.start(t), args: []string{"release", "hello", "-e", "dev", "-t", "1"}}.run(t)
	if got.code != exitOK {
		t.Errorf("exit %d", got.code)
	}
	has(t, got.stderr, "pancake: no leader is elected; waiting for it to come back\n")
	has(t, got.stdout, "SUCCEEDED")
}

func TestReleaseStopsFollowing(t *testing.T) {
	id := inSpecFolder(t)
	s := &fakeScheduler{steps: []client.DeployView{steps(pancake.DeployWaiting, aTask(1, id, pancake.TaskStaging, ""))}}
	url := s.start(t)

	got := command{scheduler: url, args: []string{"release", "hello", "-e", "dev", "-t", "1", "--timeout", "50ms"}}.run(t)
	if got.code != exitFailed {
		t.Errorf("exit %d after the timeout", got.code)
	}
	has(t, got.stderr, "pancake: the deploy was not finished after 50ms; it goes on. Follow it with: pancake status dev_hello --watch\n")

	ctx, cancel := context.WithCancel(t.Context())
	s.read = cancel
	got = command{ctx: ctx, scheduler: url, args: []string{"release", "hello", "-e", "dev", "-t", "1"}}.run(t)
	if got.code != exitInterrupted {
		t.Errorf("exit %d after an interrupt", got.code)
	}
	if got.stderr != "pancake: stopped following; the deploy goes on. Follow it with: pancake status dev_hello --watch\n" {
		t.Errorf("stderr %q", got.stderr)
	}
}

func TestReleaseBadInputSendsNothing(t *testing.T) {
	inSpecFolder(t)
	writeFile(t, "bad.yml", strings.Replace(helloSpec, "cpus: 0.1", "cpus: lots", 1))
	if err := os.Mkdir("folder.yml", 0o700); err != nil {
		t.Fatal(err)
	}
	missing, _ := filepath.Abs("helo.yaml")
	for name, test := range map[string]struct {
		args []string
		text []string
	}{
		"no environment":      {[]string{"hello", "-t", "1"}, []string{"pancake: say which environment with --environment (-e); hello.yml has: dev"}},
		"no tag":              {[]string{"hello", "-e", "dev"}, []string{"pancake: say which version with --tag (-t)"}},
		"bad tag":             {[]string{"hello", "-e", "dev", "-t", "a b"}, []string{`pancake: "a b" is not an image tag`}},
		"unknown environment": {[]string{"hello", "-e", "prod", "-t", "1"}, []string{`hello.yml:10:1: environments: there is no environment "prod"`, "pancake: hello.yml has 1 error; nothing was sent\n"}},
		"wrong type":          {[]string{"bad", "-e", "dev", "-t", "1"}, []string{"bad.yml:3:21: common.resources.cpus: ", "pancake: bad.yml has 1 error"}},
		"missing file":        {[]string{"helo", "-e", "dev", "-t", "1"}, []string{`pancake: there is no spec for "helo". Tried:`, missing, "Did you mean hello?"}},
		"unreadable file":     {[]string{"folder", "-e", "dev", "-t", "1"}, []string{"pancake: cannot read the spec ", "is a directory"}},
		"no service":          {[]string{"-e", "dev", "-t", "1"}, []string{"pancake: arguments: 1 too few; write: pancake release <service>", `See "pancake release --help"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeScheduler{}
			got := command{scheduler: s.start(t), args: append([]string{"release"}, test.args...)}.run(t)
			if got.code != exitUsage || len(s.submitted) > 0 || got.stdout != "" {
				t.Errorf("exit %d, stdout %q, sent %v", got.code, got.stdout, s.submitted)
			}
			has(t, got.stderr, test.text...)
		})
	}
}
