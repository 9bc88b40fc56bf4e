package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// serve runs a fake Sidecar.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	ln, err := net.Listen("tcp", "127.22.6.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	t.Cleanup(s.Close)
	return &client.Client{URL: s.URL, Timeout: time.Minute}
}

func TestCalls(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.String() + " " + string(b)
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path == "/v1/services":
			fmt.Fprint(w, `{"Services":[{"ID":"a","Status":4}]}`)
		default:
			fmt.Fprint(w, `{"ID":"x y","Name":"n","Members":[{"Name":"m"}]}`)
		}
	})
	ctx := t.Context()
	expect := func(err error, want string) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
		}
	}
	list, err := c.Services(ctx, client.Filter{})
	expect(err, "GET /v1/services? ")
	if len(list) != 1 || list[0].Status != pancake.Draining {
		t.Errorf("services %+v", list)
	}
	_, err = c.Services(ctx, client.Filter{Name: []string{"a", "b"}, Status: []pancake.ServiceStatus{pancake.Alive, pancake.Sick}, Label: []string{"k=v"}, Sort: "-updated"})
	expect(err, "GET /v1/services?label=k%3Dv&name=a&name=b&sort=-updated&status=alive&status=unhealthy ")
	_, err = c.Register(ctx, "x y", client.Registration{Service: pancake.Service{Name: "n"}, TTL: "30s"})
	expect(err, `PUT /api/services/x%20y {"Service":{"ID":"","Name":"n","Image":"","Created":"0001-01-01T00:00:00Z","Hostname":"","Ports":null,"Updated":"0001-01-01T00:00:00Z","ProxyMode":"","Status":0},"TTL":"30s"}`)
	expect(c.Beat(ctx, "x/y", pancake.Sick, "why"), `PUT /api/services/x%2Fy/ttl {"Status":2,"Note":"why"}`)
	expect(c.Deregister(ctx, "x"), "DELETE /api/services/x ")
	members, err := c.Members(ctx)
	expect(err, "GET /api/members.json ")
	if len(members) != 1 || members[0].Name != "m" {
		t.Errorf("members %+v", members)
	}
	expect(c.Drain(ctx, "x"), "POST /api/services/x/drain ")
}

func TestFailures(t *testing.T) {
	status := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, `{"status":"error","message":"no such thing"}`)
	})
	for code, kind := range map[int]pancake.Kind{
		400: pancake.Invalid, 401: pancake.Unauthenticated, 403: pancake.Forbidden, 404: pancake.NotFound, 409: pancake.Conflict, 500: pancake.Unavailable, 503: pancake.Unavailable,
	} {
		status = code
		if _, err := c.State(t.Context()); pancake.KindOf(err) != kind || !strings.Contains(err.Error(), "no such thing") {
			t.Errorf("%d: %s: %v", code, pancake.KindOf(err), err)
		}
	}
}

// TestTooLarge: of a document beyond the bound nothing is taken, and the error says why.
func TestTooLarge(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		// A whole document, but for what would follow the bound.
		_, _ = io.WriteString(w, `{"Hostname":"n1","Servers":{}, "ClusterName":"`)
		blank := []byte(strings.Repeat("x", 1<<20))
		for range 64 {
			if _, err := w.Write(blank); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `"}`)
	})
	const want = "larger than the 64 MiB"
	err := c.Watch(t.Context(), func(*client.State) error { t.Error("a part of a state was taken"); return nil })
	if pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), want) {
		t.Errorf("watch: %v", err)
	}
	if b, err := c.Raw(t.Context(), http.MethodGet, "/"); pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), want) || b != nil {
		t.Errorf("raw: %d bytes, %v", len(b), err)
	}
}

