package agents

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

const (
	maxQueue = 32_000 // messages that wait for one agent; it may hold 10,000 tasks
	maxDead  = 10_000 // host names in one heartbeat
)

// session is one agent's link. Server.mu guards all but the channels.
type session struct {
	agent    string
	address  string
	number   uint64 // tells it from others of the same agent
	accepted bool
	heard    time.Time
	dead     []string
	queue    []*agentlink.SchedulerMessage
	closed   bool
	ready    chan struct{} // holds one value while the queue is not empty
	done     chan struct{} // closed when the session is to end
	// shared makes what all nodes share, for this one; nil when nothing is secure.
	shared func() *agentlink.Credentials
}

// share queues what all nodes share.
func (s *session) share() {
	if s.shared != nil {
		s.send(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Credentials{Credentials: s.shared()}})
	}
}

func newSession(agent, address string, number uint64) *session {
	return &session{agent: agent, address: address, number: number, heard: time.Now(), ready: make(chan struct{}, 1), done: make(chan struct{})}
}

func (s *session) close() {
	if !s.closed {
		s.closed = true
		close(s.done)
	}
}

func (s *session) send(msgs ...*agentlink.SchedulerMessage) bool {
	if s.closed || len(s.queue)+len(msgs) > maxQueue {
		s.close()
		return false
	}
	s.queue = append(s.queue, msgs...)
	select {
	case s.ready <- struct{}{}:
	default: // the writer has been woken already
	}
	return true
}

// Session serves one agent until either side ends it.
func (s *Server) Session(conn grpc.BidiStreamingServer[agentlink.AgentMessage, agentlink.SchedulerMessage]) error {
	ctx, cancel := context.WithCancel(conn.Context())
	defer cancel()
	in := receive(ctx, conn.Recv)
	reg, err := register(ctx, in)
	if err != nil {
		return refuse(err)
	}
	agent, tasks, err := reg.Decode()
	if err != nil {
		return refuse(pancake.Errorf(pancake.Invalid, "%w", err))
	}
	if s.security != nil {
		if _, err := s.security.Agent(ctx, agent.ID); err != nil {
			return refuse(err)
		}
	}
	sess, owner, err := s.begin(ctx, agent)
	if err != nil {
		return refuse(err)
	}
	if sess == nil {
		return conn.Send(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Redirect{
			Redirect: &agentlink.Redirect{Leader: s.leader()},
		}})
	}
	defer s.end(sess, owner)
	if err := owner.Register(ctx, sess.number, agent, tasks); err != nil {
		return refuse(err)
	}
	broken := make(chan error, 1)
	go func() { broken <- s.write(ctx, sess, conn) }()
	for {
		select {
		case m, ok := <-in.c:
			if !ok {
				return nil // the agent hung up
			}
			if err := s.take(ctx, sess, owner, m); err != nil {
				return refuse(err)
			}
		case err := <-broken:
			return err
		case <-sess.done:
			return refuse(pancake.Errorf(pancake.Unavailable, "the session was ended; register again"))
		}
	}
}

// incoming is what a stream receives. err says why it ended, once c is closed.
type incoming[T any] struct {
	c   chan *T
	err error
}

// receive reads messages until the stream or ctx ends. Its goroutine ends
// with the handler: only returning from it ends a blocked Recv.
func receive[T any](ctx context.Context, recv func() (*T, error)) *incoming[T] {
	in := &incoming[T]{c: make(chan *T)}
	go func() {
		defer close(in.c)
		for {
			m, err := recv()
			if err != nil {
				in.err = err
				return
			}
			select {
			case in.c <- m:
			case <-ctx.Done():
				in.err = ctx.Err()
				return
			}
		}
	}()
	return in
}

// register waits for the first message, which must be a Register.
func register(ctx context.Context, in *incoming[agentlink.AgentMessage]) (*agentlink.Register, error) {
	limit := time.NewTimer(registerLimit)
	defer limit.Stop()
	select {
	case m := <-in.c:
		if r := m.GetRegister(); r != nil {
			return r, nil
		}
		return nil, pancake.Errorf(pancake.Invalid, "the first message of a session must be a Register")
	case <-limit.C:
		return nil, pancake.Errorf(pancake.Invalid, "no Register within %s", registerLimit)
	case <-ctx.Done():
		return nil, pancake.Errorf(pancake.Unavailable, "the agent hung up: %w", ctx.Err())
	}
}

// take handles one message of a registered agent.
func (s *Server) take(ctx context.Context, sess *session, owner Owner, m *agentlink.AgentMessage) error {
	s.heardFrom(sess, m.GetHeartbeat())
	u := m.GetStatus()
	if u == nil {
		return nil // a heartbeat, or a message of a later version
	}
	task, status, err := u.Decode()
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "%w", err)
	}
	return owner.Status(ctx, sess.agent, task, status)
}

// write sends what is queued until the session ends.
func (s *Server) write(ctx context.Context, sess *session, conn grpc.BidiStreamingServer[agentlink.AgentMessage, agentlink.SchedulerMessage]) error {
	for {
		select {
		case <-sess.ready:
		case <-ctx.Done():
			return nil
		}
		s.mu.Lock()
		queue := sess.queue
		sess.queue = nil
		s.mu.Unlock()
		for _, m := range queue {
			if err := conn.Send(m); err != nil {
				return err
			}
		}
	}
}
