package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/moby/client"
)

// Watch calls ended with the labels of each container of the label that died or
// was removed. It calls up once, when the stream stands: everything that
// happens from then on is heard, so a look at the present state inside up
// misses nothing. It returns when the stream breaks, up fails, or ctx ends,
// never with nil.
func (e *Engine) Watch(ctx context.Context, label, value string, up func() error, ended func(labels map[string]string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := e.api.Events(ctx, client.EventsListOptions{
		// The engine subscribes us a moment after it has answered; it replays
		// what fell in between.
		Since: fmt.Sprintf("%d", time.Now().Add(-time.Second).Unix()),
		Filters: client.Filters{}.Add("type", "container").Add("label", label+"="+value).
			Add("event", "die", "destroy"),
	})
	select {
	case err := <-stream.Err:
		return e.failed(err, "watch containers")
	default:
	}
	if err := up(); err != nil {
		return err
	}
	for {
		select {
		case err := <-stream.Err:
			return e.failed(err, "watch containers")
		case m := <-stream.Messages:
			ended(m.Actor.Attributes)
		}
	}
}
