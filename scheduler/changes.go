package scheduler

import (
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// eventsOf turns a stored change into what watchers are told.
func eventsOf(c state.Change, now time.Time) []client.Event {
	var out []client.Event
	for _, r := range c.Requests {
		out = append(out, client.Event{Type: client.EventRequest, Key: r.ID, Request: r.ID, Body: &client.EventBody{Request: r}})
	}
	for _, d := range c.Deploys {
		out = append(out, client.Event{Type: client.EventDeploy, Key: d.ID, Request: d.RequestID, Body: &client.EventBody{Deploy: d}})
	}
	for _, a := range c.Agents {
		out = append(out, client.Event{Type: client.EventAgent, Key: a.ID, Body: &client.EventBody{Agent: a}})
	}
	for _, tasks := range [][]*pancake.Task{c.Tasks, c.Ended} {
		for _, t := range tasks {
			out = append(out, client.Event{Type: client.EventTask, Key: t.ID, Request: t.RequestID, Body: &client.EventBody{Task: t}})
		}
	}
	if id := c.ForgetRequest; id != "" {
		out = append(out, client.Event{Type: client.EventRequest, Key: id, Request: id, Deleted: true})
	}
	if id := c.ForgetAgent; id != "" {
		out = append(out, client.Event{Type: client.EventAgent, Key: id, Deleted: true})
	}
	for i := range out {
		out[i].Time = now
	}
	return out
}