// TestEventsResume has a Sidecar that ends the stream, is away, and forgets.
func TestEventsResume(t *testing.T) {
	event := func(id, name string) string {
		return fmt.Sprintf("id: %s\nevent: change\ndata: {\"Service\":{\"Name\":%q,\"Status\":2},\ndata: \"PreviousStatus\":0}\n\n", id, name)
	}
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		switch len(asked) {
		case 1: // ends in the middle of an event
			fmt.Fprint(w, "id: e-1\n\n", ": a comment\nevent: later\ndata: {\n\n", event("e-2", "a"), "id: e-3\nevent: change\ndata: {")
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			fmt.Fprint(w, event("e-3", "b"), "id: e-9\n\n")
		default:
			fmt.Fprint(w, "id: f-1\nevent: reset\ndata: {\"Reason\":\"gone\",\"Action\":\"fetch\"}\n\n", event("f-2", "c"))
		}
	})
	var seen []string
	done := errors.New("enough")
	err := c.Events(t.Context(), "", func(e client.Event) error {
		if e.Reset != nil {
			seen = append(seen, e.ID+" "+e.Reset.Reason+" "+e.Reset.Action)
			return nil
		}
		seen = append(seen, fmt.Sprint(e.ID, " ", e.Change.Service.Name, " ", e.Change.PreviousStatus, " ", e.Change.Service.Status))
		if e.Change.Service.Name == "c" {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Errorf("ended with %v", err)
	}
	if want := []string{"", "e-2", "e-2", "e-9"}; !slices.Equal(asked, want) {
		t.Errorf("asked from %q, want %q", asked, want)
	}
	if want := []string{"e-2 a Alive Unhealthy", "e-3 b Alive Unhealthy", "f-1 gone fetch", "f-2 c Alive Unhealthy"}; !slices.Equal(seen, want) {
		t.Errorf("saw %q, want %q", seen, want)
	}
}

func TestEventsEnd(t *testing.T) {
	status := http.StatusBadRequest
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	fn := func(client.Event) error { return nil }
	if err := c.Events(t.Context(), "x", fn); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("refused: %v", err)
	}
	status = http.StatusServiceUnavailable
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Events(ctx, "x", fn); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("until the end of ctx: %v", err)
	}
}

func TestShouldNotify(t *testing.T) {
	alive, tombstone, sick, unknown, draining := pancake.Alive, pancake.Tombstone, pancake.Sick, pancake.Unknown, pancake.Draining
	for before := alive; before <= draining; before++ {
		for now, want := range map[pancake.ServiceStatus]bool{alive: true, tombstone: true, draining: true, sick: before == alive, unknown: before == alive, 9: false} {
			if client.ShouldNotify(before, now) != want {
				t.Errorf("from %s to %s: %t", before, now, !want)
			}
		}
	}
}

