package executor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/checkpoint"
	"github.com/pancake-stack/pancake/executor/membership"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
)

// Times of the link to the scheduler.
const (
	handshakeTimeout = 5 * time.Second // from dialling to Registered
	resendEvery      = 5 * time.Second // of statuses that were not acknowledged
	firstReconnect   = 50 * time.Millisecond
	lastReconnect    = 2 * time.Second
	// The scheduler says how often it wants a heartbeat, within these bounds.
	minHeartbeat     = 50 * time.Millisecond
	maxHeartbeat     = time.Minute
	defaultHeartbeat = time.Second
	// maxRedirects is how many redirects in a row are followed at once.
	maxRedirects = 3
)

// link keeps a session with the leading scheduler for as long as ctx lasts. It
// goes round the addresses, and straight to a leader that it is told of.
func (n *node) link(ctx context.Context) {
	wait := newBackOff(firstReconnect, lastReconnect)
	leader, warned, refused, redirects := "", false, false, 0
	for try := 0; ctx.Err() == nil; try++ {
		addr := cmp.Or(leader, n.cfg.SchedulerAddrs[try%len(n.cfg.SchedulerAddrs)])
		var registered bool
		var err error
		leader, registered, err = n.session(ctx, addr)
		if ctx.Err() != nil {
			return
		}
		if registered {
			wait.Reset()
			warned, refused, redirects = false, false, 0
		}
		if leader != "" && redirects < maxRedirects {
			redirects++
			continue
		}
		redirects = 0
		denied := identity.ReasonOf(err) != "" && !refused // news even after a warning
		if !warned || denied {
			n.log.WarnContext(ctx, "no link to the scheduler; trying again", "scheduler", addr, "err", err)
			warned, refused = true, refused || denied
		}
		sleep(ctx, wait.NextBackOff())
	}
}

