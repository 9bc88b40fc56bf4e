package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// anAgent is node1, with room for two CPUs.
func anAgent() client.AgentView {
	return client.AgentView{
		Agent: pancake.Agent{
			ID: "a1", Hostname: "node1", Address: "127.0.0.2", Attributes: map[string]string{"zone": "z", "rack": "r1"},
			Resources: pancake.Resources{CPUs: 2000, MemoryMB: 1024}, State: pancake.AgentActive,
		},
		Connected: true, Used: pancake.Resources{CPUs: 100, MemoryMB: 64}, Tasks: 1,
	}
}

// starving is dev_hello with one healthy instance and one that waits.
func starving() client.RequestView {
	v := aRequest(2, "1_new", aTask(1, "1_new", pancake.TaskRunning, pancake.Healthy))
	v.Unplaced = []client.Unplaced{{
		RequestID: "dev_hello", DeployID: "1_new", Instance: 2, Since: clock(),
		Reasons: []client.Reason{{Constraint: "mem", Agents: 2, Message: "node1 has 16 MiB free, 32 are needed"}},
	}}
	return v
}

func TestStatusOverview(t *testing.T) {
	s := &fakeScheduler{requests: []client.RequestView{starving()}, agents: []client.AgentView{anAgent()}}
	c := command{scheduler: s.start(t), args: []string{"status"}}
	got := c.run(t)
	if got.code != exitOK {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	has(t, got.stdout, "REQUEST", "STATE", "HEALTHY", "DEPLOY", "AGE", "NOTE",
		"dev_hello", "active", "1/2", "1_new", "3m", "1 instance waiting: no agent has room: mem: node1 has 16 MiB free, 32 are needed (2 agents)",
		"1 agent: 0.1 of 2 cpus and 64 of 1024 MiB of memory used")

	c.args = []string{"status", "--why"}
	has(t, c.run(t).stdout, "hello.2 of deploy 1_new waits for an agent:", "  mem rules out 2 agents: node1 has 16 MiB free, 32 are needed")

	c.args = []string{"status", "-o", "json"}
	var out overview
	if err := json.Unmarshal([]byte(c.run(t).stdout), &out); err != nil || len(out.Requests) != 1 || len(out.Agents) != 1 {
		t.Errorf("%v, printed %+v", err, out)
	}

	s.requests, s.agents = nil, nil
	c.args = []string{"status"}
	has(t, c.run(t).stdout, "nothing was released yet", "no agent has registered")
}

func TestStatusOfOneRequest(t *testing.T) {
	v := starving()
	v.LastFailure = "hello.2 ended with exit code 1"
	failed := aTask(2, "1_new", pancake.TaskFailed, "")
	failed.Status.Message, failed.Status.Log = "exit code 1", []string{"panic: no config"}
	s := &fakeScheduler{
		requests: []client.RequestView{v},
		deploys:  []pancake.Deploy{{ID: "1_new", State: pancake.DeploySucceeded, User: "ada", Container: pancake.Container{Image: "example/hello:1"}, Created: clock()}},
		history:  []pancake.Task{failed, aTask(3, "1_new", pancake.TaskKilled, "")},
	}
	url := s.start(t)
	for _, args := range [][]string{{"status", "dev_hello"}, {"status", "hello", "-e", "dev"}, {"status", "hello"}, {"status", "specs/hello.yml"}} {
		got := command{scheduler: url, args: args}.run(t)
		has(t, got.stdout, "dev_hello: active, service, 1/2 of its instances healthy", "last failure: hello.2 ended with exit code 1",
			"hello.1", "running", "healthy", "node1", "31001->8080", "3m",
			"hello.2", "waiting", "no agent has room: mem",
			"1_new", "succeeded", "example/hello:1", "ada", "active")
		if strings.Contains(got.stdout, "panic") {
			t.Errorf("%v tells of ended tasks:\n%s", args, got.stdout)
		}
	}
	got := command{scheduler: url, args: []string{"status", "hello", "--why"}}.run(t)
	has(t, got.stdout, "waits for an agent:", "hello.2 on node1: failed 3m ago: exit code 1\n", "  | panic: no config")

	var out detail
	got = command{scheduler: url, args: []string{"status", "hello", "--why", "-o", "json"}}.run(t)
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || out.Request.ID != "dev_hello" || len(out.Deploys) != 1 || len(out.Ended) != 1 {
		t.Errorf("%v, printed %s", err, got.stdout)
	}
}

func TestRequestsAreResolved(t *testing.T) {
	prod := aRequest(1, "1_new")
	prod.Request.ID, prod.Request.Environment = "prod_hello", "prod"
	s := &fakeScheduler{requests: []client.RequestView{aRequest(1, "1_new"), prod}}
	url := s.start(t)
	for name, test := range map[string]struct {
		args []string
		code int
		text string
	}{
		"ambiguous":       {[]string{"hello"}, exitUsage, "pancake: hello runs in several environments: choose one with -e, or name one of dev_hello, prod_hello\n"},
		"by id":           {[]string{"prod_hello"}, exitOK, "prod_hello: active"},
		"by environment":  {[]string{"hello", "-e", "prod"}, exitOK, "prod_hello: active"},
		"slip":            {[]string{"helo"}, exitFailed, `pancake: there is no request or service "helo". Did you mean hello?`},
		"not released":    {[]string{"hello", "-e", "qa"}, exitFailed, "pancake: there is no request qa_hello: hello was not released to qa"},
		"environment":     {[]string{"-e", "qa"}, exitUsage, "pancake: --environment needs a service"},
		"json and watch":  {[]string{"dev_hello", "-w", "-o", "json"}, exitUsage, "pancake: --watch has no JSON form"},
		"unknown setting": {[]string{"-o", "yaml"}, exitUsage, `pancake: --output "yaml": use text or json`},
	} {
		t.Run(name, func(t *testing.T) {
			got := command{scheduler: url, args: append([]string{"status"}, test.args...)}.run(t)
			if got.code != test.code {
				t.Errorf("exit %d, want %d", got.code, test.code)
			}
			has(t, got.stdout+got.stderr, test.text)
		})
	}
}

func TestStatusWatches(t *testing.T) {
	s := &fakeScheduler{requests: []client.RequestView{starving()}, agents: []client.AgentView{anAgent()}}
	url := s.start(t)
	watch := start(t, url, "status", "--watch")
	watch.until(t, "dev_hello active, 1/2 healthy, deploy 1_new: 1 instance waiting")
	watch.until(t, "1 agent: ")
	s.mu.Lock()
	s.requests = []client.RequestView{aRequest(1, "2_new", aTask(1, "2_new", pancake.TaskRunning, pancake.Healthy))}
	s.mu.Unlock()
	watch.until(t, "dev_hello active, 1/1 healthy, deploy 2_new\n")
	watch.interrupt(t)
	if n := strings.Count(watch.out.String(), "\n"); n != 3 {
		t.Errorf("%d lines instead of one per change:\n%s", n, watch.out.String())
	}
}

func TestAgents(t *testing.T) {
	lost := anAgent()
	lost.Agent.ID, lost.Agent.Hostname, lost.Connected = "a2", "node2", false
	s := &fakeScheduler{agents: []client.AgentView{anAgent(), lost}}
	c := command{scheduler: s.start(t), args: []string{"agents"}}
	has(t, c.run(t).stdout, "HOST", "CPUS", "MEMORY (MiB)", "node1", "active", "0.1/2", "64/1024", "127.0.0.2", "rack=r1, zone=z", "a1", "node2", "not connected")
	s.agents = nil
	has(t, c.run(t).stdout, "no agent has registered; start one")
}

// agentIn is node1 in a state, with tasks.
func agentIn(state, wanted pancake.AgentState, tasks int) client.AgentView {
	v := anAgent()
	v.Agent.State, v.Agent.Wanted, v.Tasks = state, wanted, tasks
	return v
}

func TestAgentsAreFrozenActivatedAndForgotten(t *testing.T) {
	twin := anAgent()
	twin.Agent.ID, twin.Agent.Hostname = "a2", "twin"
	other := twin
	other.Agent.ID = "a3"
	s := &fakeScheduler{agents: []client.AgentView{anAgent(), twin, other}, drains: []client.AgentView{agentIn(pancake.AgentFrozen, pancake.AgentFrozen, 2)}}
	url := s.start(t)
	run := func(args ...string) result {
		return command{scheduler: url, args: append([]string{"agents"}, args...)}.run(t)
	}
	has(t, run("freeze", "node1").stdout, "node1 is frozen\n")
	s.drains = []client.AgentView{agentIn(pancake.AgentUnreachable, "", 0)}
	has(t, run("activate", "a1").stdout, "node1 is unreachable, and will be active when it is back\n")
	has(t, run("forget", "a1").stdout, "node1 is forgotten (id a1)\n")
	if got := run("forget", "a3", "-o", "json"); got.stdout != "{\n  \"forgotten\": \"a3\"\n}\n" {
		t.Errorf("%+v", got)
	}
	if want := []string{"freeze a1", "activate a1", "forget a1", "forget a3"}; !slices.Equal(s.changed, want) {
		t.Errorf("asked for %q, want %q", s.changed, want)
	}
	for _, test := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"freeze", "twin"}, exitUsage, "several agents are called twin: name one by its id, one of a2, a3"},
		{[]string{"drain", "nod1"}, exitFailed, `there is no agent "nod1". Did you mean node1?`},
		{[]string{"drain", "node1", "--parallel", "0"}, exitUsage, "--parallel is 1 or more"},
		{[]string{"drian", "node1"}, exitUsage, `there is no command "agents drian"; did you mean drain?`},
		{[]string{"forget"}, exitUsage, "1 too few"},
	} {
		if got := run(test.args...); got.code != test.code || !strings.Contains(got.stderr, test.text) {
			t.Errorf("%v: %+v, want %d and %q", test.args, got, test.code, test.text)
		}
	}
}

