package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
	"github.com/pancake-stack/pancake/sidecar/notify"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rig is a catalogue whose changes are notified.
type rig struct {
	t       *testing.T
	catalog *catalog.Catalog
	state   *feed.Feed[*catalog.Snapshot]
	events  *feed.Events
	*notify.Notifier
	now time.Time
}

func newRig(t *testing.T, urls ...string) *rig {
	t.Helper()
	c := catalog.New("n1", "default")
	r := &rig{t: t, catalog: c, state: feed.New(c.Snapshot()), events: feed.NewEvents(), now: noon}
	var err error
	r.Notifier, err = notify.New(notify.Config{URLs: urls, State: r.state, Events: r.events, Hostname: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err == nil {
			t.Error("Run returned nil")
		}
	})
	return r
}

// change gives a service of n2 a status. A record that is behind has an Updated
// of before all others, as from a host whose clock is.
func (r *rig) change(id string, status pancake.ServiceStatus, behind time.Duration) {
	r.now = r.now.Add(time.Second)
	changes, refused := r.catalog.Merge([]pancake.Service{{
		ID: id, Name: "service-" + id, Hostname: "n2", Status: status, Updated: r.now.Add(-behind),
	}}, r.now)
	if len(refused) > 0 {
		r.t.Fatal(refused)
	}
	r.state.Set(r.catalog.Snapshot())
	r.events.Add(changes)
}

// server is a listener that remembers what it gets. answer, if set, says what
// it answers to the nth.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	got     []client.StateChangedEvent
	cookies map[string]bool
	answer  func(n int) int
}

func newServer(t *testing.T, addr string, answer func(n int) int) *server {
	t.Helper()
	s := &server{answer: answer, cookies: map[string]bool{}}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var e client.StateChangedEvent
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusTeapot)
		e.ChangeEvent.Service.ID = fmt.Sprintf("unreadable: %v: %q", err, b)
	}
	s.mu.Lock()
	s.got = append(s.got, e)
	n := len(s.got)
	if c, err := r.Cookie("sidecar-session-host"); err == nil {
		s.cookies[c.Value] = true
	}
	s.mu.Unlock()
	if s.answer != nil {
		w.WriteHeader(s.answer(n))
	}
}

func (s *server) all() []client.StateChangedEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]client.StateChangedEvent{}, s.got...)
}

// last is the status of a service in the newest state.
func (s *server) last(id string) string {
	all := s.all()
	if len(all) == 0 {
		return ""
	}
	h := all[len(all)-1].State.Servers["n2"]
	if h == nil || h.Services[id] == nil {
		return ""
	}
	return h.Services[id].Status.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestListenerGetsEachChange(t *testing.T) {
	s := newServer(t, "127.22.3.1:0", nil)
	r := newRig(t, s.URL+"/here")
	r.change("a", pancake.Sick, 0)
	r.change("a", pancake.Alive, 0)
	r.change("b", pancake.Alive, 10*time.Second) // its clock is behind
	r.change("a", pancake.Draining, 0)
	eventually(t, "four changes", func() bool { return len(s.all()) == 4 })
	known := time.Time{}
	for i, want := range []string{"a Unknown Unhealthy", "a Unhealthy Alive", "b Unknown Alive", "a Alive Draining"} {
		e := s.all()[i]
		if got := fmt.Sprint(e.ChangeEvent.Service.ID, " ", e.ChangeEvent.PreviousStatus, " ", e.ChangeEvent.Service.Status); got != want {
			t.Errorf("change %d is %s, want %s", i, got, want)
		}
		if e.State.ClusterName != "default" || e.State.Hostname != "n1" || e.State.Servers["n2"].Services["a"] == nil {
			t.Errorf("change %d came with %+v", i, e.State)
		}
		// NinesStack's receiver ignores an update that is no newer than its state.
		if !known.Before(e.ChangeEvent.Time) {
			t.Errorf("change %d of %s would be ignored: the state is of %s", i, e.ChangeEvent.Time, known)
		}
		known = e.State.LastChanged
	}
	if len(s.cookies) != 1 {
		t.Errorf("cookies %v", s.cookies)
	}
	if s.last("a") != "Draining" {
		t.Errorf("in the end a is %s", s.last("a"))
	}
}

// TestRetriesResend fails a few times: each attempt has the whole body.
func TestRetriesResend(t *testing.T) {
	s := newServer(t, "127.22.3.2:0", func(n int) int {
		if n <= 3 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	r := newRig(t, s.URL)
	r.change("a", pancake.Alive, 0)
	eventually(t, "the fourth attempt", func() bool { return len(s.all()) == 4 })
	for i, e := range s.all() {
		if e.ChangeEvent.Service.ID != "a" || e.State == nil {
			t.Errorf("attempt %d brought %+v", i, e)
		}
	}
}

// TestBalancersCookie: a balancer that keeps to one server by a cookie gets it back.
func TestBalancersCookie(t *testing.T) {
	var mu sync.Mutex
	var got []string
	ln, err := net.Listen("tcp", "127.62.2.3:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Header.Get("Cookie"))
		http.SetCookie(w, &http.Cookie{Name: "SERVERID", Value: "b2", Path: "/"})
	})}
	go func() { _ = web.Serve(ln) }()
	t.Cleanup(func() { _ = web.Close() })
	r := newRig(t, "http://"+ln.Addr().String()+"/update")
	r.change("a", pancake.Alive, 0)
	r.change("a", pancake.Sick, 0)
	seen := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, got...)
	}
	eventually(t, "two posts", func() bool { return len(seen()) == 2 })
	if all := seen(); !strings.HasPrefix(all[0], "sidecar-session-host=n1-") || strings.Contains(all[0], "SERVERID") ||
		!strings.Contains(all[1], "sidecar-session-host=n1-") || !strings.Contains(all[1], "SERVERID=b2") {
		t.Errorf("cookies %q", all)
	}
}

