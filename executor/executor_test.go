package executor_test

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor"
	"github.com/pancake-stack/pancake/executor/docker"
	sidecarclient "github.com/pancake-stack/pancake/sidecar/client"
)

func TestLaunchHealthyKill(t *testing.T) {
	r := newRig(t)
	metrics := prometheus.NewRegistry()
	r.cfg.Metrics = metrics
	r.start()
	task := r.launch("life", map[string]string{"COLOUR": "blue"})
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	if running.ContainerID == "" || running.Started.IsZero() {
		t.Errorf("running without container or start: %+v", running)
	}
	env := get(t, task.Ports[0].HostPort)
	for _, want := range []string{"COLOUR=blue", "PORT=8080", fmt.Sprintf("PORT0=%d", task.Ports[0].HostPort), "TASK_ID=" + task.ID, "TASK_RACK_ID=r1"} {
		if !strings.Contains(env, want+"\n") {
			t.Errorf("environment lacks %s:\n%s", want, env)
		}
	}
	if s := r.scheduler.agent; s.ID != r.agent || s.Address != "127.0.0.9" || s.Resources.CPUs == 0 || s.Resources.MemoryMB == 0 {
		t.Errorf("registered as %+v", s)
	}
	gathered, err := metrics.Gather()
	if err != nil || len(gathered) != 4 {
		t.Errorf("metrics: %d families, %v", len(gathered), err)
	}

	r.announce(task, running.ContainerID, pancake.Alive)
	r.scheduler.await(task.ID, "healthy", func(s pancake.TaskStatus) bool { return s.Health == pancake.Healthy })

	// The container must still run when Sidecar is asked to drain it.
	ranAtDrain := make(chan bool, 1)
	r.sidecar.mu.Lock()
	r.sidecar.onDrain = func(string) {
		c, err := r.docker.ContainerInspect(t.Context(), running.ContainerID, client.ContainerInspectOptions{})
		ranAtDrain <- err == nil && c.Container.State.Running
	}
	r.sidecar.mu.Unlock()
	r.scheduler.kill(task.ID, false)
	killed := r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	if killed.Reason != pancake.ReasonKilled {
		t.Errorf("killed: %+v", killed)
	}
	if got := r.sidecar.drains(); !slices.Equal(got, []string{running.ContainerID[:12]}) {
		t.Errorf("drained %v", got)
	}
	if !<-ranAtDrain {
		t.Error("the container had stopped before it was drained")
	}
	if ids := r.containers(); len(ids) != 0 {
		t.Errorf("containers left when the task was reported killed: %v", ids)
	}
	if got := r.scheduler.states(task.ID); got != "STARTING RUNNING KILLING KILLED" {
		t.Errorf("states %s", got)
	}
}

func TestExitAtOnce(t *testing.T) {
	r := newRig(t)
	r.start()
	task := r.launch("exit", map[string]string{"LINES": "25", "EXIT": "7"})
	failed := r.scheduler.awaitState(task.ID, pancake.TaskFailed)
	if failed.Reason != pancake.ReasonExited || failed.ExitCode != 7 || !strings.Contains(failed.Message, "code 7") {
		t.Errorf("failed: %+v", failed)
	}
	if len(failed.Log) != 20 || !slices.Contains(failed.Log, "line 25") {
		t.Errorf("last lines: %q", failed.Log)
	}
	r.none()
	done := r.launch("done", map[string]string{"EXIT": "0"})
	if s := r.scheduler.awaitState(done.ID, pancake.TaskFinished); s.ExitCode != 0 {
		t.Errorf("finished: %+v", s)
	}
}

func TestOutOfMemory(t *testing.T) {
	r := newRig(t)
	r.start()
	task := r.launch("hog", map[string]string{"HOG": "200"})
	if s := r.scheduler.awaitState(task.ID, pancake.TaskFailed); s.Reason != pancake.ReasonOOM {
		t.Errorf("failed: %+v", s)
	}
}