func TestDrain(t *testing.T) {
	old, next := aTask(1, "1_new", pancake.TaskRunning, pancake.Healthy), aTask(1, "1_new", pancake.TaskStarting, "")
	old.AgentID, next.AgentID, next.Hostname, next.ID = "a1", "a2", "node2", "next"
	waits := aTask(2, "1_new", pancake.TaskRunning, pancake.Healthy)
	waits.AgentID = "a1"
	request := aRequest(2, "1_new", old, next, waits)
	request.Unplaced = []client.Unplaced{{DeployID: "1_new", Instance: 2, Reasons: []client.Reason{{Constraint: "mem", Agents: 1, Message: "too little"}}}}
	draining := agentIn(pancake.AgentDecommissioning, pancake.AgentDecommissioning, 2)
	s := &fakeScheduler{agents: []client.AgentView{anAgent()}, requests: []client.RequestView{request}}
	url := s.start(t)
	run := func(args ...string) result {
		return command{scheduler: url, args: append([]string{"agents", "drain", "node1"}, args...)}.run(t)
	}

	s.drains = []client.AgentView{draining}
	has(t, run().stdout, "node1 is decommissioning; 2 tasks left. See: pancake agents")

	last := agentIn(pancake.AgentDecommissioning, pancake.AgentDecommissioning, 1)
	s.drains = []client.AgentView{draining, draining, last, agentIn(pancake.AgentDecommissioned, pancake.AgentDecommissioning, 0)}
	got := run("--wait", "--parallel", "3")
	has(t, got.stdout, "dev_hello.1 running; replacement: starting on node2", "dev_hello.2 running; replacement: no agent has room: mem: too little (1 agent)",
		"node1: 2 of 2 tasks left", "node1: 1 of 2 tasks left", "node1: 0 of 2 tasks left", "DRAINED in", "node1 is empty")
	if got.code != 0 || !slices.Equal(s.changed, []string{"decommission a1 5", "decommission a1 3"}) {
		t.Errorf("%d, asked for %q", got.code, s.changed)
	}

	s.drains = []client.AgentView{draining}
	got = run("--wait", "--timeout", "50ms")
	has(t, got.stderr, "node1 is not empty after 50ms: 2 tasks left; the scheduler goes on")
	if got.code != exitFailed {
		t.Errorf("exit code %d", got.code)
	}
	s.drains = []client.AgentView{draining, draining, agentIn(pancake.AgentActive, "", 2)}
	has(t, run("--wait").stderr, "node1 is no more to be drained: somebody else has changed that")

	s.drains = []client.AgentView{draining, agentIn(pancake.AgentDecommissioned, pancake.AgentDecommissioning, 0)}
	var out client.AgentView
	if got = run("--wait", "-o", "json"); json.Unmarshal([]byte(got.stdout), &out) != nil || out.Agent.State != pancake.AgentDecommissioned {
		t.Errorf("%+v", got)
	}
	lines := drainBoard{agent: draining, before: 2, requests: s.requests}.table(time.Now(), false)
	has(t, strings.Join(lines, "\n"), "node1: 2 of 2 tasks left\nINSTANCE", "REPLACEMENT", "dev_hello.1", "starting on node2", "dev_hello.2", "no agent has room")
}

