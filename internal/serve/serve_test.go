package serve_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
)

func TestListenSaysWhoIsInTheWay(t *testing.T) {
	ln, err := serve.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = serve.Listen(t.Context(), ln.Addr().String())
	if pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestRunEndsStreamsWhenTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := serve.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	done := make(chan error, 1)
	go func() { done <- serve.Run(ctx, ln, h, slog.New(slog.DiscardHandler)) }()
	resp, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "first\n" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func TestErrorAnswersWithTheKind(t *testing.T) {
	for kind, status := range map[pancake.Kind]int{
		pancake.Invalid: 400, pancake.NotFound: 404, pancake.Conflict: 409, pancake.NoRoom: 409, pancake.Unavailable: 503, pancake.Internal: 500,
	} {
		w := httptest.NewRecorder()
		serve.Handler(func(http.ResponseWriter, *http.Request) error {
			return pancake.Errorf(kind, "why")
		}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if want := `{"kind":"` + string(kind) + `","message":"why"}` + "\n"; w.Code != status || w.Body.String() != want {
			t.Errorf("%s: %d %s", kind, w.Code, w.Body)
		}
	}
}

func TestErrorOfWhatWasCutOffIsNoSuccess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	serve.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return r.Context().Err()
	}).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestReadJSONIsStrict(t *testing.T) {
	for body, wantErr := range map[string]string{
		`{"a":1}`:                        "",
		`{"a":1,"b":2}`:                  "unknown field",
		`{"a":1} {}`:                     "something follows",
		`{"a":`:                          "not the JSON",
		strings.Repeat(" ", 2000) + `{}`: "larger than 1000 bytes",
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		var v struct{ A int }
		err := serve.ReadJSON(httptest.NewRecorder(), r, 1000, &v)
		if (wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%.20q: %v, want %q", body, err, wantErr)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.2:1": true, "localhost:80": true, "[::1]:80": true, "127.0.0.1": true,
		"0.0.0.0:80": false, ":80": false, "10.0.0.1:80": false, "example.com:80": false, "[::]:80": false,
	} {
		if got := serve.Loopback(addr); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
}

// pipes is a listener without a network, for a bubble of synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// One that neither sends what it announced nor reads what it asked for is not waited for.
func TestSlowClientsAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 2)
		mux := http.NewServeMux()
		mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
			ended <- serve.JSON(w, http.StatusOK, strings.Repeat("x", 1<<20))
		})
		mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
			var v string
			ended <- serve.ReadJSON(w, r, 0, &v)
		})
		ctx, cancel := context.WithCancel(t.Context())
		ln, done := make(pipes), make(chan error, 1)
		go func() { done <- serve.Run(ctx, ln, mux, slog.New(slog.DiscardHandler)) }()
		ask := func(request string) error {
			server, client := net.Pipe()
			defer client.Close()
			ln <- server
			if _, err := io.WriteString(client, request); err != nil {
				t.Fatal(err)
			}
			return <-ended
		}
		if err := ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Errorf("nobody read the answer: %v", err)
		}
		if err := ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("half a body: %v", err)
		}
		cancel()
		<-done
	})
}

// The deadline of a body does not end the request to which it belongs.
func TestAHandlerMayTakeItsTimeAfterTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var v string
			if err := serve.ReadJSON(w, r, 0, &v); err != nil {
				t.Error(err)
			}
			select {
			case <-r.Context().Done():
				ended <- r.Context().Err()
			case <-time.After(time.Hour):
				ended <- nil
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		ln, done := make(pipes), make(chan error, 1)
		go func() { done <- serve.Run(ctx, ln, h, slog.New(slog.DiscardHandler)) }()
		server, client := net.Pipe()
		defer client.Close()
		ln <- server
		if _, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\"a\""); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, client) }()
		if err := <-ended; err != nil {
			t.Errorf("the request was ended: %v", err)
		}
		cancel()
		<-done
	})
}
