package health_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// watchAll checks targets until the test ends, and hands on what is said of them.
func watchAll(t *testing.T, c *health.Checker, targets []health.Target) <-chan health.Result {
	t.Helper()
	results := make(chan health.Result, 100_000)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	for _, target := range targets {
		wg.Go(func() { c.Watch(ctx, target, func(r health.Result) { results <- r }) })
	}
	return results
}

// targets makes some that are checked in the same way.
func targets(prefix string, n int, spec health.Spec) []health.Target {
	out := make([]health.Target, n)
	for i := range out {
		out[i] = health.Target{Service: pancake.Service{ID: fmt.Sprint(prefix, i), Name: prefix}, Spec: spec}
	}
	return out
}

// alive waits until so many different services whose ID begins with prefix are Alive.
func alive(t *testing.T, results <-chan health.Result, prefix string, n int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	seen := map[string]bool{}
	for len(seen) < n {
		select {
		case r := <-results:
			if strings.HasPrefix(r.ID, prefix) {
				if r.Status != pancake.Alive {
					t.Fatalf("%+v", r)
				}
				seen[r.ID] = true
			}
		case <-limit:
			t.Fatalf("%d of %d are Alive after 30 s", len(seen), n)
		}
	}
}

// silent accepts connections and never answers.
func silent(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.21.9.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// TestHangingChecksDelayNoOther has many checks that hang, for a minute each, before
// some that do not, and few places: those that hang would fill them all.
func TestHangingChecksDelayNoOther(t *testing.T) {
	good, hanging := web(t), silent(t)
	for name, tt := range map[string]struct{ hangs, well health.Spec }{
		"requests": {
			health.Spec{Type: "HttpGet", Args: "http://" + hanging + "/"}, health.Spec{Type: "HttpGet", Args: "http://" + good + "/ok"},
		},
		"programs": {
			health.Spec{Type: "External", Args: "/bin/sleep 1000"}, health.Spec{Type: "External", Args: "/bin/true"},
		},
		"programs beside requests": {
			health.Spec{Type: "HttpGet", Args: "http://" + hanging + "/"}, health.Spec{Type: "External", Args: "/bin/true"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := 500
			if name == "programs" {
				n = 50
			}
			c := health.New(health.Config{Interval: time.Minute, Timeout: time.Minute, Concurrency: 64, Slow: 64})
			watchAll(t, c, targets("hangs", n, tt.hangs))
			time.Sleep(50 * time.Millisecond) // they go first
			results := watchAll(t, c, targets("well", 10, tt.well))
			alive(t, results, "well", 10) // within half of the time for which the others hang
		})
	}
}

// TestOneThatIsSlowIsNotFailed has checks that answer after the fast lane's patience.
func TestOneThatIsSlowIsNotFailed(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		time.Sleep(600 * time.Millisecond)
	}))
	t.Cleanup(s.Close)
	c := health.New(health.Config{Interval: 20 * time.Second, Concurrency: 2, Slow: 2})
	results := watchAll(t, c, targets("slow", 8, health.Spec{Type: "HttpGet", Args: s.URL}))
	alive(t, results, "slow", 8)
}

// TestManyServicesAtOnce has as many services appear together as a large host has.
func TestManyServicesAtOnce(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	start := time.Now()
	// A machine that is busy with other things must not make it fail.
	results := watchAll(t, health.New(health.Config{Timeout: 20 * time.Second}), targets("s", 2000, health.Spec{Type: "HttpGet", Args: s.URL}))
	alive(t, results, "s", 2000) // and none was Sick in between
	t.Logf("2,000 services are Alive after %s and %d checks", time.Since(start).Round(time.Millisecond), asked.Load())
	until(t, "they are checked again", func() bool { return asked.Load() >= 4000 })
	if len(results) > 0 {
		t.Errorf("%+v", <-results)
	}
}

// TestRiseAndFall counts how many checks it takes to be believed.
func TestRiseAndFall(t *testing.T) {
	var asked, failing atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if failing.Load() == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	results := watchAll(t, health.New(health.Config{Interval: time.Hour}), targets("x", 1, health.Spec{
		Type: "HttpGet", Args: s.URL, Options: map[string]string{"Rise": "3", "Fall": "2", "Interval": "100ms"},
	}))
	next := func() health.Result {
		select {
		case r := <-results:
			return r
		case <-time.After(30 * time.Second):
			t.Fatal("no result within 30 s")
			return health.Result{}
		}
	}
	if r := next(); r.Status != pancake.Alive || asked.Load() < 3 {
		t.Errorf("%+v after %d checks", r, asked.Load())
	}
	failing.Store(1)
	if r := next(); r.Status != pancake.Alive || !strings.Contains(r.Note, "500") {
		t.Errorf("after one failure: %+v", r)
	}
	if r := next(); r.Status != pancake.Sick {
		t.Errorf("after two failures: %+v", r)
	}
	failing.Store(0)
	if r := next(); r.Status != pancake.Sick || r.Note != "it has passed 1 of 3 checks that it has to" {
		t.Errorf("after a pass: %+v", r)
	}
	if r := next(); r.Status != pancake.Sick || !strings.Contains(r.Note, "2 of 3") {
		t.Errorf("after two passes: %+v", r)
	}
	if r := next(); r.Status != pancake.Alive || r.Note != "" {
		t.Errorf("after three passes: %+v", r)
	}
}

func TestWhatIsToldIsNotChecked(t *testing.T) {
	for _, kind := range []string{"Docker", "Ttl"} {
		health.New(health.Config{}).Watch(t.Context(), health.Target{Spec: health.Spec{Type: kind}}, func(r health.Result) { t.Errorf("%+v", r) })
	}
}

// TestCausesAreLoggedOnce has many services with the same mistakes.
func TestCausesAreLoggedOnce(t *testing.T) {
	var buf strings.Builder
	c := health.New(health.Config{Log: slog.New(slog.NewTextHandler(&buf, nil))})
	spec := health.Spec{Type: "Magic", Args: "http://" + web(t) + "/ok", Options: map[string]string{"Intervall": "1s"}}
	results := watchAll(t, c, targets("s", 20, spec))
	alive(t, results, "s", 20)
	for _, text := range []string{"unknown health check type; HttpGet is used", "unknown health check label"} {
		if n := strings.Count(buf.String(), text); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", text, n, buf.String())
		}
	}
}