func TestMissingImage(t *testing.T) {
	r := newRig(t)
	r.start()
	task, req, d := r.task("noimage", nil)
	d.Container.Image = "127.0.0.1:1/nobody/nothing:1"
	r.scheduler.launch(task, req, d)
	s := r.scheduler.awaitState(task.ID, pancake.TaskFailed)
	if s.Reason != pancake.ReasonImagePull || !strings.Contains(s.Message, d.Container.Image) || !strings.Contains(s.Message, "connection refused") {
		t.Errorf("failed: %+v", s)
	}
	if got := r.scheduler.states(task.ID); got != "STARTING STAGING FAILED" {
		t.Errorf("states %s", got)
	}
	task, req, d = r.task("badimage", nil)
	d.Container.Image = "UPPER/case"
	r.scheduler.launch(task, req, d)
	r.scheduler.await(task.ID, "error", func(s pancake.TaskStatus) bool {
		return s.State == pancake.TaskError && strings.Contains(s.Message, "UPPER/case")
	})
}

func TestPortInUse(t *testing.T) {
	r := newRig(t)
	r.start()
	task, req, d := r.task("port", nil)
	lis, err := net.Listen("tcp", fmt.Sprintf("127.0.0.9:%d", task.Ports[0].HostPort))
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	r.scheduler.launch(task, req, d)
	s := r.scheduler.awaitState(task.ID, pancake.TaskFailed)
	if s.Reason != pancake.ReasonPortInUse || !strings.Contains(s.Message, lis.Addr().String()) {
		t.Errorf("failed: %+v", s)
	}
	r.none()
}

// A registry that accepts and never answers keeps a pull going for as long as it is wanted.
func TestKillDuringPull(t *testing.T) {
	r := newRig(t)
	r.start()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	task, req, d := r.task("pulling", nil)
	d.Container.Image, d.Container.ForcePull = silent.Addr().String()+"/a/b:1", true
	r.scheduler.launch(task, req, d)
	r.scheduler.awaitState(task.ID, pancake.TaskStaging)
	conn, err := silent.Accept() // the engine asks
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.scheduler.kill(task.ID, false)
	r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	if got := r.scheduler.states(task.ID); got != "STAGING KILLED" {
		t.Errorf("states %s", got)
	}
	if len(r.sidecar.drains()) != 0 {
		t.Error("a task without a container was drained")
	}
}