func TestScale(t *testing.T) {
	one, two := aTask(1, "1_new", pancake.TaskRunning, pancake.Healthy), aTask(2, "1_new", pancake.TaskRunning, pancake.Healthy)
	before, after := aRequest(1, "1_new", one), aRequest(2, "1_new", one, two)
	for name, test := range map[string]struct {
		args    []string
		settled client.RequestView
		code    int
		text    string
	}{
		"argument":     {[]string{"hello", "2"}, after, exitOK, "scaling dev_hello from 1 to 2 instances\n"},
		"flag":         {[]string{"dev_hello", "--instances", "2"}, after, exitOK, "hello.2 running, healthy on node1, 31002->8080\nDONE in "},
		"never there":  {[]string{"hello", "2", "--timeout", "50ms"}, starving(), exitFailed, "pancake: dev_hello has 1/2 of its instances healthy after 50ms; the scheduler goes on. See: pancake status dev_hello --why\n"},
		"by another":   {[]string{"hello", "2"}, before, exitFailed, "dev_hello is scaled to 1 instance meanwhile, by somebody else"},
		"no number":    {[]string{"hello", "many"}, after, exitUsage, "pancake: say the number of instances once"},
		"two numbers":  {[]string{"hello", "2", "--instances", "3"}, after, exitUsage, "pancake: say the number of instances once"},
		"nothing said": {[]string{"hello"}, after, exitUsage, "pancake: say how many instances"},
		"negative":     {[]string{"hello", "--", "-1"}, after, exitUsage, "pancake: say how many instances, 1 or more"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeScheduler{requests: []client.RequestView{before}, settled: []client.RequestView{test.settled}}
			got := command{scheduler: s.start(t), args: append([]string{"scale"}, test.args...)}.run(t)
			if got.code != test.code {
				t.Errorf("exit %d, want %d", got.code, test.code)
			}
			if asked := len(s.scaled) == 1 && s.scaled[0] == 2; asked == (test.code == exitUsage) {
				t.Errorf("asked for %v", s.scaled)
			}
			has(t, got.stdout+got.stderr, test.text)
		})
	}
}