// TestRedirects: one that turns the POST into a GET has delivered nothing.
func TestRedirects(t *testing.T) {
	posts := make(chan struct{}, 100)
	ln, err := net.Listen("tcp", "127.25.3.2:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts <- struct{}{}
			http.Redirect(w, r, "/login", http.StatusFound)
		}
	})}
	go func() { _ = web.Serve(ln) }()
	t.Cleanup(func() { _ = web.Close() })
	r := newRig(t, "http://"+ln.Addr().String()+"/update")
	r.change("a", pancake.Alive, 0)
	eventually(t, "it is tried again", func() bool { return len(posts) > 1 })
}

func TestSlowListenerDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	slow := newServer(t, "127.22.3.3:0", func(n int) int {
		if n == 1 {
			<-release
		}
		return http.StatusOK
	})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	fast := newServer(t, "127.22.3.4:0", nil)
	r := newRig(t, slow.URL, fast.URL)
	r.change("a", pancake.Alive, 0)
	eventually(t, "the slow one is asked", func() bool { return len(slow.all()) == 1 })
	for i := range 99 {
		r.change("a", pancake.ServiceStatus(2+2*(i%2)), 0) // between Sick and Draining
		n := i + 2
		eventually(t, "the fast one hears of each", func() bool { return len(fast.all()) == n })
	}
	r.change("z", pancake.Alive, 0)
	eventually(t, "the fast one hears of the last", func() bool { return fast.last("z") == "Alive" })
	free()
	eventually(t, "the slow one has the newest state", func() bool { return slow.last("z") == "Alive" })
	eventually(t, "the slow one hears of the last change", func() bool {
		all := slow.all()
		return all[len(all)-1].ChangeEvent.Service.ID == "z"
	})
	if n := len(slow.all()); n > 22 { // the first, again after it ran into its time limit, and 20
		t.Errorf("the slow one got %d of 101 changes; the oldest of those that waited should be left out", n)
	}
}

// TestNewestStateArrives though the listener is away when it changes for the last
// time, for longer than a change is tried otherwise.
func TestNewestStateArrives(t *testing.T) {
	s := newServer(t, "127.22.3.5:0", func(n int) int {
		if n <= 6 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	r := newRig(t, s.URL)
	r.change("a", pancake.Alive, 0)
	eventually(t, "the seventh attempt", func() bool { return len(s.all()) == 7 })
	r.change("b", pancake.Alive, 0)
	eventually(t, "the next change", func() bool { return s.last("b") == "Alive" })
}

func TestAddAndRemove(t *testing.T) {
	s := newServer(t, "127.22.3.6:0", nil)
	r := newRig(t)
	r.change("a", pancake.Alive, 0) // before it listens
	r.Add("id", s.URL)
	r.Add("id", s.URL)
	r.change("b", pancake.Alive, 0)
	eventually(t, "a change", func() bool { return s.last("b") == "Alive" })
	r.Remove("id")
	r.Remove("id")
	r.change("c", pancake.Alive, 0)
	r.Add("other", s.URL)
	r.change("d", pancake.Alive, 0)
	eventually(t, "a change again", func() bool { return s.last("d") == "Alive" })
	var ids []string
	for _, e := range s.all() {
		ids = append(ids, e.ChangeEvent.Service.ID)
	}
	if got := strings.Join(ids, " "); got != "b d" {
		t.Errorf("told of %s", got)
	}
}

// TestReceiver takes the notifications with the receiver library.
func TestReceiver(t *testing.T) {
	states := make(chan *client.State, 100)
	receiver := client.NewReceiver(10, func(s *client.State) { states <- s })
	receiver.HoldDown = time.Millisecond
	receiver.Subscribe("service-b")
	mux := http.NewServeMux()
	mux.Handle("POST /sidecar/update", receiver.UpdateHandler())
	ln, err := net.Listen("tcp", "127.22.3.7:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: mux}
	go func() { _ = web.Serve(ln) }()
	t.Cleanup(func() { _ = web.Close() })
	go func() { _ = receiver.Run(t.Context()) }()

	r := newRig(t, "http://"+ln.Addr().String()+"/sidecar/update")
	r.change("a", pancake.Alive, 0)
	r.change("b", pancake.Alive, 0)
	s := <-states
	if s.Servers["n2"].Services["b"] == nil {
		t.Errorf("called back without the change: %+v", s)
	}
}

func TestNew(t *testing.T) {
	for _, bad := range []string{"", "10.0.0.1:80", "ftp://a/", "http:///x", "http://a b/"} {
		if _, err := notify.New(notify.Config{URLs: []string{bad}, Events: feed.NewEvents()}); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