func TestRestartKeepsContainers(t *testing.T) {
	r := newRig(t)
	r.start()
	kept, ended := r.launch("kept", nil), r.launch("ended", nil)
	before := r.scheduler.awaitState(kept.ID, pancake.TaskRunning)
	gone := r.scheduler.awaitState(ended.ID, pancake.TaskRunning)
	r.announce(kept, before.ContainerID, pancake.Alive)
	r.scheduler.await(kept.ID, "healthy", func(s pancake.TaskStatus) bool { return s.Health == pancake.Healthy })
	r.stop()
	if len(r.containers()) != 2 {
		t.Fatal("stopping the executor touched the containers")
	}
	if _, err := r.docker.ContainerKill(t.Context(), gone.ContainerID, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	r.start()
	// What happened meanwhile is reported with its exit code.
	if s := r.scheduler.awaitState(ended.ID, pancake.TaskFailed); s.ExitCode != 137 {
		t.Errorf("killed meanwhile: %+v", s)
	}
	r.scheduler.mu.Lock()
	held := r.scheduler.held[kept.ID]
	r.scheduler.mu.Unlock()
	if held.State != pancake.TaskRunning || held.ContainerID != before.ContainerID || held.Health != pancake.Healthy {
		t.Errorf("registered with %+v", held)
	}
	if ids := r.containers(); !slices.Contains(ids, before.ContainerID) {
		t.Errorf("containers %v, want %s among them", ids, before.ContainerID)
	}
	// It is watched as before.
	if _, err := r.docker.ContainerKill(t.Context(), before.ContainerID, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	r.scheduler.awaitState(kept.ID, pancake.TaskFailed)
}

func TestRedeliveryAfterReconnect(t *testing.T) {
	r := newRig(t)
	r.scheduler.deaf = true
	r.start()
	task := r.launch("again", nil)
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	r.scheduler.mu.Lock()
	r.scheduler.deaf = false
	hangUp := r.scheduler.hangUp
	r.scheduler.mu.Unlock()
	r.scheduler.forget()
	hangUp()
	again := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	if again.Sequence != running.Sequence || again.ContainerID != running.ContainerID {
		t.Errorf("sent again as %+v, was %+v", again, running)
	}
	if got := r.scheduler.states(task.ID); got != "STARTING RUNNING" {
		t.Errorf("unacknowledged statuses came again as %s, want them all and in order", got)
	}
	// A launch that is repeated starts nothing, and is answered.
	_, req, d := r.task("x", nil)
	r.scheduler.forget()
	r.scheduler.launch(task, req, d)
	if s := r.scheduler.awaitState(task.ID, pancake.TaskRunning); s.Sequence != running.Sequence || len(r.containers()) != 1 {
		t.Errorf("a second launch made %+v of %d containers", s, len(r.containers()))
	}
	r.scheduler.kill(task.ID, true)
	r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	if len(r.sidecar.drains()) != 0 {
		t.Error("a kill at once drained")
	}
	// Nor does one that comes when all is over; it hears how it ended.
	r.scheduler.forget()
	r.scheduler.launch(task, req, d)
	r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	r.none()
}

func TestKillOfUnknownTask(t *testing.T) {
	r := newRig(t)
	r.start()
	r.scheduler.kill("nobody", false)
	if s := r.scheduler.awaitState("nobody", pancake.TaskLost); s.Reason != pancake.ReasonUnknownTask {
		t.Errorf("got %+v", s)
	}
}

func TestUnhealthyIsGivenUp(t *testing.T) {
	r := newRig(t)
	r.cfg.UnhealthyAfter = 200 * time.Millisecond
	r.start()
	task := r.launch("sick", nil)
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	// Before it was ever healthy, the deploy's timeout is what ends it.
	r.announce(task, running.ContainerID, pancake.Sick)
	r.scheduler.await(task.ID, "unhealthy", func(s pancake.TaskStatus) bool { return s.Health == pancake.Unhealthy })
	r.announce(task, running.ContainerID, pancake.Alive)
	r.scheduler.await(task.ID, "healthy", func(s pancake.TaskStatus) bool { return s.Health == pancake.Healthy })
	r.announce(task, running.ContainerID, pancake.Sick)
	failed := r.scheduler.awaitState(task.ID, pancake.TaskFailed)
	if failed.Reason != pancake.ReasonUnhealthy || len(r.sidecar.drains()) != 1 {
		t.Errorf("failed %+v, drains %v", failed, r.sidecar.drains())
	}
	r.none()
}

// What a failing check answers is reported as it changes.
func TestNewestAnswer(t *testing.T) {
	r := newRig(t)
	r.start()
	task := r.launch("sick", nil)
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	for _, note := range []string{"connection refused", "500 no database"} {
		r.sidecar.announce(&pancake.Service{ID: running.ContainerID[:12], Task: task.ID, Status: pancake.Sick, Note: note})
		r.scheduler.await(task.ID, note, func(s pancake.TaskStatus) bool { return s.Health == pancake.Unhealthy && s.HealthNote == note })
	}
}

func TestLogStreams(t *testing.T) {
	r := newRig(t)
	r.start()
	task := r.launch("talk", map[string]string{"LINES": "4"})
	r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	r.scheduler.mu.Lock()
	r.scheduler.enough["s2"] = true
	r.scheduler.mu.Unlock()
	r.scheduler.logs("s2", task.ID, true) // ends when the scheduler has had enough
	r.scheduler.logs("s3", task.ID, true) // ends with the task
	eventually(t, "four lines", func() bool { text, _ := r.scheduler.output("s3"); return strings.Count(text, "\n") == 4 })
	r.scheduler.logs("s1", task.ID, false) // ends with what there is
	eventually(t, "four lines", func() bool { text, _ := r.scheduler.output("s1"); return strings.Count(text, "\n") == 4 })
	r.scheduler.kill(task.ID, true)
	eventually(t, "the last line", func() bool { text, _ := r.scheduler.output("s3"); return strings.Contains(text, "asked to stop") })
	r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	r.scheduler.logs("s4", "nobody", false)
	eventually(t, "error", func() bool { _, e := r.scheduler.output("s4"); return strings.Contains(e, "nobody is gone") })
	sources := map[string]bool{}
	r.scheduler.mu.Lock()
	defer r.scheduler.mu.Unlock()
	for _, c := range r.scheduler.chunks["s1"] {
		sources[c.GetSource()] = true
	}
	if !sources["stdout"] || !sources["stderr"] {
		t.Errorf("sources %v", sources)
	}
}

func TestRedirectAndHeartbeat(t *testing.T) {
	r := newRig(t)
	follower := newScheduler(t)
	follower.redirect = r.scheduler.addr
	r.cfg.SchedulerAddrs = []string{"127.0.0.1:1", follower.addr}
	r.sidecar.members = []sidecarclient.Member{{Name: "node-2", State: sidecarclient.MemberDead}, {Name: "node-3", State: sidecarclient.MemberAlive}}
	r.start()
	eventually(t, "heartbeat that names the dead", func() bool {
		r.scheduler.mu.Lock()
		defer r.scheduler.mu.Unlock()
		n := len(r.scheduler.beats)
		return n > 0 && slices.Equal(r.scheduler.beats[n-1].GetGossipDead(), []string{"node-2"})
	})
	follower.mu.Lock()
	defer follower.mu.Unlock()
	if follower.sessions != 1 {
		t.Errorf("the follower was asked %d times", follower.sessions)
	}
}

func TestRemoveAll(t *testing.T) {
	r := newRig(t)
	r.start()
	a, b := r.launch("a", nil), r.launch("b", map[string]string{"STUBBORN": "1"})
	r.scheduler.awaitState(a.ID, pancake.TaskRunning)
	r.scheduler.awaitState(b.ID, pancake.TaskRunning)
	r.stop()
	engine, err := docker.New(docker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if n, err := executor.RemoveAll(t.Context(), engine, r.agent, time.Second); n != 2 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if ids := r.containers(); len(ids) != 0 {
		t.Errorf("left: %v", ids)
	}
}

func TestEngineAway(t *testing.T) {
	r := newRig(t)
	p := newProxy(t)
	r.cfg.Docker = docker.Config{Host: "unix://" + p.path}
	r.cfg.Log = slog.New(slog.DiscardHandler) // it is right to complain
	r.start()
	kept, ended := r.launch("kept", nil), r.launch("ended", nil)
	keptAs := r.scheduler.awaitState(kept.ID, pancake.TaskRunning)
	endedAs := r.scheduler.awaitState(ended.ID, pancake.TaskRunning)
	p.cut()
	late := r.launch("late", nil)
	if s := r.scheduler.await(late.ID, "no_docker", func(s pancake.TaskStatus) bool { return s.Reason == pancake.ReasonNoDocker }); s.State.Terminal() {
		t.Errorf("an engine that is away failed a task: %+v", s)
	}
	if _, err := r.docker.ContainerKill(t.Context(), endedAs.ContainerID, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	p.mend()
	if s := r.scheduler.awaitState(ended.ID, pancake.TaskFailed); s.ExitCode != 137 {
		t.Errorf("ended meanwhile: %+v", s)
	}
	r.scheduler.awaitState(late.ID, pancake.TaskRunning)
	if got := r.scheduler.states(kept.ID); got != "STARTING RUNNING" {
		t.Errorf("a task that ran all the time went %s", got)
	}
	if ids := r.containers(); !slices.Contains(ids, keptAs.ContainerID) {
		t.Errorf("containers %v, want %s among them", ids, keptAs.ContainerID)
	}
}

// A task whose checkpoint is lost goes on; the scheduler decides what becomes of it.
func TestLostCheckpointIsAdopted(t *testing.T) {
	r := newRig(t)
	r.start()
	task := r.launch("lost", nil)
	before := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	r.stop()
	files, err := filepath.Glob(filepath.Join(r.cfg.DataDir, "executor", "tasks", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("checkpoints %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	adopted := r.scheduler.await(task.ID, "status that is newer", func(s pancake.TaskStatus) bool { return s.Sequence > before.Sequence })
	if adopted.State != pancake.TaskRunning || adopted.ContainerID != before.ContainerID {
		t.Errorf("taken in as %+v", adopted)
	}
	r.scheduler.kill(task.ID, false)
	r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	if got := r.sidecar.drains(); !slices.Equal(got, []string{before.ContainerID[:12]}) {
		t.Errorf("drained %v", got)
	}
	r.none()
}

// What was removed behind the executor's back is not made again.
func TestContainerRemovedByOthers(t *testing.T) {
	r := newRig(t)
	r.start()
	task := r.launch("removed", nil)
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	if _, err := r.docker.ContainerRemove(t.Context(), running.ContainerID, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	// Killed first, then removed: which of the two is seen first is a race.
	if s := r.scheduler.awaitState(task.ID, pancake.TaskFailed); s.Reason != pancake.ReasonContainerGone && s.ExitCode != 137 {
		t.Errorf("failed: %+v", s)
	}
	r.none()
}

// Without a Sidecar a kill still waits before it stops the container.
func TestKillWithoutSidecar(t *testing.T) {
	r := newRig(t)
	r.cfg.SidecarURL = "http://127.0.0.1:1"
	r.cfg.Log = slog.New(slog.DiscardHandler)
	r.start()
	task, req, d := r.task("alone", nil)
	d.Container.Labels = map[string]string{pancake.LabelSidecarDiscover: "false"}
	r.scheduler.launch(task, req, d)
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	if running.Health != pancake.HealthUnwatched {
		t.Errorf("health %q of a task that Sidecar shall not see", running.Health)
	}
	r.scheduler.kill(task.ID, false)
	killing, killed := r.scheduler.awaitState(task.ID, pancake.TaskKilling), r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	if waited := killed.Updated.Sub(killing.Updated); waited < r.cfg.DrainDuration {
		t.Errorf("stopped after %s, want %s at least", waited, r.cfg.DrainDuration)
	}
}

func TestBadConfig(t *testing.T) {
	good := executor.Config{DataDir: t.TempDir(), SchedulerAddrs: []string{"127.0.0.1:1"}}
	for words, change := range map[string]func(*executor.Config){
		"data directory":    func(c *executor.Config) { c.DataDir = "" },
		"scheduler address": func(c *executor.Config) { c.SchedulerAddrs = nil },
		"host:port":         func(c *executor.Config) { c.SchedulerAddrs = []string{"127.0.0.1:1", "http://127.0.0.1:7099"} },
		"not an IP address": func(c *executor.Config) { c.Address = "localhost" },
		"neither":           func(c *executor.Config) { c.CPULimit = "soft" },
		"negative":          func(c *executor.Config) { c.KillGrace = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := executor.New(cfg); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
	good.Docker.Host = "unix:///no/such/docker.sock"
	e, err := executor.New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); pancake.KindOf(err) != pancake.Unavailable || !strings.Contains(err.Error(), "is dockerd running") {
		t.Errorf("without Docker: %v", err)
	}
}
