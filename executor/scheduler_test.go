package executor_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// scheduler speaks the real protocol and does what the test says.
type scheduler struct {
	agentlink.UnimplementedAgentLinkServer
	t    *testing.T
	addr string
	srv  *grpc.Server

	mu       sync.Mutex
	deaf     bool // does not acknowledge
	redirect string
	agent    pancake.Agent
	sessions int
	beats    []*agentlink.Heartbeat
	held     map[string]pancake.TaskStatus // of the last register
	statuses map[string][]pancake.TaskStatus
	send     func(*agentlink.SchedulerMessage) error
	hangUp   context.CancelFunc
	chunks   map[string][]*agentlink.StreamChunk
	enough   map[string]bool // streams to end at their next chunk
}

// newScheduler runs a scheduler in clear.
func newScheduler(t *testing.T) *scheduler {
	return serveScheduler(t, grpc.EmptyServerOption{}, func(*grpc.Server) {})
}

// serveScheduler runs a scheduler; more registers further services with it.
func serveScheduler(t *testing.T, creds grpc.ServerOption, more func(*grpc.Server)) *scheduler {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scheduler{
		t: t, addr: lis.Addr().String(), srv: grpc.NewServer(append(agentlink.ServerOptions(), creds)...),
		statuses: map[string][]pancake.TaskStatus{}, chunks: map[string][]*agentlink.StreamChunk{}, enough: map[string]bool{},
	}
	agentlink.RegisterAgentLinkServer(s.srv, s)
	more(s.srv)
	go s.srv.Serve(lis)
	t.Cleanup(s.srv.Stop)
	return s
}

func (s *scheduler) Session(stream grpc.BidiStreamingServer[agentlink.AgentMessage, agentlink.SchedulerMessage]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	agent, held, err := first.GetRegister().Decode()
	if err != nil {
		s.t.Error(err)
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	var sending sync.Mutex
	send := func(m *agentlink.SchedulerMessage) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(m)
	}
	s.mu.Lock()
	redirect := s.redirect
	s.agent, s.held, s.send, s.hangUp = agent, held, send, cancel
	s.sessions++
	s.mu.Unlock()
	if redirect != "" {
		return send(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Redirect{Redirect: &agentlink.Redirect{Leader: redirect}}})
	}
	if err := send(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Registered{Registered: &agentlink.Registered{HeartbeatMs: 50}}}); err != nil {
		return err
	}
	go func() {
		defer cancel()
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			s.take(m, send)
		}
	}()
	<-ctx.Done()
	return nil
}

func (s *scheduler) take(m *agentlink.AgentMessage, send func(*agentlink.SchedulerMessage) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := m.GetHeartbeat(); b != nil {
		s.beats = append(s.beats, b)
	}
	if m.GetStatus() == nil {
		return
	}
	id, status, err := m.GetStatus().Decode()
	if err != nil {
		s.t.Error(err)
		return
	}
	s.statuses[id] = append(s.statuses[id], status)
	if !s.deaf {
		_ = send(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Acknowledge{
			Acknowledge: &agentlink.Acknowledge{TaskId: id, Sequence: status.Sequence},
		}})
	}
}

func (s *scheduler) Stream(stream grpc.ClientStreamingServer[agentlink.StreamChunk, agentlink.StreamDone]) error {
	for {
		c, err := stream.Recv()
		if err != nil {
			break
		}
		s.mu.Lock()
		s.chunks[c.GetStreamId()] = append(s.chunks[c.GetStreamId()], c)
		enough := s.enough[c.GetStreamId()] && len(c.GetData()) > 0
		s.mu.Unlock()
		if enough {
			break
		}
	}
	return stream.SendAndClose(&agentlink.StreamDone{})
}

// tell sends a message over the present session.
func (s *scheduler) tell(m *agentlink.SchedulerMessage) {
	s.t.Helper()
	eventually(s.t, "a session", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.send != nil })
	s.mu.Lock()
	send := s.send
	s.mu.Unlock()
	if err := send(m); err != nil {
		s.t.Fatalf("send to the agent: %v", err)
	}
}

func (s *scheduler) launch(task pancake.Task, r pancake.Request, d pancake.Deploy) {
	s.t.Helper()
	s.tell(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Launch{Launch: agentlink.NewLaunch(task, r, d)}})
}

func (s *scheduler) kill(id string, now bool) {
	s.t.Helper()
	s.tell(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Kill{Kill: &agentlink.Kill{TaskId: id, Now: now}}})
}

func (s *scheduler) logs(stream, id string, follow bool) {
	s.t.Helper()
	s.tell(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_OpenStream{OpenStream: &agentlink.OpenStream{
		StreamId: stream, What: &agentlink.OpenStream_Logs{Logs: &agentlink.Logs{TaskId: id, Follow: follow}},
	}}})
}

// output is what a stream carried so far, and its error.
func (s *scheduler) output(stream string) (text, errText string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.chunks[stream] {
		text += string(c.GetData())
		errText += c.GetError()
	}
	return text, errText
}

// forget makes as if nothing had been reported yet.
func (s *scheduler) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses = map[string][]pancake.TaskStatus{}
}

// seen lists what was reported of a task, once per sequence.
func (s *scheduler) seen(id string) []pancake.TaskStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []pancake.TaskStatus
	for _, status := range s.statuses[id] {
		if len(out) == 0 || status.Sequence > out[len(out)-1].Sequence {
			out = append(out, status)
		}
	}
	return out
}

// await waits until a status of the task is as wanted, and returns it.
func (s *scheduler) await(id, what string, wanted func(pancake.TaskStatus) bool) pancake.TaskStatus {
	s.t.Helper()
	var found pancake.TaskStatus
	eventually(s.t, what+" of "+id, func() bool {
		for _, status := range s.seen(id) {
			if wanted(status) {
				found = status
				return true
			}
		}
		return false
	}, func() any { return s.seen(id) })
	return found
}

func (s *scheduler) awaitState(id string, state pancake.TaskState) pancake.TaskStatus {
	s.t.Helper()
	return s.await(id, string(state), func(status pancake.TaskStatus) bool { return status.State == state })
}

// states is the way that a task went.
func (s *scheduler) states(id string) string {
	var out []string
	for _, status := range s.seen(id) {
		name := strings.TrimPrefix(string(status.State), "TASK_")
		if len(out) == 0 || out[len(out)-1] != name {
			out = append(out, name)
		}
	}
	return strings.Join(out, " ")
}

// eventually polls until a condition holds; show adds to the message when it never does.
func eventually(t *testing.T, what string, ok func() bool, show ...func() any) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	for _, s := range show {
		t.Logf("%+v", s())
	}
	t.Fatalf("no %s within 30 s", what)
}
