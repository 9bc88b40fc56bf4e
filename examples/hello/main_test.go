package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestHandler(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		path string
		code int
		body string
	}{
		"greeting":        {map[string]string{"INSTANCE_NO": "2", "TASK_ID": "t-1"}, "/", 200, "Hello from version dev, instance 2 on "},
		"other greeting":  {map[string]string{"GREETING": "Welcome"}, "/", 200, "Welcome from version"},
		"task":            {map[string]string{"TASK_ID": "t-1"}, "/", 200, "(task t-1)\n"},
		"healthy":         {nil, "/healthz", 200, "ok\n"},
		"unhealthy":       {map[string]string{"UNHEALTHY": "1"}, "/healthz", 500, "UNHEALTHY"},
		"other path":      {nil, "/nothing", 404, "not found"},
		"wait is no time": {nil, "/?wait=soon", 200, "Hello"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			handler(env(tc.env), io.Discard).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, tc.path, nil))
			if rec.Code != tc.code || !strings.Contains(rec.Body.String(), tc.body) {
				t.Errorf("GET %s: %d %q, want %d with %q", tc.path, rec.Code, rec.Body, tc.code, tc.body)
			}
		})
	}
}

// TestStop shows that a request which has begun when SIGTERM comes is answered,
// and that run then returns without an error.
func TestStop(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	out, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, env(map[string]string{"PORT": "0"}), w) }()

	lines := bufio.NewScanner(out)
	lines.Scan()
	_, port, ok := strings.Cut(lines.Text(), "listens on [::]:")
	if !ok {
		t.Fatalf("first line %q names no address", lines.Text())
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%s/?wait=1s", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %s", res.Status)
			}
		}
		answered <- err
	}()
	if lines.Scan(); !strings.HasPrefix(lines.Text(), "GET / from ") {
		t.Fatalf("second line %q is not the request's", lines.Text())
	}
	stop() // the request waits for another second
	go io.Copy(io.Discard, out)
	if err := <-answered; err != nil {
		t.Errorf("request in flight: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestRunFails(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want string
	}{
		"exit after":     {map[string]string{"PORT": "0", "EXIT_AFTER": "1ms"}, "EXIT_AFTER has passed"},
		"bad exit after": {map[string]string{"PORT": "0", "EXIT_AFTER": "soon"}, "invalid duration"},
		"bad port":       {map[string]string{"PORT": "http-not"}, "unknown port"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), env(tc.env), io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("run: %v, want %q", err, tc.want)
			}
		})
	}
}
