package executor_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor"
	"github.com/pancake-stack/pancake/internal/testkit"
)

// rig is an executor between a scripted scheduler, a scripted Sidecar and the real Docker engine.
type rig struct {
	t         *testing.T
	cfg       executor.Config
	scheduler *scheduler
	sidecar   *sidecar
	docker    *client.Client
	agent     string
	image     string
	stop      func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		t: t, scheduler: newScheduler(t), sidecar: newSidecar(t), docker: testkit.Docker(t),
		agent: "test-" + testkit.Unique(), image: testkit.Image(t, "docker/testdata/app"),
	}
	testkit.RemoveContainers(t, pancake.LabelAgent+"="+r.agent)
	r.cfg = executor.Config{
		DataDir: t.TempDir(), SchedulerAddrs: []string{r.scheduler.addr}, AgentID: r.agent,
		Hostname: "node-1", Address: "127.0.0.9", Attributes: map[string]string{"rack": "r1"},
		SidecarURL: r.sidecar.url, DrainDuration: 300 * time.Millisecond, KillGrace: 2 * time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	return r
}

// start runs the executor until stop or the end of the test.
func (r *rig) start() {
	r.t.Helper()
	e, err := executor.New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	r.stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			r.t.Errorf("executor: %v", err)
		}
	}
	r.t.Cleanup(r.stop)
}

// task makes a task of the test image with one port.
func (r *rig) task(name string, env map[string]string) (pancake.Task, pancake.Request, pancake.Deploy) {
	port := freePort(r.t)
	d := pancake.Deploy{
		ID: "d1", RequestID: "dev_hello", Tag: "1", Container: pancake.Container{
			Image: r.image, Network: pancake.NetworkBridge, Env: env,
		},
		Resources: pancake.Resources{CPUs: 100, MemoryMB: 32},
	}
	t := pancake.Task{
		ID: name + "-" + testkit.Unique(), RequestID: "dev_hello", DeployID: "d1", Instance: 1, Resources: d.Resources,
		Ports: []pancake.PortMapping{{ContainerPort: 8080, HostPort: port, Protocol: "tcp"}},
	}
	return t, pancake.Request{ID: "dev_hello", Service: "hello", Environment: "dev", Instances: 1}, d
}

func (r *rig) launch(name string, env map[string]string) pancake.Task {
	r.t.Helper()
	t, req, d := r.task(name, env)
	r.scheduler.launch(t, req, d)
	return t
}

// announce has Sidecar call a task's container alive.
func (r *rig) announce(task pancake.Task, container string, status pancake.ServiceStatus) {
	r.sidecar.announce(&pancake.Service{ID: container[:12], Name: "hello", Task: task.ID, Status: status})
}

// containers are the ids of the agent's containers, running or not.
func (r *rig) containers() []string {
	r.t.Helper()
	list, err := r.docker.ContainerList(r.t.Context(), client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", pancake.LabelAgent+"="+r.agent),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	var ids []string
	for _, c := range list.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

func (r *rig) none() {
	r.t.Helper()
	eventually(r.t, "end of all containers", func() bool { return len(r.containers()) == 0 })
}

func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

func get(t *testing.T, port int) string {
	t.Helper()
	var text string
	eventually(t, fmt.Sprintf("answer on port %d", port), func() bool {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.9:%d/", port))
		if err != nil {
			return false
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		text = string(b)
		return err == nil
	})
	return text
}

// proxy stands between the executor and the engine, and can be cut.
type proxy struct {
	t    *testing.T
	path string
	host string // the real engine's socket

	mu    sync.Mutex
	lis   net.Listener
	conns []net.Conn
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{
		t: t, path: filepath.Join(t.TempDir(), "docker.sock"),
		host: strings.TrimPrefix(testkit.Docker(t).DaemonHost(), "unix://"),
	}
	p.mend()
	t.Cleanup(p.cut)
	return p
}

// mend lets the engine be reached.
func (p *proxy) mend() {
	p.t.Helper()
	lis, err := net.Listen("unix", p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.lis = lis
	p.mu.Unlock()
	go func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", p.host)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
}

// cut breaks every connection, and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lis.Close()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}
