package source

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/etcd"
	"github.com/pancake-stack/pancake/internal/testkit"
	sidecar "github.com/pancake-stack/pancake/sidecar/client"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func nodes(names ...string) []Node {
	var out []Node
	for i, n := range names {
		out = append(out, Node{Name: n, Address: "192.0.2." + string(rune('1'+i))})
	}
	return out
}

func names(v View, drain bool) []string {
	var out []string
	for _, n := range v.Nodes {
		if n.Drain == drain {
			out = append(out, n.Name)
		}
	}
	return out
}

func TestANodeThatIsGoneIsDrainedAndForgotten(t *testing.T) {
	v, why := View{}.See(nodes("a", "b", "c"), start)
	if why != "" || !slices.Equal(names(v, false), []string{"a", "b", "c"}) {
		t.Fatalf("%+v %s", v, why)
	}
	v, why = v.See(nodes("a", "b"), start.Add(time.Second))
	if why != "" || !slices.Equal(names(v, true), []string{"c"}) || !slices.Equal(names(v, false), []string{"a", "b"}) {
		t.Fatalf("%+v %s", v, why)
	}
	if back, _ := v.See(nodes("a", "b", "c"), start.Add(2*time.Second)); len(names(back, true)) > 0 {
		t.Errorf("it is back and still drained: %+v", back)
	}
	if v, _ = v.See(nodes("a", "b"), start.Add(time.Second+linger)); len(v.Nodes) != 2 {
		t.Errorf("it is not forgotten: %+v", v)
	}
}

func TestWhoHasTheAddressOfOneThatIsGoneTakesItsPlace(t *testing.T) {
	v, _ := View{}.See(nodes("a", "b", "c"), start)
	if v, _ = v.See(nodes("a", "b", "d"), start.Add(time.Second)); !slices.Equal(names(v, false), []string{"a", "b", "d"}) || len(v.Nodes) != 3 {
		t.Errorf("%+v", v)
	}
}

func TestABrokenFileIsMovedAside(t *testing.T) {
	for name, text := range map[string]string{"cut short": `{"ingress": {"nod`, "empty": "", "nothing": "null"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "platform.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			cfg := Config{
				Sources: map[string]Source{"ingress": nil}, DataDir: dir,
				Changed: func(map[string][]Node) {}, Log: slog.New(slog.NewTextHandler(&log, nil)),
			}
			f, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := f.Known(); ok {
				t.Error("it knows something")
			}
			moved, _ := filepath.Glob(filepath.Join(dir, "platform.json.broken-*"))
			if len(moved) != 1 || !strings.Contains(log.String(), moved[0]) {
				t.Errorf("%v, log: %s", moved, &log)
			}
			f.see("ingress", nodes("a", "b"))
			if f, err = New(cfg); err != nil || len(f.Nodes()["ingress"]) != 2 {
				t.Errorf("what is seen then is not kept: %v, %v", f, err)
			}
			if files, _ := os.ReadDir(dir); len(files) != 2 {
				t.Errorf("more is left than the file and the broken one: %v", files)
			}
		})
	}
}

func TestASuddenLossIsNotBelieved(t *testing.T) {
	v, _ := View{}.See(nodes("a", "b", "c", "d"), start)
	was := v.Nodes
	for _, after := range []time.Duration{time.Second, time.Minute, doubt} {
		next, why := v.See(nodes("a"), start.Add(after))
		if why == "" || !slices.Equal(next.Nodes, was) {
			t.Fatalf("after %s: %+v %q", after, next, why)
		}
		v = next
	}
	if next, why := v.See(nodes("a"), start.Add(time.Second+doubt)); why != "" || len(names(next, false)) != 1 {
		t.Errorf("it is never believed: %+v %q", next, why)
	}
	for range 3 { // nothing at all never is
		next, why := v.See(nil, start.Add(24*time.Hour))
		if why == "" || !slices.Equal(next.Nodes, was) {
			t.Fatalf("%+v %q", next, why)
		}
		v = next
	}
	next, _ := v.See(nodes("a", "b", "c"), start.Add(time.Second))
	if !next.Doubt.IsZero() || !slices.Equal(names(next, true), []string{"d"}) {
		t.Errorf("a small loss after that: %+v", next)
	}
}

