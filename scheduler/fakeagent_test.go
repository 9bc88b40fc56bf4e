package scheduler_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// fakeAgent speaks the real protocol and runs nothing: a script says what
// becomes of each task it is told to launch.
type fakeAgent struct {
	t         *testing.T
	info      pancake.Agent
	scheduler string // any scheduler's gRPC address; redirects are followed

	mu       sync.Mutex
	script   func(agentlink.Assignment) []pancake.TaskStatus
	tasks    map[string]pancake.TaskStatus
	launches map[string]int // how often each task was sent
	ports    map[string][]int
	kills    map[string]int
	acked    map[string]uint64
	mute     bool // takes launches without saying anything
	sticky   bool // ignores kills
	dead     []string
	logs     []string
	creds    credentials.TransportCredentials // insecure.NewCredentials if nil
	shared   []*agentlink.Credentials         // what it was told
	sessions int
	out      chan *agentlink.AgentMessage
	stop     context.CancelFunc
	stopped  chan struct{}
}

// healthy is the script of a task that works.
func healthy(agentlink.Assignment) []pancake.TaskStatus {
	return []pancake.TaskStatus{
		{State: pancake.TaskStarting},
		{State: pancake.TaskRunning, Started: time.Now()},
		{State: pancake.TaskRunning, Started: time.Now(), Health: pancake.Healthy},
	}
}

// crashing is the script of a task that fails before it is healthy.
func crashing(agentlink.Assignment) []pancake.TaskStatus {
	return []pancake.TaskStatus{{State: pancake.TaskStarting}, {
		State: pancake.TaskFailed, Reason: pancake.ReasonExited, ExitCode: 3, Message: "exited with code 3", Log: []string{"no database"},
	}}
}

func newAgent(t *testing.T, name string, cpus float64) *fakeAgent {
	return &fakeAgent{
		t: t, script: healthy, tasks: map[string]pancake.TaskStatus{}, launches: map[string]int{}, ports: map[string][]int{}, kills: map[string]int{}, acked: map[string]uint64{},
		info: pancake.Agent{ID: "id-" + name, Hostname: name, Address: "127.0.0.1", Resources: pancake.Resources{
			CPUs: pancake.CPUs(cpus), MemoryMB: 4096, Ports: pancake.PortSet{{First: 31000, Last: 31099}},
		}},
	}
}

