package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// fakeScheduler answers the API from what a test puts into it.
type fakeScheduler struct {
	mu        sync.Mutex
	submitted []client.DeployBody
	deleted   []string
	scaled    []int
	refuse    error // what a submit answers
	// steps are the views of a deploy; each read moves on to the next, and stays at the last.
	steps    []client.DeployView
	requests []client.RequestView
	// settled are the requests after the next scale or delete.
	settled []client.RequestView
	deploys []pancake.Deploy
	history []pancake.Task
	agents  []client.AgentView
	// drains are the views of an agent: each read moves on to the next, and stays at the last.
	drains  []client.AgentView
	changed []string // "freeze a1"
	logs    map[string][]client.LogLine
	fail    int    // the next so many reads of a deploy answer 503
	read    func() // called at each read of a deploy
}

func (s *fakeScheduler) start(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(w http.ResponseWriter, r *http.Request) (any, error)) {
		mux.Handle(pattern, serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			out, err := fn(w, r)
			if err != nil || out == nil {
				return err
			}
			return serve.JSON(w, http.StatusOK, out)
		}))
	}
	handle("POST /v1/deploys", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var body client.DeployBody
		if err := serve.ReadJSON(w, r, 0, &body); err != nil {
			return nil, err
		}
		s.submitted = append(s.submitted, body)
		if s.refuse != nil {
			return nil, s.refuse
		}
		return client.DeployView{Deploy: body.Deploy}, nil
	})
	handle("GET /v1/requests", func(http.ResponseWriter, *http.Request) (any, error) { return s.requests, nil })
	handle("GET /v1/requests/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.request(r.PathValue("id")) })
	handle("GET /v1/requests/{id}/deploys", func(http.ResponseWriter, *http.Request) (any, error) { return s.deploys, nil })
	handle("GET /v1/requests/{id}/deploys/{deploy}", s.deploy)
	handle("POST /v1/requests/{id}/scale", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var body client.ScaleBody
		if err := serve.ReadJSON(w, r, 0, &body); err != nil {
			return nil, err
		}
		s.scaled, s.requests = append(s.scaled, body.Instances), s.settled
		return s.request(r.PathValue("id"))
	})
	handle("DELETE /v1/requests/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.deleted, s.requests = append(s.deleted, r.PathValue("id")), s.settled
		return struct{}{}, nil
	})
	handle("GET /v1/tasks", func(http.ResponseWriter, *http.Request) (any, error) { return s.history, nil })
	handle("GET /v1/tasks/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.task(r.PathValue("id")) })
	handle("GET /v1/tasks/{id}/logs", func(w http.ResponseWriter, r *http.Request) (any, error) {
		for _, line := range s.logs[r.PathValue("id")] {
			if err := json.NewEncoder(w).Encode(line); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	handle("GET /v1/agents", func(http.ResponseWriter, *http.Request) (any, error) { return s.agents, nil })
	handle("GET /v1/agents/{id}", func(http.ResponseWriter, *http.Request) (any, error) { return s.agent() })
	handle("POST /v1/agents/{id}/{change}", func(w http.ResponseWriter, r *http.Request) (any, error) {
		change := r.PathValue("change") + " " + r.PathValue("id")
		if r.ContentLength > 0 {
			var body client.DecommissionBody
			if err := serve.ReadJSON(w, r, 0, &body); err != nil {
				return nil, err
			}
			change += fmt.Sprint(" ", body.Parallel)
		}
		s.changed = append(s.changed, change)
		return s.agent()
	})
	handle("DELETE /v1/agents/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.changed = append(s.changed, "forget "+r.PathValue("id"))
		return struct{}{}, s.refuse
	})
	mux.HandleFunc("GET /v1/events", changes)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// changes sends an event every few milliseconds.
func changes(w http.ResponseWriter, r *http.Request) {
	for i := 1; r.Context().Err() == nil; i++ {
		fmt.Fprintf(w, "id: %d\ndata: {\"id\":%d,\"type\":\"task\",\"key\":\"t\"}\n\n", i, i)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-r.Context().Done():
		}
	}
}

func (s *fakeScheduler) agent() (any, error) {
	view := s.drains[0]
	if len(s.drains) > 1 {
		s.drains = s.drains[1:]
	}
	return view, nil
}

func (s *fakeScheduler) request(id string) (any, error) {
	for _, v := range s.requests {
		if v.Request.ID == id {
			return v, nil
		}
	}
	return nil, pancake.Errorf(pancake.NotFound, "there is no request %s", id)
}

func (s *fakeScheduler) deploy(_ http.ResponseWriter, r *http.Request) (any, error) {
	if s.read != nil {
		s.read()
	}
	if s.fail > 0 {
		s.fail--
		return nil, pancake.Errorf(pancake.Unavailable, "no leader is elected")
	}
	if len(s.steps) == 0 {
		return nil, pancake.Errorf(pancake.NotFound, "there is no deploy %s", r.PathValue("deploy"))
	}
	view := s.steps[0]
	if len(s.steps) > 1 {
		s.steps = s.steps[1:]
	}
	view.Deploy.ID, view.Deploy.RequestID = r.PathValue("deploy"), r.PathValue("id")
	return view, nil
}

func (s *fakeScheduler) task(id string) (any, error) {
	all := s.history
	for _, v := range s.requests {
		all = append(all, v.Tasks...)
	}
	for _, t := range all {
		if t.ID == id {
			return t, nil
		}
	}
	return nil, pancake.Errorf(pancake.NotFound, "there is no task %s", id)
}

// command is one command line that a test runs.
type command struct {
	ctx       context.Context
	scheduler string
	args      []string
	stdin     io.Reader
	vars      map[string]string
	columns   int  // of the terminal; 0 means that there is none
	unnamed   bool // args alone say which scheduler
	later     time.Duration
}

// result is what it did.
type result struct {
	code           int
	stdout, stderr string
}

func (c command) run(t *testing.T) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	getenv := func(name string) string { return c.vars[name] }
	if c.stdin == nil {
		c.stdin = strings.NewReader("")
	}
	env := newEnvironment(getenv, c.stdin, &stdout, &stderr)
	env.now = func() time.Time { return time.Now().Add(c.later) }
	env.terminal = func(any) (int, int) { return c.columns, 24 }
	ctx := c.ctx
	if ctx == nil {
		ctx = t.Context()
	}
	if !c.unnamed {
		c.args = append([]string{"--scheduler", c.scheduler}, c.args...)
	}
	code := execute(ctx, env, c.args)
	return result{code, stdout.String(), stderr.String()}
}

// has fails the test unless each part is in text, in this order.
func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Fatalf("no %q, in its place, in:\n%s", part, text)
		}
		rest = after
	}
}

