package agents

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// accepting is an owner that takes every agent.
type accepting struct {
	server *Server
	closed chan string
}

func (o *accepting) Register(_ context.Context, session uint64, a pancake.Agent, _ map[string]pancake.TaskStatus) error {
	o.server.Accept(a.ID, session)
	return nil
}
func (o *accepting) Status(context.Context, string, string, pancake.TaskStatus) error { return nil }
func (o *accepting) Closed(agent string, _ time.Time)                                 { o.closed <- agent }

type dialled = grpc.BidiStreamingClient[agentlink.AgentMessage, agentlink.SchedulerMessage]

// inBubble serves a Server in memory, with simulated time.
func inBubble(t *testing.T, test func(t *testing.T, s *Server, link agentlink.AgentLinkClient)) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Leader: func() string { return "10.0.0.1:7098" }})
		ln := bufconn.Listen(1 << 20)
		srv := grpc.NewServer()
		agentlink.RegisterAgentLinkServer(srv, s)
		served := make(chan error)
		go func() { served <- srv.Serve(ln) }()
		conn, err := grpc.NewClient("passthrough:///mem", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, agentlink.NewAgentLinkClient(conn))
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		srv.Stop()
		<-served
		synctest.Wait()
	})
}

func dial(t *testing.T, link agentlink.AgentLinkClient, first *agentlink.AgentMessage) dialled {
	t.Helper()
	s, err := link.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first != nil {
		if err := s.Send(first); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func registerMessage() *agentlink.AgentMessage { return registerAt("127.0.0.1") }

func registerAt(address string) *agentlink.AgentMessage {
	return &agentlink.AgentMessage{Message: &agentlink.AgentMessage_Register{Register: agentlink.NewRegister(
		pancake.Agent{ID: "a", Hostname: "node-a", Address: address}, nil)}}
}

func TestRedirectWithoutAnOwner(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Server, link agentlink.AgentLinkClient) {
		m, err := dial(t, link, registerMessage()).Recv()
		if err != nil || m.GetRedirect().GetLeader() != "10.0.0.1:7098" {
			t.Errorf("got %v, %v", m, err)
		}
	})
}

func TestBadSessionsAreRefused(t *testing.T) {
	bad := map[string]*agentlink.AgentMessage{
		"silence":        nil,
		"not a Register": {Message: &agentlink.AgentMessage_Heartbeat{Heartbeat: &agentlink.Heartbeat{}}},
		"no id":          {Message: &agentlink.AgentMessage_Register{Register: &agentlink.Register{}}},
	}
	for name, first := range bad {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *Server, link agentlink.AgentLinkClient) {
				s.SetOwner(&accepting{s, make(chan string, 9)})
				if _, err := dial(t, link, first).Recv(); status.Code(err) != codes.InvalidArgument {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestANewSessionReplacesTheOld(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, link agentlink.AgentLinkClient) {
		owner := &accepting{s, make(chan string, 9)}
		s.SetOwner(owner)
		old := dial(t, link, registerMessage())
		if m, err := old.Recv(); err != nil || m.GetRegistered().GetHeartbeatMs() != 2000 {
			t.Fatalf("got %v, %v", m, err)
		}
		next := dial(t, link, registerMessage())
		if m, err := next.Recv(); err != nil || m.GetRegistered() == nil {
			t.Fatalf("got %v, %v", m, err)
		}
		if _, err := old.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the old session got %v", err)
		}
		if agent := <-owner.closed; agent != "a" || !s.Connected("a") {
			t.Errorf("a session of %s was closed, connected %t", agent, s.Connected("a"))
		}
		s.SetOwner(nil)
		if _, err := next.Recv(); status.Code(err) != codes.Unavailable || s.Connected("a") {
			t.Errorf("without an owner: %v", err)
		}
	})
}

// Two nodes with one data directory, such as clones of a machine, would drive
// each other out, and each time the tasks of the other would count as lost.
func TestAnotherNodeWithTheSameIDIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, link agentlink.AgentLinkClient) {
		s.SetOwner(&accepting{s, make(chan string, 9)})
		if _, err := dial(t, link, registerMessage()).Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := dial(t, link, registerAt("127.0.0.2")).Recv(); status.Code(err) != codes.FailedPrecondition || !s.Connected("a") {
			t.Errorf("the clone got %v; connected %t", err, s.Connected("a"))
		}
		// A node that moved is taken once its old address is silent.
		time.Sleep(7 * time.Second)
		if m, err := dial(t, link, registerAt("127.0.0.2")).Recv(); err != nil || m.GetRegistered() == nil {
			t.Errorf("the node that moved got %v, %v", m, err)
		}
	})
}

func TestAnAgentThatDoesNotReadIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, link agentlink.AgentLinkClient) {
		s.SetOwner(&accepting{s, make(chan string, 9)})
		if _, err := dial(t, link, registerMessage()).Recv(); err != nil {
			t.Fatal(err)
		}
		big := &agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Kill{Kill: &agentlink.Kill{TaskId: string(make([]byte, 1024))}}}
		sent := 0
		for s.Send("a", big) {
			sent++
		}
		if sent < maxQueue {
			t.Errorf("cut off after %d messages", sent)
		}
		synctest.Wait()
		if s.Connected("a") {
			t.Error("still connected")
		}
	})
}

func TestLogsHaveATimeLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, link agentlink.AgentLinkClient) {
		s.SetOwner(&accepting{s, make(chan string, 9)})
		if _, err := dial(t, link, registerMessage()).Recv(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := s.Logs(t.Context(), "a", "t", 0, true, func(string, []byte) error { return nil })
		if pancake.KindOf(err) != pancake.Unavailable || time.Since(began) != streamLimit {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		stream, err := link.Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&agentlink.StreamChunk{StreamId: "guessed"})
		if _, err := stream.CloseAndRecv(); status.Code(err) != codes.NotFound {
			t.Errorf("a stream nobody asked for: %v", err)
		}
	})
}

func TestABrokenLogStreamIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, link agentlink.AgentLinkClient) {
		s.SetOwner(&accepting{s, make(chan string, 9)})
		agent := dial(t, link, registerMessage())
		if _, err := agent.Recv(); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				m, err := agent.Recv()
				if err != nil {
					return
				}
				if o := m.GetOpenStream(); o != nil {
					ctx, cancel := context.WithCancel(t.Context())
					stream, err := link.Stream(ctx)
					if err != nil {
						t.Error(err)
					}
					_ = stream.Send(&agentlink.StreamChunk{StreamId: o.GetStreamId(), Source: "stdout", Data: []byte("half")})
					synctest.Wait()
					cancel()
				}
			}
		}()
		var got string
		err := s.Logs(t.Context(), "a", "t", 0, false, func(_ string, data []byte) error { got += string(data); return nil })
		if pancake.KindOf(err) != pancake.Unavailable || got != "half" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