// start connects the agent until stop or the end of the test.
func (a *fakeAgent) start(scheduler string) *fakeAgent {
	ctx, cancel := context.WithCancel(context.Background())
	a.scheduler, a.stop, a.stopped = scheduler, cancel, make(chan struct{})
	go func() {
		defer close(a.stopped)
		for ctx.Err() == nil {
			a.session(ctx)
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	a.t.Cleanup(a.halt)
	return a
}

// halt disconnects the agent; its tasks keep running.
func (a *fakeAgent) halt() {
	a.stop()
	<-a.stopped
}

func (a *fakeAgent) session(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	creds := a.creds
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(a.scheduler, grpc.WithTransportCredentials(creds))
	if err != nil {
		a.t.Error(err)
		return
	}
	defer conn.Close()
	link := agentlink.NewAgentLinkClient(conn)
	stream, err := link.Session(ctx)
	if err != nil {
		return
	}
	out := make(chan *agentlink.AgentMessage, 1000)
	a.mu.Lock()
	a.out = out
	a.sessions++
	reg := agentlink.NewRegister(a.info, a.tasks)
	a.mu.Unlock()
	if stream.Send(&agentlink.AgentMessage{Message: &agentlink.AgentMessage_Register{Register: reg}}) != nil {
		return
	}
	go func() {
		beat := time.NewTicker(50 * time.Millisecond)
		defer beat.Stop()
		for {
			var m *agentlink.AgentMessage
			select {
			case m = <-out:
			case <-beat.C:
				a.mu.Lock()
				m = &agentlink.AgentMessage{Message: &agentlink.AgentMessage_Heartbeat{Heartbeat: &agentlink.Heartbeat{GossipDead: a.dead}}}
				a.mu.Unlock()
			case <-ctx.Done():
				return
			}
			if stream.Send(m) != nil {
				return
			}
		}
	}()
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		if r := m.GetRedirect(); r != nil {
			if r.GetLeader() != "" {
				a.scheduler = r.GetLeader()
			}
			return
		}
		a.take(ctx, link, m)
	}
}

func (a *fakeAgent) take(ctx context.Context, link agentlink.AgentLinkClient, m *agentlink.SchedulerMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case m.GetLaunch() != nil:
		job, err := m.GetLaunch().Decode()
		if err != nil {
			a.t.Errorf("launch: %v", err)
			return
		}
		a.launches[job.Task.ID]++
		for _, p := range job.Task.Ports {
			a.ports[job.Task.ID] = append(a.ports[job.Task.ID], p.HostPort)
		}
		if a.mute {
			return
		}
		if s, ok := a.tasks[job.Task.ID]; ok {
			a.send(job.Task.ID, s)
			return
		}
		for _, s := range a.script(job) {
			a.report(job.Task.ID, s)
		}
	case m.GetKill() != nil:
		id := m.GetKill().GetTaskId()
		a.kills[id]++
		if a.sticky || a.tasks[id].State.Terminal() {
			return
		}
		a.report(id, pancake.TaskStatus{State: pancake.TaskKilling})
		a.report(id, pancake.TaskStatus{State: pancake.TaskKilled, Reason: pancake.ReasonKilled})
	case m.GetAcknowledge() != nil:
		id := m.GetAcknowledge().GetTaskId()
		a.acked[id] = max(a.acked[id], m.GetAcknowledge().GetSequence())
		if s := a.tasks[id]; s.State.Terminal() && a.acked[id] >= s.Sequence {
			delete(a.tasks, id)
		}
	case m.GetCredentials() != nil:
		a.shared = append(a.shared, m.GetCredentials())
	case m.GetOpenStream() != nil:
		go a.stream(ctx, link, m.GetOpenStream())
	}
}

// report notes a status and sends it. a.mu is held.
func (a *fakeAgent) report(id string, s pancake.TaskStatus) {
	s.Sequence, s.Updated = a.tasks[id].Sequence+1, time.Now()
	a.tasks[id] = s
	a.send(id, s)
}

func (a *fakeAgent) send(id string, s pancake.TaskStatus) {
	select {
	case a.out <- &agentlink.AgentMessage{Message: &agentlink.AgentMessage_Status{Status: agentlink.NewStatus(id, s)}}:
	default: // not connected
	}
}

// becomes reports another status of a task.
func (a *fakeAgent) becomes(id string, s pancake.TaskStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report(id, s)
}

// running are the ids of the tasks that would have a container.
func (a *fakeAgent) running() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for id, s := range a.tasks {
		if !s.State.Terminal() {
			out = append(out, id)
		}
	}
	return slices.Sorted(slices.Values(out))
}

func (a *fakeAgent) set(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
}

func (a *fakeAgent) launched() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.launches)
}

func (a *fakeAgent) stream(ctx context.Context, link agentlink.AgentLinkClient, o *agentlink.OpenStream) {
	s, err := link.Stream(ctx)
	if err != nil {
		return
	}
	_ = s.Send(&agentlink.StreamChunk{StreamId: o.GetStreamId()})
	for i, line := range a.logs {
		// Lines arrive in pieces, as they do from Docker.
		_ = s.Send(&agentlink.StreamChunk{Source: "stdout", Data: []byte(line[:len(line)/2])})
		_ = s.Send(&agentlink.StreamChunk{Source: "stderr", Data: fmt.Appendf(nil, "error %d\n", i)})
		_ = s.Send(&agentlink.StreamChunk{Source: "stdout", Data: []byte(line[len(line)/2:])})
	}
	if o.GetLogs().GetFollow() {
		_ = s.RecvMsg(&agentlink.StreamDone{}) // until the scheduler has had enough
	}
	_, _ = s.CloseAndRecv()
}
