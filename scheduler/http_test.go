package scheduler_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func TestEvents(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	newAgent(t, "node-a", 4).start(s.grpc)
	s.ready(t, 1)

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	enough := errors.New("enough")
	var seen []client.Event
	watching := make(chan error, 1)
	go func() {
		watching <- s.Events(ctx, "dev_hello", 1, func(e client.Event) error { // 1: whatever is kept
			seen = append(seen, e)
			if e.Type == client.EventDeploy && e.Body.Deploy.State.Final() {
				return enough
			}
			return nil
		})
	}()
	s.release(t, body("1", 1))
	if err := <-watching; !errors.Is(err, enough) {
		t.Fatal(err)
	}
	states := map[string]bool{}
	for i, e := range seen {
		if i > 0 && e.ID <= seen[i-1].ID {
			t.Errorf("event ids %d, %d", seen[i-1].ID, e.ID)
		}
		if e.Type == client.EventTask {
			states[string(e.Body.Task.Status.State)+" "+string(e.Body.Task.Status.Health)] = true
		}
	}
	want := []string{"TASK_RUNNING ", "TASK_RUNNING HEALTHY", "TASK_STAGING ", "TASK_STARTING "}
	if got := slices.Sorted(maps.Keys(states)); !slices.Equal(got, want) {
		t.Errorf("task states seen: %q", got)
	}
	// Resuming from an event repeats nothing.
	var next client.Event
	err := s.Events(ctx, "dev_hello", seen[1].ID, func(e client.Event) error { next = e; return enough })
	if !errors.Is(err, enough) || next.ID != seen[2].ID {
		t.Errorf("resumed at %d, want %d: %v", next.ID, seen[2].ID, err)
	}
}

func TestLogs(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4)
	a.logs = []string{"hello\n", "world\r\n"}
	a.start(s.grpc)
	s.ready(t, 1)
	v := s.release(t, body("1", 1))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	enough := errors.New("enough")

	var lines []client.LogLine
	collect := func(l client.LogLine) error { lines = append(lines, l); return nil }
	if err := s.Logs(ctx, v.Tasks[0].ID, 10, false, collect); err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, l := range lines {
		text = append(text, l.Source+" "+l.Text)
	}
	if want := []string{"stderr error 0", "stdout hello", "stderr error 1", "stdout world"}; !slices.Equal(text, want) {
		t.Errorf("logs %q", text)
	}
	if err := s.Logs(ctx, v.Tasks[0].ID, 0, true, func(l client.LogLine) error {
		if l.Text == "world" {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) {
		t.Errorf("follow: %v", err)
	}
	a.halt()
	s.ready(t, 0)
	if err := s.Logs(ctx, v.Tasks[0].ID, 0, false, collect); pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), "not connected") {
		t.Errorf("logs without the agent: %v", err)
	}
}

func TestHTTPRefusals(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	eventually(t, "ready", func() bool {
		resp, err := http.Get("http://" + s.URL + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	tests := map[string]struct {
		method, path, body string
		status             int
		text               string
	}{
		"unknown field":    {"POST", "/v1/deploys", `{"reqest":{}}`, 400, "unknown field"},
		"not JSON":         {"POST", "/v1/deploys", `x`, 400, "not the JSON"},
		"too large":        {"POST", "/v1/deploys", `{"request":{"id":"` + strings.Repeat("x", 600<<10) + `"}}`, 400, "larger than"},
		"no id":            {"POST", "/v1/deploys", `{}`, 400, "Id cannot be null"},
		"scale to nothing": {"POST", "/v1/requests/x/scale", `{"instances":0}`, 400, "Instances must be greater than 0"},
		"scale nobody":     {"POST", "/v1/requests/x/scale", `{"instances":1}`, 404, "Couldn't find request with id x"},
		"scale too far":    {"POST", "/v1/requests/x/scale", `{"instances":1000000}`, 400, "more than the 1000"},
		"no request":       {"GET", "/v1/requests/x", ``, 404, "Couldn't find request"},
		"no deploys":       {"GET", "/v1/requests/x/deploys", ``, 404, "Couldn't find request"},
		"no task":          {"GET", "/v1/tasks/x", ``, 404, "Couldn't find task"},
		"kill no task":     {"POST", "/v1/tasks/x/kill", ``, 404, "Couldn't find task"},
		"logs of no task":  {"GET", "/v1/tasks/x/logs", ``, 404, "Couldn't find task"},
		"bad tail":         {"GET", "/v1/tasks/x/logs?tail=-1", ``, 400, "tail"},
		"bad flag":         {"GET", "/v1/tasks?history=maybe", ``, 400, "neither true nor false"},
		"no such path":     {"GET", "/v1/nothing", ``, 404, "there is no GET /v1/nothing"},
		"metrics":          {"GET", "/metrics", ``, 200, "pancake_scheduler_leads 1"},
		"health":           {"GET", "/healthz", ``, 200, ""},
		"empty lists":      {"GET", "/v1/requests", ``, 200, "[]"},
	}
	t.Run("a page of another site", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.URL+"/v1/deploys", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "another site") {
			t.Errorf("%d %s, %v", resp.StatusCode, text, err)
		}
	})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+s.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(text), tt.text) {
				t.Errorf("%d %s, %v", resp.StatusCode, text, err)
			}
		})
	}
}