func TestScaledWaitsForSurplus(t *testing.T) {
	one, two := aTask(1, "1_new", pancake.TaskRunning, pancake.Healthy), aTask(2, "1_new", pancake.TaskRunning, pancake.Healthy)
	ended, leaving := aTask(3, "1_new", pancake.TaskKilled, ""), aTask(2, "1_new", pancake.TaskRunning, pancake.Healthy)
	leaving.Desired = pancake.DesiredKill
	unwatched := aTask(1, "1_new", pancake.TaskRunning, pancake.HealthUnwatched)
	for name, test := range map[string]struct {
		view client.RequestView
		n    int
		want bool
	}{
		"there":              {aRequest(2, "1_new", one, two), 2, true},
		"one missing":        {aRequest(2, "1_new", one), 2, false},
		"one leaving":        {aRequest(1, "1_new", one, leaving), 1, false},
		"one ended":          {aRequest(1, "1_new", one, ended), 1, true},
		"not yet accepted":   {aRequest(1, "1_new", one, two), 2, false},
		"nobody watches it":  {aRequest(1, "1_new", unwatched), 1, true},
		"and it is new":      {aRequest(1, "1_new", unwatched), 1, false},
		"one is not healthy": {aRequest(1, "1_new", aTask(1, "1_new", pancake.TaskRunning, pancake.Unhealthy)), 1, false},
	} {
		now := time.Now()
		if name == "and it is new" {
			now = unwatched.Status.Started.Add(pancake.ConsiderHealthyAfter - 1)
		}
		if got := scaled(test.view, test.n, now); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestDelete(t *testing.T) {
	leaving := starving()
	leaving.Request.State = pancake.RequestDeleting
	for name, test := range map[string]struct {
		args    []string
		stdin   string
		columns int
		settled []client.RequestView
		code    int
		text    string
	}{
		"sure":           {args: []string{"hello", "--yes"}, text: "DELETED in "},
		"released anew":  {args: []string{"hello", "--yes"}, settled: []client.RequestView{starving()}, text: "DELETED in "},
		"nobody to ask":  {args: []string{"hello"}, code: exitUsage, text: "pancake: delete asks before it stops dev_hello and nobody can answer here: add --yes\n"},
		"answer yes":     {args: []string{"hello"}, stdin: "y\n", columns: 80, text: "Stop and forget dev_hello, which has 1 task? [y/N] "},
		"answer nothing": {args: []string{"hello"}, stdin: "", columns: 80, code: exitFailed, text: "pancake: dev_hello was not deleted\n"},
		"it stays": {
			args: []string{"hello", "-y", "--timeout", "50ms"}, settled: []client.RequestView{leaving},
			code: exitFailed, text: "pancake: dev_hello is not gone after 50ms; the scheduler goes on. See: pancake status dev_hello\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			view := aRequest(1, "1_new", aTask(1, "1_new", pancake.TaskRunning, pancake.Healthy))
			s := &fakeScheduler{requests: []client.RequestView{view}, settled: test.settled}
			got := command{
				scheduler: s.start(t), args: append([]string{"delete"}, test.args...),
				stdin: strings.NewReader(test.stdin), columns: test.columns,
			}.run(t)
			if got.code != test.code {
				t.Errorf("exit %d, want %d", got.code, test.code)
			}
			refused := test.code == exitUsage || name == "answer nothing"
			if deleted := len(s.deleted) == 1 && s.deleted[0] == "dev_hello"; deleted == refused {
				t.Errorf("deleted %v", s.deleted)
			}
			has(t, got.stdout+got.stderr, test.text)
		})
	}
}
