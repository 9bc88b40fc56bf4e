package executor

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// Bounds of streams.
const (
	maxStreams = 64       // open at a time
	maxChunk   = 32 << 10 // bytes of data in one message
)

// semaphore bounds how many do something at a time.
type semaphore chan struct{}

// openStream answers an OpenStream with a call of its own, which ends when the
// scheduler has had enough, the stream is at its end or the session is.
func (s *session) openStream(ctx context.Context, o *agentlink.OpenStream) {
	s.streams.Go(func() {
		if err := s.serveStream(ctx, o); err != nil && ctx.Err() == nil {
			s.node.log.WarnContext(ctx, "stream broke", "stream", o.GetStreamId(), "err", err)
		}
	})
}

func (s *session) serveStream(ctx context.Context, o *agentlink.OpenStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.client.Stream(ctx)
	if err != nil {
		return err
	}
	// The scheduler's answer, whenever it comes, is the end.
	answered := make(chan struct{})
	s.streams.Go(func() {
		defer close(answered)
		defer cancel()
		_ = stream.RecvMsg(new(agentlink.StreamDone)) // an error ends the stream as well
	})
	err = s.pump(ctx, o, stream)
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil // the scheduler has had enough
	}
	if err != nil {
		err = stream.Send(&agentlink.StreamChunk{StreamId: o.GetStreamId(), Error: err.Error()})
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err == nil {
		<-answered // leaving earlier would cut off what is on its way
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// pump sends what the stream is about. The first chunk only names the stream.
func (s *session) pump(ctx context.Context, o *agentlink.OpenStream, stream grpc.ClientStreamingClient[agentlink.StreamChunk, agentlink.StreamDone]) error {
	if err := stream.Send(&agentlink.StreamChunk{StreamId: o.GetStreamId()}); err != nil {
		return err
	}
	select {
	case s.open <- struct{}{}:
		defer func() { <-s.open }()
	default:
		return pancake.Errorf(pancake.Unavailable, "the agent has %d streams open already; close one", maxStreams)
	}
	logs := o.GetLogs()
	if logs == nil {
		return pancake.Errorf(pancake.Invalid, "this agent does not know this kind of stream; upgrade it")
	}
	id := logs.GetTaskId()
	t := s.node.table.get(id)
	if t == nil {
		return pancake.Errorf(pancake.NotFound, "task %s is gone from its agent, and its output with it; its last lines are in its status", id)
	}
	last, _ := t.published()
	if last.ContainerID == "" {
		return pancake.Errorf(pancake.Conflict, "task %s has no container yet; it is %s", id, last.State)
	}
	options := docker.LogOptions{Follow: logs.GetFollow(), Tail: int(logs.GetTail())}
	return s.node.engine.Logs(ctx, last.ContainerID, options, func(source string, data []byte) error {
		for len(data) > 0 {
			n := min(len(data), maxChunk)
			chunk := &agentlink.StreamChunk{StreamId: o.GetStreamId(), Source: source, Data: data[:n]}
			if err := stream.Send(chunk); err != nil {
				return err
			}
			data = data[n:]
		}
		return nil
	})
}
