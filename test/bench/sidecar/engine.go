package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
)

// engine is a Docker engine without containers: what a Sidecar asks of one.
type engine struct {
	mu         sync.Mutex
	containers map[string]container.Summary
	watchers   map[chan events.Message]bool
}

func newEngine() *engine {
	return &engine{containers: map[string]container.Summary{}, watchers: map[chan events.Message]bool{}}
}

// ContainerList is Docker's.
func (e *engine) ContainerList(_ context.Context, o client.ContainerListOptions) (client.ContainerListResult, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ids := o.Filters["id"]; ids != nil {
		var items []container.Summary
		for id := range ids {
			if c, ok := e.containers[id]; ok {
				items = append(items, c)
			}
		}
		return client.ContainerListResult{Items: items}, nil
	}
	return client.ContainerListResult{Items: slices.Collect(maps.Values(e.containers))}, nil
}

// Events is Docker's.
func (e *engine) Events(ctx context.Context, _ client.EventsListOptions) client.EventsResult {
	messages, errs := make(chan events.Message, 1<<14), make(chan error, 1)
	e.mu.Lock()
	e.watchers[messages] = true
	e.mu.Unlock()
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		delete(e.watchers, messages)
		e.mu.Unlock()
		errs <- ctx.Err()
	})
	return client.EventsResult{Messages: messages, Err: errs}
}

// run starts a container that is checked as check and args say. It has the id that a
// service's is cut from.
func (e *engine) run(id, name, check, args string, port uint16) {
	labels := map[string]string{
		pancake.LabelServiceName: name, pancake.LabelServicePort + "8080": "10080", pancake.LabelHealthCheck: check, pancake.LabelHealthCheckArgs: args,
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[id] = container.Summary{ID: id, Image: "bench/" + name + ":1.0.0", Labels: labels, Ports: []container.PortSummary{
		{IP: netip.IPv4Unspecified(), PrivatePort: 8080, PublicPort: port, Type: "tcp"},
	}}
	e.tell(events.ActionStart, id, labels)
}

// kill ends a container.
func (e *engine) kill(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	labels := e.containers[id].Labels
	delete(e.containers, id)
	e.tell(events.ActionDie, id, labels)
}

func (e *engine) tell(action events.Action, id string, labels map[string]string) {
	m := events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: id, Attributes: labels}}
	for w := range e.watchers {
		select {
		case w <- m:
		default: // discovery lists everything again, in a while
		}
	}
}
