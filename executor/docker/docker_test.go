package docker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/internal/testkit"
)

const label = "org.pancake.test.docker"

// kit is the real engine, an image, and a label that no other test uses.
type kit struct {
	t      *testing.T
	engine *docker.Engine
	image  string
	value  string
}

func newKit(t *testing.T) *kit {
	t.Helper()
	engine, err := docker.New(docker.Config{CredentialsFile: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	k := &kit{t: t, engine: engine, image: testkit.Image(t, "testdata/app"), value: testkit.Unique()}
	testkit.RemoveContainers(t, label+"="+k.value)
	if err := engine.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *kit) spec(change func(*docker.Spec)) docker.Spec {
	s := docker.Spec{
		Name: "pancake-test-" + testkit.Unique(), Image: k.image, MemoryBytes: 32 << 20, CPUShares: 102,
		Labels: map[string]string{label: k.value}, Env: map[string]string{},
	}
	if change != nil {
		change(&s)
	}
	return s
}

func (k *kit) create(s docker.Spec) string {
	k.t.Helper()
	id, err := k.engine.Create(k.t.Context(), s)
	if err != nil {
		k.t.Fatal(err)
	}
	return id
}

func (k *kit) start(s docker.Spec) string {
	k.t.Helper()
	id := k.create(s)
	if err := k.engine.Start(k.t.Context(), id); err != nil {
		k.t.Fatal(err)
	}
	return id
}

func (k *kit) inspect(id string) docker.Container {
	k.t.Helper()
	c, err := k.engine.Inspect(k.t.Context(), id)
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

func (k *kit) awaitExit(id string) docker.Container {
	k.t.Helper()
	eventually(k.t, "exit", func() bool { return k.inspect(id).State == docker.Exited })
	return k.inspect(id)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("no %s within 30 s", what)
}

func TestLife(t *testing.T) {
	k := newKit(t)
	s := k.spec(func(s *docker.Spec) { s.Env["LINES"] = "2" })
	id := k.create(s)
	if c := k.inspect(s.Name); c.ID != id || c.State != docker.Created {
		t.Errorf("created: %+v", c)
	}
	if again := k.create(s); again != id {
		t.Errorf("created again as %s", again)
	}
	if err := k.engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if c := k.inspect(id); c.State != docker.Running || time.Since(c.StartedAt) > time.Minute || c.Labels[label] != k.value {
		t.Errorf("started: %+v", c)
	}
	list, err := k.engine.List(t.Context(), label, k.value)
	if err != nil || len(list) != 1 || list[0].ID != id || list[0].State != docker.Running {
		t.Errorf("list %+v, %v", list, err)
	}
	for range 2 {
		if err := k.engine.Stop(t.Context(), id, 5*time.Second); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if c := k.inspect(id); c.State != docker.Exited || c.ExitCode != 0 {
		t.Errorf("stopped: %+v", c)
	}
	lines, err := k.engine.LastLines(t.Context(), id)
	slices.Sort(lines)
	if err != nil || !slices.Equal(lines, []string{"asked to stop", "line 1", "line 2"}) {
		t.Errorf("last lines %q, %v", lines, err)
	}
	for range 2 {
		if err := k.engine.Remove(t.Context(), id); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := k.engine.Inspect(t.Context(), id); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("inspect of nothing: %v", err)
	}
	if err := k.engine.Start(t.Context(), id); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("start of nothing: %v", err)
	}
	if err := k.engine.Stop(t.Context(), id, 0); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("stop of nothing: %v", err)
	}
}

func TestSettings(t *testing.T) {
	k := newKit(t)
	dir := t.TempDir()
	s := k.spec(func(s *docker.Spec) {
		s.NanoCPUs, s.CPUShares = 5e8, 512
		s.Ports = []docker.Port{{Container: 8080, Host: freePort(t), HostIP: netip.MustParseAddr("127.0.0.8"), Protocol: "tcp"}}
		s.Volumes = []pancake.Volume{{HostPath: dir, ContainerPath: "/data", Mode: "RO"}, {HostPath: dir, ContainerPath: "/more", Mode: "RW"}}
		s.Env["COLOUR"] = "blue"
	})
	id := k.start(s)
	res, err := testkit.Docker(t).ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := res.Container.HostConfig
	if h.Memory != 32<<20 || h.MemorySwap != 32<<20 || h.CPUShares != 512 || h.NanoCPUs != 5e8 || h.Privileged {
		t.Errorf("limits: memory %d swap %d shares %d nano %d privileged %t", h.Memory, h.MemorySwap, h.CPUShares, h.NanoCPUs, h.Privileged)
	}
	if h.LogConfig.Type != "json-file" || h.LogConfig.Config["max-size"] != "10m" || h.LogConfig.Config["max-file"] != "2" {
		t.Errorf("log %+v", h.LogConfig)
	}
	rw := map[string]bool{}
	for _, m := range res.Container.Mounts {
		rw[m.Destination] = m.RW
	}
	if len(rw) != 2 || rw["/data"] || !rw["/more"] {
		t.Errorf("mounts %v", rw)
	}
	var body string
	eventually(t, "answer", func() bool {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.8:%d/", s.Ports[0].Host))
		if err != nil {
			return false
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		body = string(b)
		return err == nil
	})
	if !strings.Contains(body, "COLOUR=blue\n") {
		t.Errorf("environment:\n%s", body)
	}
	if conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.Ports[0].Host), time.Second); err == nil {
		conn.Close()
		t.Error("the port is published on another address as well")
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.8:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

func TestHostNetworkAndCommand(t *testing.T) {
	k := newKit(t)
	id := k.start(k.spec(func(s *docker.Spec) {
		s.Host, s.Command = true, `say "hello" $HOME`
		s.Env["EXIT"] = "4"
	}))
	if c := k.awaitExit(id); c.ExitCode != 4 {
		t.Errorf("exited: %+v", c)
	}
	if lines, err := k.engine.LastLines(t.Context(), id); err != nil || !slices.Equal(lines, []string{`sh ["-c" "say \"hello\" $HOME"]`}) {
		t.Errorf("the command became %q, %v", lines, err)
	}
}

func TestGraceAndKill(t *testing.T) {
	k := newKit(t)
	id := k.start(k.spec(func(s *docker.Spec) { s.Env["STUBBORN"] = "1" }))
	eventually(t, "stubbornness", func() bool {
		lines, err := k.engine.LastLines(t.Context(), id)
		return err == nil && slices.Equal(lines, []string{"stubborn"})
	})
	if err := k.engine.Stop(t.Context(), id, time.Second); err != nil {
		t.Fatal(err)
	}
	if c := k.inspect(id); c.State != docker.Exited || c.ExitCode != 137 || c.OOM {
		t.Errorf("killed: %+v", c)
	}
}

func TestOutOfMemory(t *testing.T) {
	k := newKit(t)
	id := k.start(k.spec(func(s *docker.Spec) { s.Env["HOG"] = "300" }))
	if c := k.awaitExit(id); !c.OOM {
		t.Errorf("exited: %+v", c)
	}
}

func TestRefusals(t *testing.T) {
	k := newKit(t)
	ctx := t.Context()
	for name, tt := range map[string]struct {
		change func(*docker.Spec)
		kind   pancake.Kind
		words  string
	}{
		"missing image":     {func(s *docker.Spec) { s.Image = "pancake-test/nobody:1" }, pancake.NotFound, "pancake-test/nobody:1"},
		"bad image name":    {func(s *docker.Spec) { s.Image = "a b" }, pancake.Invalid, `"a b"`},
		"missing host path": {func(s *docker.Spec) { s.Volumes = []pancake.Volume{{HostPath: "/no/such", ContainerPath: "/x"}} }, pancake.Invalid, "/no/such"},
		"too little memory": {func(s *docker.Spec) { s.MemoryBytes = 1 << 20 }, pancake.Invalid, "memory"},
		"bad port":          {func(s *docker.Spec) { s.Ports = []docker.Port{{Container: 70000, Protocol: "tcp"}} }, pancake.Invalid, "70000"},
	} {
		_, err := k.engine.Create(ctx, k.spec(tt.change))
		if pancake.KindOf(err) != tt.kind || !strings.Contains(strings.ToLower(err.Error()), tt.words) {
			t.Errorf("%s: %s error %v, want %s with %q", name, pancake.KindOf(err), err, tt.kind, tt.words)
		}
	}
}

func TestPortInUse(t *testing.T) {
	k := newKit(t)
	taken := func() docker.Port {
		return docker.Port{Container: 8080, Host: freePort(t), HostIP: netip.MustParseAddr("127.0.0.8"), Protocol: "tcp"}
	}
	for name, hold := range map[string]func(docker.Port){
		"by a process": func(p docker.Port) {
			lis, err := net.Listen("tcp", fmt.Sprintf("127.0.0.8:%d", p.Host))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { lis.Close() })
		},
		"by a container": func(p docker.Port) { k.start(k.spec(func(s *docker.Spec) { s.Ports = []docker.Port{p} })) },
	} {
		s := k.spec(nil)
		s.Ports = []docker.Port{taken()}
		hold(s.Ports[0])
		err := k.engine.Start(t.Context(), k.create(s))
		if pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), fmt.Sprintf("127.0.0.8:%d is already in use", s.Ports[0].Host)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLogs(t *testing.T) {
	k := newKit(t)
	id := k.start(k.spec(func(s *docker.Spec) { s.Env["LINES"] = "3" }))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := map[string]string{}
	stopped := false
	err := k.engine.Logs(ctx, id, docker.LogOptions{Follow: true}, func(source string, data []byte) error {
		out[source] += string(data)
		if out["stdout"] == "line 2\nline 3\n" && out["stderr"] == "line 1\n" && !stopped {
			stopped = true
			go k.engine.Stop(ctx, id, 5*time.Second)
		}
		return nil
	})
	if err != nil || out["stdout"] != "line 2\nline 3\nasked to stop\n" || out["stderr"] != "line 1\n" {
		t.Errorf("followed %q, %v", out, err)
	}
	out = map[string]string{}
	enough := fmt.Errorf("enough")
	err = k.engine.Logs(ctx, id, docker.LogOptions{Tail: 1}, func(source string, data []byte) error { out[source] += string(data); return enough })
	if !errors.Is(err, enough) || out["stdout"] != "asked to stop\n" || out["stderr"] != "" {
		t.Errorf("tail %q, %v", out, err)
	}
}

func TestWatch(t *testing.T) {
	k := newKit(t)
	ctx, cancel := context.WithCancel(t.Context())
	up, ended, done := make(chan bool, 1), make(chan string, 8), make(chan error, 1)
	go func() {
		done <- k.engine.Watch(ctx, label, k.value, func() error { up <- true; return nil },
			func(labels map[string]string) { ended <- labels["which"] })
	}()
	<-up
	other := k.start(k.spec(func(s *docker.Spec) { s.Labels[label] = k.value + "x"; s.Env["EXIT"] = "0" }))
	defer k.engine.Remove(context.WithoutCancel(ctx), other)
	k.start(k.spec(func(s *docker.Spec) { s.Labels["which"] = "a"; s.Env["EXIT"] = "1" }))
	if got := <-ended; got != "a" {
		t.Errorf("heard of %q", got)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("a watch ended well")
	}
}

func TestNoEngine(t *testing.T) {
	socket := "unix://" + filepath.Join(t.TempDir(), "docker.sock")
	e, err := docker.New(docker.Config{Host: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	err = e.Ping(t.Context())
	if pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), socket) || !strings.Contains(err.Error(), "is dockerd running") {
		t.Errorf("ping: %v", err)
	}
	if _, err := e.Inspect(t.Context(), "x"); pancake.KindOf(err) != pancake.Unavailable {
		t.Errorf("inspect: %v", err)
	}
	if _, err := docker.New(docker.Config{Host: "nonsense"}); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("a bad address: %v", err)
	}
}