// post sends an update to a receiver: the service's status and its time.
func post(t *testing.T, r *client.Receiver, name string, before, now pancake.ServiceStatus, at time.Time, others ...*pancake.Service) int {
	t.Helper()
	svc := pancake.Service{ID: name, Name: name, Hostname: "h", Status: now}
	state := &client.State{LastChanged: at, Servers: map[string]*client.Server{"h": {Services: map[string]*pancake.Service{name: &svc}}, "null": nil}}
	for _, o := range others {
		state.Servers["h"].Services[o.ID] = o
	}
	b, err := json.Marshal(client.StateChangedEvent{State: state, ChangeEvent: client.ChangeEvent{Service: svc, PreviousStatus: before, Time: at}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.UpdateHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/sidecar/update", strings.NewReader(string(b))))
	return w.Code
}

// receive runs fn with a receiver in simulated time; calls counts its callbacks.
func receive(t *testing.T, fn func(r *client.Receiver, calls func() int)) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		r := client.NewReceiver(3, func(s *client.State) {
			if s == nil {
				t.Error("called back without a state")
			}
			n.Add(1)
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		fn(r, func() int {
			synctest.Wait()
			return int(n.Load())
		})
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestReceiverHoldsDown(t *testing.T) {
	receive(t, func(r *client.Receiver, calls func() int) {
		for i := range 100 {
			post(t, r, "a", pancake.Unknown, pancake.Alive, noon.Add(time.Duration(i)))
		}
		if calls() != 1 {
			t.Errorf("%d calls at once", calls())
		}
		time.Sleep(client.HoldDown)
		before := calls()
		if before > 2 {
			t.Errorf("%d calls for what came at once", before)
		}
		time.Sleep(time.Minute)
		post(t, r, "a", pancake.Alive, pancake.Sick, noon.Add(time.Second))
		if calls() != before+1 {
			t.Errorf("%d calls, want one more than %d", calls(), before)
		}
	})
}

func TestReceiverFilters(t *testing.T) {
	receive(t, func(r *client.Receiver, calls func() int) {
		first := time.Now()
		at := first
		for _, tt := range []struct {
			name        string
			before, now pancake.ServiceStatus
			late        bool
			want        int
		}{
			{"a", pancake.Unknown, pancake.Alive, false, 1},
			{"a", pancake.Alive, pancake.Tombstone, true, 0}, // older than what is known
			{"a", pancake.Sick, pancake.Unknown, false, 1},   // it was Alive as far as was known
			{"a", pancake.Unknown, pancake.Sick, false, 0},
			{"b", pancake.Unknown, pancake.Alive, false, 0}, // nobody asked
			{"a", pancake.Sick, pancake.Draining, false, 1},
		} {
			r.Subscribe("a")
			at = at.Add(time.Second)
			before, when := calls(), at
			if tt.late {
				when = first
			}
			post(t, r, tt.name, tt.before, tt.now, when)
			if got := calls() - before; got != tt.want {
				t.Errorf("%+v: %d calls", tt, got)
			}
			time.Sleep(time.Minute)
		}
		// The change of a itself was left out, and came with another.
		at = at.Add(time.Second)
		before := calls()
		post(t, r, "b", pancake.Alive, pancake.Draining, at, &pancake.Service{ID: "a", Name: "a", Status: pancake.Alive})
		if calls() != before+1 {
			t.Error("not called back for what came with another change")
		}
		if !r.IsSubscribed("a") || r.IsSubscribed("b") {
			t.Error("subscriptions")
		}
	})
}

func TestReceiverCopies(t *testing.T) {
	r := client.NewReceiver(0, func(*client.State) {})
	if r.State() != nil {
		t.Error("a state before the first")
	}
	post(t, r, "a", pancake.Unknown, pancake.Alive, noon, &pancake.Service{ID: "p", Ports: []pancake.ServicePort{{Port: 1}}, Labels: map[string]string{"k": "v"}})
	one := r.State()
	p := one.Servers["h"].Services["p"]
	p.Ports[0].Port, p.Labels["k"], p.Name = 2, "w", "x"
	delete(one.Servers, "h")
	if p := r.State().Servers["h"].Services["p"]; p.Ports[0].Port != 1 || p.Labels["k"] != "v" || p.Name != "" {
		t.Errorf("a copy is shared: %+v", p)
	}
}

func TestReceiverRefuses(t *testing.T) {
	r := client.NewReceiver(0, func(*client.State) { t.Error("called back") })
	for _, bad := range []string{"", "{", "[]", `{"State":null}`, `{"State":{"Servers":3}}`} {
		w := httptest.NewRecorder()
		r.UpdateHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(bad)))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"errors":[`) {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
}

func TestFetchInitialState(t *testing.T) {
	var got *client.State
	r := client.NewReceiver(0, func(s *client.State) { got = s })
	ok := true
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if !ok {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprint(w, `{"Servers":{"h":{"Name":"h"}},"Hostname":"n1"}`)
	})
	if err := r.FetchInitialState(t.Context(), c.URL+"/api/state.json"); err != nil || got == nil || got.Hostname != "n1" {
		t.Errorf("%v, %+v", err, got)
	}
	ok = false
	if err := r.FetchInitialState(t.Context(), c.URL); pancake.KindOf(err) != pancake.Unavailable {
		t.Errorf("refused: %v", err)
	}
	if err := r.FetchInitialState(t.Context(), "http://127.22.6.1:1/"); pancake.KindOf(err) != pancake.Unavailable {
		t.Errorf("away: %v", err)
	}
	if err := r.FetchInitialState(t.Context(), "://"); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("no URL: %v", err)
	}
}

// TestInitialStateIsNoOlder: an update that is posted while the initial state is on its
// way stays, and the callback gets it; one that is older than that state goes.
func TestInitialStateIsNoOlder(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for name, tc := range map[string]struct {
		posted time.Time
		want   pancake.ServiceStatus
	}{
		"newer": {now.Add(time.Second), pancake.Draining},
		"older": {now.Add(-time.Second), pancake.Alive},
	} {
		var got []pancake.ServiceStatus
		r := client.NewReceiver(1, func(s *client.State) { got = append(got, s.Servers["h"].Services["a"].Status) })
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			post(t, r, "a", pancake.Alive, pancake.Draining, tc.posted)
			fmt.Fprintf(w, `{"Servers":{"h":{"Services":{"a":{"ID":"a","Name":"a","Status":0}}}},"LastChanged":%q}`, now.Format(time.RFC3339))
		})
		if err := r.FetchInitialState(t.Context(), c.URL+"/api/state.json"); err != nil {
			t.Fatal(err)
		}
		if kept := r.State().Servers["h"].Services["a"].Status; kept != tc.want || len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: kept %s, called back with %v; want %s", name, kept, got, tc.want)
		}
	}
}

// A state that is fetched again counts, though the one before had a later time: the
// Sidecar may have been restarted, and asking came after.
func TestInitialStateReplacesWhatWasThere(t *testing.T) {
	r := client.NewReceiver(1, func(*client.State) {})
	post(t, r, "a", pancake.Alive, pancake.Draining, time.Now())
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"Hostname":"n1"}`) })
	if err := r.FetchInitialState(t.Context(), c.URL); err != nil || r.State().Hostname != "n1" {
		t.Errorf("%v, %+v", err, r.State())
	}
}

// TestCallbacksComeOneAtATime though the initial state comes while an update is told.
func TestCallbacksComeOneAtATime(t *testing.T) {
	entered, release := make(chan string, 2), make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	r := client.NewReceiver(1, func(s *client.State) {
		entered <- s.Hostname
		<-release
	})
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Hostname":"fetched","LastChanged":%q}`, time.Now().Add(time.Second).Format(time.RFC3339Nano))
	})
	go func() { _ = r.Run(t.Context()) }()
	post(t, r, "a", pancake.Unknown, pancake.Alive, time.Now())
	if host := <-entered; host != "" {
		t.Fatalf("called back with the state of %q", host)
	}
	done := make(chan error, 1)
	go func() { done <- r.FetchInitialState(t.Context(), c.URL) }()
	for r.State().Hostname != "fetched" {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-entered:
		t.Fatal("called back while the callback before had not returned")
	case <-time.After(50 * time.Millisecond): // as long as nothing happens, nothing can be seen
	}
	free()
	if host := <-entered; host != "fetched" {
		t.Errorf("called back with the state of %q", host)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzUpdate: whatever is posted, the receiver lives.
func FuzzUpdate(f *testing.F) {
	f.Add([]byte(`{"State":{"Servers":{"h":{"Services":{"a":{"ID":"a"},"b":null}},"n":null}},"ChangeEvent":{"Service":{"Name":"a"},"Time":"2026-03-01T12:00:00Z"}}`))
	f.Fuzz(func(_ *testing.T, body []byte) {
		r := client.NewReceiver(1, func(*client.State) {})
		for range 2 { // the second is compared with the first
			r.UpdateHandler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body))))
			r.State()
		}
	})
}

// TestReach: any program may import this package, so it brings nothing along.
func TestReach(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"github.com/pancake-stack/pancake", "github.com/pancake-stack/pancake/sidecar/client"}) {
		t.Errorf("it reaches %v", got)
	}
}
