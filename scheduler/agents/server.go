// Package agents is the scheduler's end of the agent link: it holds one
// session per agent, tells the owner of the state what agents say, and carries
// what the owner has to tell them.
package agents

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// Owner owns the state: the scheduler that leads.
type Owner interface {
	// Register takes an agent in. Once that is stored, the owner calls Accept.
	Register(ctx context.Context, session uint64, a pancake.Agent, tasks map[string]pancake.TaskStatus) error
	// Status takes what an agent observed of a task. Once that is stored, the
	// owner sends the acknowledgement.
	Status(ctx context.Context, agent, task string, s pancake.TaskStatus) error
	// Closed says that a session of an agent is over, and when it was heard last.
	Closed(agent string, heard time.Time)
}

// Security tells agents from others, and what they have to know.
type Security interface {
	// Agent returns the id of the agent at the other end of a call. It fails with
	// Denied when that is none, or not the one claimed, if that is not "".
	Agent(ctx context.Context, claimed string) (id string, err error)
	// Shared is what all nodes share, for the agent that makes the call of ctx.
	Shared(ctx context.Context) *agentlink.Credentials
}

// Config says how a Server treats agents.
type Config struct {
	// Leader says where agents find the scheduler that leads; "" means nobody does.
	Leader func() string
	// Heartbeat is how often agents are asked to report. Default 2 s.
	Heartbeat time.Duration
	// Security, if set, is asked who each agent is. Without it they are believed.
	Security Security
}

// How long an agent may take.
const (
	registerLimit = 10 * time.Second // from dialling in to its Register
	streamLimit   = 5 * time.Second  // from OpenStream to its first chunk
)

// Server implements the agent link. Without an owner it redirects agents.
type Server struct {
	agentlink.UnimplementedAgentLinkServer

	leader    func() string
	heartbeat time.Duration
	security  Security // may be nil

	mu       sync.Mutex
	owner    Owner
	sessions map[string]*session // by agent id
	streams  map[string]*stream  // by stream id
	last     uint64              // session number
}

// New makes a Server without an owner.
func New(cfg Config) *Server {
	return &Server{
		leader: cfg.Leader, heartbeat: cmp.Or(cfg.Heartbeat, 2*time.Second), security: cfg.Security,
		sessions: map[string]*session{}, streams: map[string]*stream{},
	}
}

// SetOwner hands all agents to another owner, nil for none: it ends every
// session, so that agents come back and register anew.
func (s *Server) SetOwner(o Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner = o
	for id, sess := range s.sessions {
		sess.close()
		delete(s.sessions, id)
	}
}

// Link is one agent that is connected.
type Link struct {
	Heard time.Time // when it last said anything
	Dead  []string  // host names that its gossip calls dead
}

// Links returns the agents that are connected, by id.
func (s *Server) Links() map[string]Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	links := make(map[string]Link, len(s.sessions))
	for id, sess := range s.sessions {
		if sess.accepted {
			links[id] = Link{Heard: sess.heard, Dead: sess.dead}
		}
	}
	return links
}

// Connected reports whether an agent is.
func (s *Server) Connected(agent string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[agent]
	return sess != nil && sess.accepted
}

// Accept lets a session begin that the owner has taken in.
func (s *Server) Accept(agent string, number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sess := s.sessions[agent]; sess != nil && sess.number == number {
		sess.accepted = true
		sess.send(&agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Registered{
			Registered: &agentlink.Registered{HeartbeatMs: s.heartbeat.Milliseconds()},
		}})
		sess.share()
	}
}

// Share tells all agents what they share, because it has changed.
func (s *Server) Share() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.sessions {
		if sess.accepted {
			sess.share()
		}
	}
}

// Send queues messages for an agent and reports whether it is connected. It
// never waits: an agent that does not read is cut off.
func (s *Server) Send(agent string, msgs ...*agentlink.SchedulerMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[agent]
	if sess == nil || !sess.accepted {
		return false
	}
	return sess.send(msgs...)
}

// Drop ends an agent's session.
func (s *Server) Drop(agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sess := s.sessions[agent]; sess != nil {
		sess.close()
		delete(s.sessions, agent)
	}
}

// begin installs a session for an agent; an older one of the same agent ends.
// It fails with Conflict while another node of the same id is heard.
func (s *Server) begin(ctx context.Context, a pancake.Agent) (*session, Owner, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == nil {
		return nil, nil, nil
	}
	if old := s.sessions[a.ID]; old != nil {
		if old.accepted && !old.closed && old.address != a.Address && time.Since(old.heard) < 3*s.heartbeat {
			return nil, nil, pancake.Errorf(pancake.Conflict, "agent %s is connected from %s; if %s has a copy of its data directory, remove the copy", a.ID, old.address, a.Address)
		}
		old.close()
	}
	s.last++
	sess := newSession(a.ID, a.Address, s.last)
	if s.security != nil {
		sess.shared = func() *agentlink.Credentials { return s.security.Shared(ctx) }
	}
	s.sessions[a.ID] = sess
	return sess, s.owner, nil
}

// end removes a session unless another has taken its place.
func (s *Server) end(sess *session, owner Owner) {
	s.mu.Lock()
	if s.sessions[sess.agent] == sess {
		delete(s.sessions, sess.agent)
	}
	sess.close()
	heard := sess.heard
	s.mu.Unlock()
	owner.Closed(sess.agent, heard)
}

// heardFrom notes that a session is alive.
func (s *Server) heardFrom(sess *session, beat *agentlink.Heartbeat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess.heard = time.Now()
	if beat != nil {
		sess.dead = slices.Clone(beat.GetGossipDead()[:min(len(beat.GetGossipDead()), maxDead)])
	}
}

// refuse turns a failure into what gRPC sends to the agent.
func refuse(err error) error {
	switch pancake.KindOf(err) {
	case pancake.Invalid:
		return status.Error(codes.InvalidArgument, err.Error())
	case pancake.Conflict:
		return status.Error(codes.FailedPrecondition, err.Error())
	case pancake.Unauthenticated:
		return status.Error(codes.Unauthenticated, err.Error())
	case pancake.Forbidden:
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}
