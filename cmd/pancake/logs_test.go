package main

import (
	"context"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func TestLogs(t *testing.T) {
	one, two := aTask(1, "1_new", pancake.TaskRunning, pancake.Healthy), aTask(2, "1_new", pancake.TaskRunning, pancake.Healthy)
	failed := aTask(2, "0_old", pancake.TaskFailed, "")
	failed.Status.Message, failed.Status.Log = "exit code 1", []string{"panic: no config"}
	printed := map[string][]client.LogLine{
		one.ID: {{Source: "stdout", Text: "hello"}, {Source: "stderr", Text: "oops"}},
		two.ID: {{Source: "stdout", Text: "hello too"}},
	}
	broken := map[string][]client.LogLine{one.ID: {{Error: "the agent is gone"}}}
	for name, test := range map[string]struct {
		args           []string
		request        client.RequestView
		logs           map[string][]client.LogLine
		code           int
		stdout, stderr string
	}{
		"one instance":     {args: []string{"hello"}, request: aRequest(1, "1_new", one), logs: printed, stdout: "hello\n", stderr: "oops\n"},
		"two instances":    {args: []string{"hello"}, request: aRequest(2, "1_new", one, two), logs: printed, stdout: "hello.1 | hello\nhello.2 | hello too\n", stderr: "hello.1 | oops\n"},
		"one of two":       {args: []string{"hello", "--instance", "2"}, request: aRequest(2, "1_new", one, two), logs: printed, stdout: "hello too\n"},
		"a task by its id": {args: []string{one.ID}, request: aRequest(1, "1_new", one), logs: printed, stdout: "hello\n", stderr: "oops\n"},
		"it ended":         {args: []string{"hello"}, request: aRequest(1, "1_new"), stdout: "panic: no config\n", stderr: "pancake: no task runs; the last one ended: hello.2 on node1: failed 3m ago: exit code 1\n"},
		"an ended task":    {args: []string{failed.ID}, request: aRequest(1, "1_new"), stdout: "panic: no config\n", stderr: "pancake: no task runs; the last one ended: dev_hello.2 on node1: failed 3m ago: exit code 1\n"},
		"never ran":        {args: []string{"hello", "--instance", "7"}, request: aRequest(1, "1_new"), code: exitFailed, stderr: "pancake: no task of instance 7 of dev_hello has run yet. See: pancake status dev_hello --why\n"},
		"unknown":          {args: []string{"no-such-task"}, request: aRequest(1, "1_new"), code: exitFailed, stderr: "pancake: there is no request or service \"no-such-task\". See \"pancake status\"\n"},
		"negative":         {args: []string{"hello", "--tail", "-1"}, request: aRequest(1, "1_new"), code: exitUsage, stderr: "pancake: --tail and --instance take no negative number\n"},
		"broken":           {args: []string{"hello"}, request: aRequest(1, "1_new", one), logs: broken, code: exitUnavailable, stderr: "pancake: hello.1: logs of " + one.ID + ": the agent is gone\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeScheduler{requests: []client.RequestView{test.request}, logs: test.logs, history: []pancake.Task{failed}}
			got := command{scheduler: s.start(t), args: append([]string{"logs"}, test.args...)}.run(t)
			if got != (result{test.code, test.stdout, test.stderr}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestLogsFollow sees a task end and another take its place.
func TestLogsFollow(t *testing.T) {
	one, next := aTask(1, "1_new", pancake.TaskRunning, pancake.Healthy), aTask(1, "2_new", pancake.TaskRunning, pancake.Healthy)
	s := &fakeScheduler{
		requests: []client.RequestView{aRequest(1, "1_new", one)},
		logs:     map[string][]client.LogLine{one.ID: {{Source: "stdout", Text: "first"}}, next.ID: {{Source: "stdout", Text: "second"}}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Each line that is printed moves the scheduler on.
	out := writerFunc(func(b []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case strings.Contains(string(b), "first"):
			killed := one
			killed.Status.State = pancake.TaskKilled
			s.requests, s.history = []client.RequestView{aRequest(1, "2_new", next)}, []pancake.Task{killed}
		case strings.Contains(string(b), "second"):
			cancel()
		}
	})
	var stderr strings.Builder
	env := newEnvironment(func(string) string { return "" }, strings.NewReader(""), out, &stderr)
	if code := execute(ctx, env, []string{"--scheduler", s.start(t), "logs", "hello", "-f"}); code != exitInterrupted {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}
