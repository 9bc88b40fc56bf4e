package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestEndingIsNoSuccess: a call that the end of this Sidecar has cut off must not look as if
// it had worked.
func TestEndingIsNoSuccess(t *testing.T) {
	f := newFixture()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/services/deadbeef0009/drain", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestRebinding: a name can be made to mean this host, and then a page from under that name
// is of the same site as the API.
func TestRebinding(t *testing.T) {
	f := newFixture()
	for _, tt := range []struct {
		host, origin string
		want         int
	}{
		{"evil.example:7777", "http://evil.example:7777", http.StatusForbidden},
		{"evil.example:7777", "null", http.StatusForbidden},
		{"127.0.0.1:7777", "http://127.0.0.1:7777", http.StatusAccepted},
		{"[::1]:7777", "http://[::1]:7777", http.StatusAccepted},
		{"localhost", "http://localhost", http.StatusAccepted},
		{"node1.example:7777", "", http.StatusAccepted}, // no browser
	} {
		r := httptest.NewRequest(http.MethodPost, "/api/services/deadbeef0001/drain", nil)
		r.Host = tt.host
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s from %q: %d %s", tt.host, tt.origin, w.Code, w.Body)
		}
	}
}

// TestHeadOfStreams ends: there is nothing to follow.
func TestHeadOfStreams(t *testing.T) {
	for _, path := range []string{"/api/watch", "/api/traefik?watch=true", "/v1/events"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		w := httptest.NewRecorder()
		newFixture().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodHead, path, nil))
		if ctx.Err() != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d %v, %v", path, w.Code, w.Header(), ctx.Err())
		}
		cancel()
	}
}

// TestSlowBodies has a client that never sends the rest of what it announced.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		ln := &oneConn{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		ln.conns <- far
		server := &http.Server{Handler: newFixture()}
		served := make(chan error, 1)
		go func() { served <- server.Serve(ln) }()
		if _, err := fmt.Fprintf(near, "PUT /api/services/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		_ = near.SetReadDeadline(time.Now().Add(time.Hour))
		resp, err := http.ReadResponse(bufio.NewReader(near), nil)
		if err != nil {
			t.Fatalf("no answer within an hour: %v", err)
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "did not arrive") {
			t.Errorf("%d %s", resp.StatusCode, b)
		}
		_ = near.Close()
		_ = server.Close()
		<-served
		synctest.Wait()
	})
}