// clock is when the tasks of the tests were born.
func clock() time.Time { return time.Now().Add(-3 * time.Minute) }

// aTask is instance n of dev_hello.
func aTask(n int, deploy string, state pancake.TaskState, health pancake.HealthState) pancake.Task {
	return pancake.Task{
		ID: fmt.Sprintf("dev_hello-%s-%d-%d-node1-DEFAULT", deploy, 1700000000000+n, n), RequestID: "dev_hello", DeployID: deploy,
		Hostname: "node1", Instance: n, Desired: pancake.DesiredRun, Created: clock(),
		Ports:  []pancake.PortMapping{{ContainerPort: 8080, HostPort: 31000 + n, Protocol: "tcp"}},
		Status: pancake.TaskStatus{State: state, Health: health, Started: clock(), Updated: clock()},
	}
}

// aRequest is dev_hello with its tasks.
func aRequest(instances int, active string, tasks ...pancake.Task) client.RequestView {
	return client.RequestView{
		Request: pancake.Request{
			ID: "dev_hello", Service: "hello", Environment: "dev", Type: pancake.TypeService, State: pancake.RequestActive,
			Instances: instances, ActiveDeploy: active, Created: clock(),
		},
		Active: &pancake.Deploy{ID: active, State: pancake.DeploySucceeded, Created: clock()},
		Tasks:  tasks,
	}
}
