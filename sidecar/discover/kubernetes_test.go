package discover_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// logs keeps what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// count says how many lines contain a text.
func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// runner is a source of discovery.
type runner interface{ Run(context.Context) error }

// begin runs a source until the test ends, or until the function that it returns is called.
func begin(t *testing.T, r runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func newSink() *sink { return &sink{up: map[string]discover.Found{}} }

func (s *sink) get(id string) (discover.Found, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.up[id]
	return f, ok
}

func ready(yes bool) map[string]any {
	return map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": map[bool]string{true: "True", false: "False"}[yes]}}}
}

// pod stores a pod of the service web.
func (k *kube) pod(name, node string, isReady bool) {
	k.put(podsPath, name, map[string]string{"app": "web"}, map[string]any{
		"spec":   map[string]any{"nodeName": node, "containers": []any{map[string]any{"image": "registry/web:1"}}},
		"status": ready(isReady),
	})
}

func (k *kube) service(name string, labels map[string]string) {
	k.put(servicesPath, name, labels, map[string]any{"spec": map[string]any{
		"selector": map[string]string{"app": "web"},
		"ports": []any{
			map[string]any{"protocol": "TCP", "port": 8080, "nodePort": 30080, "targetPort": "http"},
			map[string]any{"protocol": "UDP", "port": 53, "targetPort": 53},
		},
	}})
}

func follows(t *testing.T, k *kube, change func(*discover.KubernetesConfig)) (*sink, *logs) {
	t.Helper()
	s, l := newSink(), &logs{}
	cfg := discover.KubernetesConfig{
		Host: "127.21.8.1", Port: k.port(), Node: "node1", AdvertiseIP: "10.0.0.1", CredsPath: t.TempDir(), Poll: 50 * time.Millisecond, Log: l.logger(),
	}
	if change != nil {
		change(&cfg)
	}
	d, err := discover.NewKubernetes(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, d)
	return s, l
}

func TestKubernetes(t *testing.T) {
	k := newKube(t)
	k.expire = 1 // a list that has to begin anew
	k.service("web", map[string]string{"ServiceName": "web", "ProxyMode": "tcp"})
	k.service("hidden", map[string]string{"ServiceName": "hidden", "SidecarDiscover": "false"})
	k.service("unnamed", nil)
	for i := range 5 { // more than a page
		k.pod(fmt.Sprintf("p%d", i), "node1", true)
	}
	k.pod("starting", "node1", false)
	k.pod("elsewhere", "node2", true)
	s, _ := follows(t, k, nil)
	eventually(t, "all ready pods of this node", func() bool { return s.running() == "[uid-p0 uid-p1 uid-p2 uid-p3 uid-p4]" })
	eventually(t, "it has settled", func() bool { _, n := s.told(); return n == 1 })
	f, _ := s.get("uid-p0")
	if got := fmt.Sprintf("%+v", f); !strings.Contains(got, "ID:uid-p0 Name:web Image:registry/web:1 Created:2026-01-02 03:04:05 +0000 UTC") ||
		fmt.Sprint(f.Service.Ports) != "[{tcp 30080 8080 10.0.0.1 0}]" || f.Service.ProxyMode != "tcp" || f.Check.Type != "AlwaysSuccessful" {
		t.Errorf("%s", got)
	}
	if k.asked("continue=") == 0 || k.asked("fieldSelector=spec.nodeName%3Dnode1") == 0 || k.asked("nodes") != 0 {
		t.Errorf("asked %v", k.requests)
	}

	lists := k.asked("limit=")
	k.pod("starting", "node1", true)
	eventually(t, "a pod that is ready now", func() bool { return strings.Contains(s.running(), "uid-starting") })
	k.remove(podsPath, "p0")
	k.pod("p1", "node1", false)
	eventually(t, "pods that go", func() bool { return s.running() == "[uid-p2 uid-p3 uid-p4 uid-starting]" })
	k.service("web", map[string]string{"ServiceName": "renamed"})
	eventually(t, "another name", func() bool { f, _ := s.get("uid-p2"); return f.Service.Name == "renamed" })
	k.service("second", map[string]string{"ServiceName": "second"})
	eventually(t, "a pod behind two services", func() bool { _, ok := s.get("uid-p2.web"); return ok })
	if k.asked("limit=") != lists {
		t.Error("a change made it list everything again")
	}
}

func TestKubernetesVersionsExpire(t *testing.T) {
	k := newKube(t)
	k.service("web", map[string]string{"ServiceName": "web"})
	k.pod("p1", "node1", true)
	s, _ := follows(t, k, nil)
	eventually(t, "the pod", func() bool { return s.running() == "[uid-p1]" })
	eventually(t, "both are watched", func() bool { return k.asked("watch=true") >= 2 })
	k.forget()
	k.set(func() { delete(k.objects[podsPath], "p1") }) // nobody will ever tell of it
	k.pod("p2", "node1", true)
	eventually(t, "what happened meanwhile", func() bool { return s.running() == "[uid-p2]" })
	if _, settled := s.told(); settled != 1 {
		t.Errorf("settled %d times", settled)
	}
}

func TestKubernetesTokens(t *testing.T) {
	k := newKube(t)
	k.token = "second"
	k.service("web", map[string]string{"ServiceName": "web"})
	k.pod("p1", "node1", true)
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, l := follows(t, k, func(c *discover.KubernetesConfig) { c.CredsPath = dir })
	eventually(t, "the refusal is logged", func() bool { return l.count("401 Unauthorized") > 0 })
	if _, settled := s.told(); settled != 0 || s.running() != "[]" {
		t.Errorf("settled %d times, %s", settled, s.running())
	}
	if err := os.WriteFile(file, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token is read again", func() bool { return s.running() == "[uid-p1]" })
	if n := l.count("does not answer"); n > 2 { // once for each kind
		t.Errorf("logged %d times", n)
	}
}

func TestKubernetesWithoutWatch(t *testing.T) {
	k := newKube(t)
	k.noWatch = true
	k.service("web", map[string]string{"ServiceName": "web"})
	s, l := follows(t, k, nil)
	eventually(t, "it has settled", func() bool { _, n := s.told(); return n == 1 })
	k.pod("p1", "node1", true)
	eventually(t, "a new pod is listed", func() bool { return s.running() == "[uid-p1]" })
	k.remove(podsPath, "p1")
	eventually(t, "its end is listed", func() bool { return s.running() == "[]" })
	if n := l.count("does not let us wait"); n != 2 {
		t.Errorf("logged %d times", n)
	}
	k.set(func() { k.noWatch = false })
	eventually(t, "it is allowed again", func() bool { return k.asked("watch=true") > 0 })
	k.pod("p2", "node1", true)
	eventually(t, "and works", func() bool { return s.running() == "[uid-p2]" })
}

func TestKubernetesAllNodes(t *testing.T) {
	k := newKube(t)
	k.put(nodesPath, "node2", nil, map[string]any{"status": map[string]any{"addresses": []any{
		map[string]any{"type": "Hostname", "address": "node2"}, map[string]any{"type": "ExternalIP", "address": "1.2.3.4"}, map[string]any{"type": "InternalIP", "address": "10.0.0.2"},
	}}})
	k.service("web", map[string]string{"ServiceName": "web"})
	k.pod("p1", "node1", true)
	k.pod("p2", "node2", true)
	s, _ := follows(t, k, func(c *discover.KubernetesConfig) { c.AllNodes, c.Node = true, "" })
	eventually(t, "the pods of all nodes", func() bool { return s.running() == "[uid-p1 uid-p2]" })
	for id, ip := range map[string]string{"uid-p1": "10.0.0.1", "uid-p2": "10.0.0.2"} {
		if f, _ := s.get(id); f.Service.Ports[0].IP != ip {
			t.Errorf("%s is at %s", id, f.Service.Ports[0].IP)
		}
	}
}

// TestKubernetesGoesAndComes restarts the API on the same port.
func TestKubernetesGoesAndComes(t *testing.T) {
	k := newKube(t)
	k.service("web", map[string]string{"ServiceName": "web"})
	k.pod("p1", "node1", true)
	s, l := follows(t, k, nil)
	eventually(t, "the pod", func() bool { return s.running() == "[uid-p1]" })
	k.set(func() { close(k.broken); k.broken = make(chan struct{}); k.token = "nobody has it" })
	eventually(t, "that is noticed", func() bool { return l.count("does not let us") > 0 || l.count("does not answer") > 0 })
	if s.running() != "[uid-p1]" {
		t.Errorf("without the API: %s", s.running())
	}
	k.set(func() { k.token = "" })
	k.remove(podsPath, "p1")
	eventually(t, "the pod is gone", func() bool { return s.running() == "[]" })
}

func TestKubernetesNeedsANode(t *testing.T) {
	if _, err := discover.NewKubernetes(discover.KubernetesConfig{}, newSink()); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("%v", err)
	}
}