// session registers with one scheduler and serves it until the link breaks. A
// scheduler that does not lead says who does, if it knows.
func (n *node) session(ctx context.Context, addr string) (leader string, registered bool, err error) {
	opts := append(agentlink.DialOptions(), grpc.WithTransportCredentials(n.cfg.Credentials))
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return "", false, pancake.Errorf(pancake.Invalid, "scheduler address %q: %w", addr, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	handshake := time.AfterFunc(handshakeTimeout, func() {
		cancel(pancake.Errorf(pancake.Unavailable, "scheduler %s did not answer within %s", addr, handshakeTimeout))
	})
	defer handshake.Stop()

	client := agentlink.NewAgentLinkClient(conn)
	stream, err := client.Session(ctx)
	if err != nil {
		return "", false, broken(ctx, err)
	}
	if err := stream.Send(n.register()); err != nil {
		return "", false, broken(ctx, err)
	}
	first, err := stream.Recv()
	if err != nil {
		return "", false, broken(ctx, err)
	}
	handshake.Stop()
	switch m := first.GetMessage().(type) {
	case *agentlink.SchedulerMessage_Redirect:
		return m.Redirect.GetLeader(), false, pancake.Errorf(pancake.Unavailable, "scheduler %s does not lead", addr)
	case *agentlink.SchedulerMessage_Registered:
		n.log.InfoContext(ctx, "registered with the scheduler", "scheduler", addr)
		n.registered.set()
		s := &session{node: n, client: client, stream: stream, sent: map[string]uint64{}, open: make(semaphore, maxStreams)}
		err := s.run(ctx, heartbeatEvery(m.Registered.GetHeartbeatMs()))
		cancel(nil)
		s.streams.Wait()
		return "", true, err
	}
	return "", false, pancake.Errorf(pancake.Failed, "scheduler %s answered the registration with %T", addr, first.GetMessage())
}

// register introduces the agent with every task it holds.
func (n *node) register() *agentlink.AgentMessage {
	tasks := map[string]pancake.TaskStatus{}
	for id, t := range n.table.all() {
		if last, _ := t.published(); last.Sequence > 0 { // otherwise it has not been written down yet
			tasks[id] = last
		}
	}
	return &agentlink.AgentMessage{Message: &agentlink.AgentMessage_Register{Register: agentlink.NewRegister(n.agent, tasks)}}
}

func heartbeatEvery(ms int64) time.Duration {
	if ms <= 0 {
		return defaultHeartbeat
	}
	return max(minHeartbeat, time.Duration(min(ms, maxHeartbeat.Milliseconds()))*time.Millisecond)
}

// broken says why the stream ended: our own reason first, then the other side's words.
func broken(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("link to the scheduler: %w", membership.Explain(err))
}

// session is one registered link. Its goroutine alone sends.
type session struct {
	node   *node
	client agentlink.AgentLinkClient
	stream grpc.BidiStreamingClient[agentlink.AgentMessage, agentlink.SchedulerMessage]
	// sent is the last sequence sent per task over this link.
	sent map[string]uint64
	// streams are the goroutines of the session, open those of them that serve a stream.
	streams sync.WaitGroup
	open    semaphore
}

// run sends heartbeats and news, and obeys, until the link breaks or ctx is done.
func (s *session) run(ctx context.Context, every time.Duration) error {
	received := make(chan error, 1)
	s.streams.Go(func() { received <- s.receive(ctx) })

	heartbeat, resend := time.NewTicker(every), time.NewTicker(resendEvery)
	defer heartbeat.Stop()
	defer resend.Stop()
	news := s.everything(s.node.table.takeNews())
	for {
		if s.tell(news) != nil {
			return <-received // a send fails when the link is broken, and the receiver knows why
		}
		news = nil
		select {
		case err := <-received:
			return err
		case <-s.node.table.wake:
			news = s.node.table.takeNews()
		case <-resend.C:
			clear(s.sent)
			news = s.everything(nil)
		case <-heartbeat.C:
			if s.stream.Send(heartbeatMessage(s.node.dead.get())) != nil {
				return <-received
			}
		}
	}
}

// everything adds every task to the news.
func (s *session) everything(news map[string]bool) map[string]bool {
	all := maps.Clone(news)
	if all == nil {
		all = map[string]bool{}
	}
	for id := range s.node.table.all() {
		all[id] = news[id]
	}
	return all
}

func heartbeatMessage(dead []string) *agentlink.AgentMessage {
	return &agentlink.AgentMessage{Message: &agentlink.AgentMessage_Heartbeat{Heartbeat: &agentlink.Heartbeat{GossipDead: dead}}}
}

// tell sends, in order, the statuses of tasks that were not sent or, if wanted
// again, at least the last.
func (s *session) tell(news map[string]bool) error {
	for id, again := range news {
		t := s.node.table.get(id)
		if t == nil {
			if again {
				if err := s.send(id, s.node.table.ended(id, time.Now())); err != nil {
					return err
				}
			}
			delete(s.sent, id)
			continue
		}
		last, unacked := t.published()
		if last.Sequence == 0 {
			continue // nothing is written down yet; the first status comes as news
		}
		for _, status := range unacked {
			if again || status.Sequence > s.sent[id] {
				if err := s.send(id, status); err != nil {
					return err
				}
			}
		}
		if again && len(unacked) == 0 {
			if err := s.send(id, last); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) send(id string, status pancake.TaskStatus) error {
	s.sent[id] = max(s.sent[id], status.Sequence)
	return s.stream.Send(&agentlink.AgentMessage{
		Message: &agentlink.AgentMessage_Status{Status: agentlink.NewStatus(id, status)},
	})
}

// receive obeys the scheduler until the link breaks. Nothing here waits: tasks
// have their own goroutines, and so have streams.
func (s *session) receive(ctx context.Context) error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return broken(ctx, err)
		}
		s.obey(ctx, m)
	}
}

func (s *session) obey(ctx context.Context, m *agentlink.SchedulerMessage) {
	switch m := m.GetMessage().(type) {
	case *agentlink.SchedulerMessage_Launch:
		a, err := m.Launch.Decode()
		if err != nil {
			s.node.log.ErrorContext(ctx, "launch refused", "err", err)
			s.node.reject(m.Launch.GetTaskId(), err)
			return
		}
		s.node.launch(a)
	case *agentlink.SchedulerMessage_Kill:
		grace := min(max(m.Kill.GetGraceMs(), 0), maxGrace.Milliseconds())
		s.node.kill(m.Kill.GetTaskId(), checkpoint.Kill{Grace: time.Duration(grace) * time.Millisecond, Now: m.Kill.GetNow()})
	case *agentlink.SchedulerMessage_Acknowledge:
		s.node.acknowledge(m.Acknowledge.GetTaskId(), m.Acknowledge.GetSequence())
	case *agentlink.SchedulerMessage_Reconcile:
		s.node.reconcile(m.Reconcile.GetTaskIds())
	case *agentlink.SchedulerMessage_OpenStream:
		s.openStream(ctx, m.OpenStream)
	case *agentlink.SchedulerMessage_Credentials:
		if s.node.cfg.TakeCredentials == nil {
			return // a plain node has no use for them
		}
		if err := s.node.cfg.TakeCredentials(ctx, m.Credentials); err != nil {
			s.node.log.ErrorContext(ctx, "credentials from the scheduler not taken", "err", err)
		}
	}
}

// maxGrace bounds the grace that a kill may name.
const maxGrace = time.Hour
