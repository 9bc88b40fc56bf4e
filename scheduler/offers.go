package scheduler

import (
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// offer lists what every agent has left. An agent that is not connected now
// gets nothing, though it may not be lost yet.
func (l *lead) offer() []pancake.Offer {
	links := l.links.Links()
	out := make([]pancake.Offer, 0, len(l.work.Agents))
	for id, a := range l.work.Agents {
		o, ok := l.offers[id]
		if !ok {
			o = offerOf(a, l.work.TasksOn(id))
			l.offers[id] = o
		}
		if _, connected := links[id]; !connected && !l.joining[id] && o.State == pancake.AgentActive {
			o.State = pancake.AgentUnreachable
		}
		out = append(out, o)
	}
	return out
}

func offerOf(a *pancake.Agent, tasks []*pancake.Task) pancake.Offer {
	o := pancake.Offer{
		AgentID: a.ID, Hostname: a.Hostname, Rack: a.Rack(), State: a.State, Attributes: a.Attributes,
		Free: a.Resources, Ports: a.Resources.Ports,
	}
	for _, t := range tasks {
		o.Free = o.Free.Sub(t.Resources)
		for _, m := range t.Ports {
			o.Ports = o.Ports.Without(m.HostPort)
		}
	}
	return o
}

// cursors goes on, on each agent, behind the ports of its newest task.
func cursors(st *state.State) map[string]int {
	out, newest := map[string]int{}, map[string]time.Time{}
	look := func(t *pancake.Task) {
		if len(t.Ports) > 0 && t.Created.After(newest[t.AgentID]) {
			newest[t.AgentID] = t.Created
			out[t.AgentID] = t.Ports[len(t.Ports)-1].HostPort + 1
		}
	}
	for _, t := range st.Tasks {
		look(t)
	}
	for _, ended := range st.Ended {
		for _, t := range ended {
			look(t)
		}
	}
	return out
}
