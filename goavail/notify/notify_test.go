package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
)

const limit = 20 * time.Second

// receiver is a hook's other end.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	auth   []string
	calls  int
	answer func(call int, w http.ResponseWriter, r *http.Request)
}

func receive(t *testing.T, answer func(call int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.calls++
		call := r.calls
		r.bodies, r.auth = append(r.bodies, string(body)), append(r.auth, req.Header.Get("Authorization"))
		r.mu.Unlock()
		if r.answer != nil {
			r.answer(call, w, req)
		}
	}))
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.bodies...)
}

func (r *receiver) wait(t *testing.T, n int) []string {
	t.Helper()
	wait(t, func() bool { return len(r.got()) >= n })
	return r.got()
}

func wait(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

// tell runs a Teller until the test ends. What it logs is in the buffer.
func tell(t *testing.T, cfg Config) (*Teller, *logbuf.Buffer) {
	t.Helper()
	log := &logbuf.Buffer{}
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	cfg.Cluster, cfg.RetryMin, cfg.RetryMax = "test", time.Millisecond, 5*time.Millisecond
	if cfg.Timeout == 0 {
		cfg.Timeout = 200 * time.Millisecond
	}
	teller := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = teller.Run(ctx) // it ends with ctx
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return teller, log
}

var taken = client.Entry{
	ID: "p1/1/1", Kind: client.KindChange, Place: "p1", Epoch: 3, Set: "www.example.com A", Text: "took out <192.0.2.1>",
	Moves: []client.Move{{Value: "192.0.2.1", Target: "t1", Rule: "down", Reason: "3 of 5 say down"}},
}

func TestWebhook(t *testing.T) {
	r := receive(t, nil)
	teller, _ := tell(t, Config{Hooks: []Hook{{Kind: Webhook, URL: r.URL, Key: "s3cret", Events: []string{client.KindChange}}}})
	teller.Tell(t.Context(), client.Entry{Kind: client.KindWriter, Text: "not asked for"})
	teller.Tell(t.Context(), taken)
	var body struct {
		Cluster, Kind, Text string
		Moves               []client.Move
	}
	if err := json.Unmarshal([]byte(r.wait(t, 1)[0]), &body); err != nil {
		t.Fatal(err)
	}
	if body.Cluster != "test" || body.Kind != client.KindChange || body.Text != taken.Text || len(body.Moves) != 1 || r.auth[0] != "Bearer s3cret" {
		t.Errorf("%+v %q", body, r.auth)
	}
}

func TestSlack(t *testing.T) {
	r := receive(t, nil)
	teller, _ := tell(t, Config{Hooks: []Hook{{Kind: Slack, URL: r.URL + "/services/T0/B0/xyz"}}})
	failed := taken
	failed.Error = "500"
	teller.Tell(t.Context(), failed)
	var body map[string]string
	if err := json.Unmarshal([]byte(r.wait(t, 1)[0]), &body); err != nil {
		t.Fatal(err)
	}
	if want := ":rotating_light: *test* (p1): took out &lt;192.0.2.1&gt;\nIt failed: 500"; body["text"] != want {
		t.Errorf("got %q, want %q", body["text"], want)
	}
}

func TestPagerDutyTriggersAndResolves(t *testing.T) {
	r := receive(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	hook := Hook{Kind: PagerDuty, URL: r.URL, Key: "routing-key"}
	one, _ := tell(t, Config{Hooks: []Hook{hook}})
	two, _ := tell(t, Config{Hooks: []Hook{hook}}) // another agent resolves
	back := taken
	back.Moves = []client.Move{{Value: "192.0.2.1", In: true, Rule: "up"}}
	one.Tell(t.Context(), taken)
	r.wait(t, 1)
	two.Tell(t.Context(), back)
	r.wait(t, 2)
	one.Tell(t.Context(), client.Entry{Kind: client.KindAlert, Alert: "provider", Text: "it fails"})
	r.wait(t, 3)
	two.Tell(t.Context(), client.Entry{Kind: client.KindAlert, Alert: "provider", Over: true, Text: "it works"})
	var got []page
	for _, text := range r.wait(t, 4) {
		var p page
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	for i, want := range []string{"trigger", "resolve", "trigger", "resolve"} {
		p := got[i]
		if p.Action != want || p.Key != "routing-key" || p.Dedup != got[i/2*2].Dedup || len(p.Dedup) > 255 || (p.Payload == nil) != (want == "resolve") {
			t.Errorf("event %d: %+v", i, p)
		}
	}
	if got[0].Dedup == got[2].Dedup {
		t.Error("two incidents have one key")
	}
}

// Whatever the other end does, it is tried again, and nothing else waits for it.
func TestTrouble(t *testing.T) {
	for name, answer := range map[string]func(int, http.ResponseWriter, *http.Request){
		"hangs": func(call int, _ http.ResponseWriter, r *http.Request) {
			if call < 3 {
				<-r.Context().Done()
			}
		},
		"fails": func(call int, w http.ResponseWriter, _ *http.Request) {
			if call < 3 {
				w.WriteHeader(http.StatusBadGateway)
			}
		},
		"closes": func(call int, w http.ResponseWriter, _ *http.Request) {
			if call < 3 {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_ = conn.Close()
				}
			}
		},
		"is busy": func(call int, w http.ResponseWriter, _ *http.Request) {
			if call < 2 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		},
		"answers without end": func(call int, w http.ResponseWriter, _ *http.Request) {
			if call < 3 {
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := receive(t, answer), receive(t, nil)
			teller, log := tell(t, Config{Hooks: []Hook{{Kind: Webhook, URL: bad.URL}, {Kind: Webhook, URL: good.URL}}})
			teller.Tell(t.Context(), taken)
			good.wait(t, 1)
			bad.wait(t, 2)
			next := taken
			next.Text = "the next one"
			teller.Tell(t.Context(), next)
			wait(t, func() bool {
				all := bad.got()
				return strings.Contains(all[len(all)-1], "the next one")
			})
			if strings.Contains(log.String(), "not delivered") {
				t.Error(log)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.32.5.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String() + "/secret-path"
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	teller, log := tell(t, Config{Hooks: []Hook{{Kind: Slack, URL: url}}, GiveUp: 50 * time.Millisecond})
	teller.Tell(t.Context(), taken)
	wait(t, func() bool { return strings.Contains(log.String(), "not delivered") })
	if strings.Contains(log.String(), "secret-path") {
		t.Error("the log holds the hook's address: " + log.String())
	}
}

// What is refused for good is not repeated, and the answer is shown without secrets.
func TestRefused(t *testing.T) {
	r := receive(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "no such hook: "+r.URL.Path)
	})
	teller, log := tell(t, Config{Hooks: []Hook{{Kind: Slack, URL: r.URL + "/services/T0/B0/xyz"}}})
	teller.Tell(t.Context(), taken)
	wait(t, func() bool { return strings.Contains(log.String(), "403") })
	if n := len(r.got()); n != 1 || strings.Contains(log.String(), "B0/xyz") {
		t.Errorf("%d calls; %s", n, log)
	}
}

// A hook that hangs holds nobody up, and what does not fit its queue is dropped.
func TestNeverWaits(t *testing.T) {
	release := make(chan struct{})
	r := receive(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	teller, log := tell(t, Config{Hooks: []Hook{{Kind: Webhook, URL: r.URL}}, Queue: 4, Timeout: time.Minute})
	teller.Tell(t.Context(), taken)
	r.wait(t, 1)
	for range 10_000 {
		teller.Tell(t.Context(), taken)
	}
	close(release)
	r.wait(t, 5)
	wait(t, func() bool { return strings.Contains(log.String(), "dropped=9996") })
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	other := receive(t, nil)
	r := receive(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	teller, log := tell(t, Config{Hooks: []Hook{{Kind: PagerDuty, URL: r.URL, Key: "k"}}})
	teller.Tell(t.Context(), taken)
	wait(t, func() bool { return strings.Contains(log.String(), "307") })
	if len(other.got()) > 0 {
		t.Error("the redirect was followed")
	}
}
