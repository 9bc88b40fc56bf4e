package agents

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// stream waits for, and then carries, what an agent sends for one OpenStream.
type stream struct {
	agent  string
	chunks chan *agentlink.StreamChunk // closed by the agent's end
	err    error                       // how it ended, once chunks is closed; io.EOF means well
	taken  bool                        // an agent has answered
	done   <-chan struct{}             // the reader has had enough
}

// Logs calls fn with what a task printed, as the agent sends it, until the
// agent has sent all, fn fails, or ctx ends. It fails with Unavailable when
// the agent is not connected, does not answer within 5 s, or cannot tell.
func (s *Server) Logs(ctx context.Context, agent, task string, tail int, follow bool, fn func(source string, data []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	id := rand.Text()
	st := &stream{agent: agent, chunks: make(chan *agentlink.StreamChunk), done: ctx.Done()}
	s.mu.Lock()
	s.streams[id] = st
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, id)
		s.mu.Unlock()
	}()
	open := &agentlink.OpenStream{StreamId: id, What: &agentlink.OpenStream_Logs{
		Logs: &agentlink.Logs{TaskId: task, Follow: follow, Tail: int32(tail)},
	}}
	if !s.Send(agent, &agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_OpenStream{OpenStream: open}}) {
		return pancake.Errorf(pancake.Unavailable, "the agent of task %s is not connected", task)
	}
	limit := time.NewTimer(streamLimit)
	defer limit.Stop()
	for {
		select {
		case c, ok := <-st.chunks:
			limit.Stop()
			switch {
			case !ok && errors.Is(st.err, io.EOF):
				return nil
			case !ok:
				return pancake.Errorf(pancake.Unavailable, "the connection to the agent of task %s broke: %w", task, st.err)
			case c.GetError() != "":
				return pancake.Errorf(pancake.Unavailable, "%s", c.GetError())
			case len(c.GetData()) == 0:
				continue // it only names the stream
			}
			if err := fn(c.GetSource(), c.GetData()); err != nil {
				return err
			}
		case <-limit.C:
			return pancake.Errorf(pancake.Unavailable, "the agent of task %s did not answer within %s", task, streamLimit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stream takes an agent's answer to an OpenStream.
func (s *Server) Stream(conn grpc.ClientStreamingServer[agentlink.StreamChunk, agentlink.StreamDone]) error {
	ctx, cancel := context.WithCancel(conn.Context())
	defer cancel()
	agent := "" // any
	if s.security != nil {
		var err error
		if agent, err = s.security.Agent(ctx, ""); err != nil {
			return refuse(err)
		}
	}
	in := receive(ctx, conn.Recv)
	limit := time.NewTimer(streamLimit)
	defer limit.Stop()
	var chunk *agentlink.StreamChunk
	select {
	case chunk = <-in.c:
	case <-limit.C:
	case <-ctx.Done():
	}
	st := s.claim(chunk.GetStreamId(), agent)
	if st == nil {
		return status.Error(codes.NotFound, "nobody waits for this stream")
	}
	defer close(st.chunks)
	for ok := true; ok; {
		select {
		case st.chunks <- chunk:
		case <-st.done:
			return conn.SendAndClose(&agentlink.StreamDone{})
		case <-ctx.Done():
			st.err = ctx.Err()
			return ctx.Err()
		}
		select {
		case chunk, ok = <-in.c:
		case <-st.done:
			return conn.SendAndClose(&agentlink.StreamDone{})
		}
	}
	st.err = in.err
	return conn.SendAndClose(&agentlink.StreamDone{})
}

// claim returns the stream that waits under id for what agent sends, "" for any, once.
func (s *Server) claim(id, agent string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil || st.taken || agent != "" && st.agent != agent {
		return nil
	}
	st.taken = true
	return st
}