func TestSidecarCatalogue(t *testing.T) {
	service := func(id, name, ip string, port int64, status pancake.ServiceStatus) *pancake.Service {
		return &pancake.Service{ID: id, Name: name, Status: status, Ports: []pancake.ServicePort{
			{Type: "tcp", Port: 1, ServicePort: 80, IP: ip}, {Type: "tcp", Port: port, ServicePort: 443, IP: ip},
		}}
	}
	state := sidecar.State{Servers: map[string]*sidecar.Server{
		"n1": {Services: map[string]*pancake.Service{
			"a": service("a", "ingress", "10.0.0.1", 8443, pancake.Alive), "b": service("b", "other", "10.0.0.1", 9, pancake.Alive),
		}},
		"n2": {Services: map[string]*pancake.Service{"c": service("c", "ingress", "10.0.0.2", 8443, pancake.Draining)}},
		"n3": {Services: map[string]*pancake.Service{"d": service("d", "ingress", "10.0.0.3", 8443, pancake.Tombstone)}},
		"n4": {Services: map[string]*pancake.Service{
			"e": service("e", "ingress", "10.0.0.4", 8443, pancake.Draining), "f": service("f", "ingress", "10.0.0.4", 9443, pancake.Sick),
		}},
		"n5": {Services: map[string]*pancake.Service{"g": service("g", "ingress", "not an address", 8443, pancake.Alive)}},
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(state)
	}))
	t.Cleanup(server.Close)
	s := &Sidecar{Client: &sidecar.Client{URL: server.URL}, Service: "ingress", ServicePort: 443, Addresses: map[string]string{"n1": "192.0.2.1"}}
	var got []Node
	if err := s.Watch(t.Context(), func(n []Node) { got = n }); err == nil {
		t.Error("a watch that ended returned no error")
	}
	want := []Node{
		{Name: "n1", Address: "192.0.2.1", Port: 8443},
		{Name: "n2", Address: "10.0.0.2", Port: 8443, Drain: true},
		{Name: "n4", Address: "10.0.0.4", Port: 9443},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// follower runs a Follower until the test ends, and keeps what it said last.
type follower struct {
	mu   sync.Mutex
	last map[string][]Node
}

func (f *follower) start(t *testing.T, dir string, s Source) {
	t.Helper()
	follow, err := New(Config{Sources: map[string]Source{"ingress": s}, DataDir: dir, Changed: func(n map[string][]Node) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.last = n
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = follow.Run(ctx, false) // it ends with ctx
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func (f *follower) wait(t *testing.T, want ...Node) {
	t.Helper()
	var got []Node
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		f.mu.Lock()
		got = slices.Clone(f.last["ingress"])
		f.mu.Unlock()
		for i := range got {
			got[i].Gone = time.Time{}
		}
		if slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("got %+v, want %+v", got, want)
}

func TestEtcdPrefix(t *testing.T) {
	address := testkit.FreeAddr(t)
	server, err := etcd.Embed(t.Context(), etcd.Config{
		DataDir: t.TempDir(), ClientURL: "http://" + address, PeerURL: "http://" + testkit.FreeAddr(t),
		Log: slog.New(slog.DiscardHandler), Unsafe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	client := server.Client
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("/ingress/n1", "192.0.2.1")
	put("/ingress/n2", "192.0.2.2:8443")
	put("/ingress/bad", "{")
	put("/other/n3", "192.0.2.3")
	dir := t.TempDir()
	source := &Etcd{Prefix: "/ingress/", Dial: func(ctx context.Context) (*clientv3.Client, error) {
		return etcd.Dial(ctx, []string{address}, etcd.Access{})
	}}
	var f follower
	f.start(t, dir, source)
	one, two := Node{Name: "n1", Address: "192.0.2.1"}, Node{Name: "n2", Address: "192.0.2.2", Port: 8443}
	f.wait(t, one, two)
	put("/ingress/n3", `{"address": "192.0.2.3", "port": 443, "drain": true}`)
	three := Node{Name: "n3", Address: "192.0.2.3", Port: 443, Drain: true}
	f.wait(t, one, two, three)
	if _, err := client.Delete(t.Context(), "/ingress/n2"); err != nil {
		t.Fatal(err)
	}
	two.Drain = true
	f.wait(t, one, two, three)

	// What was seen survives, though nobody answers.
	again, err := New(Config{Sources: map[string]Source{"ingress": source}, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if missing, ok := again.Known(); !ok || len(again.Nodes()["ingress"]) != 3 {
		t.Errorf("%s %+v", missing, again.Nodes())
	}
}
