package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/state"
)

func (v View) requests() []client.RequestView {
	out := make([]client.RequestView, 0, len(v.State.Requests))
	for _, id := range slices.Sorted(maps.Keys(v.State.Requests)) {
		out = append(out, v.viewOf(v.State.Requests[id]))
	}
	return out
}

func (v View) request(id string) (client.RequestView, error) {
	r, err := v.find(id)
	if err != nil {
		return client.RequestView{}, err
	}
	return v.viewOf(r), nil
}

func (v View) find(id string) (*pancake.Request, error) {
	if r := v.State.Requests[id]; r != nil {
		return r, nil
	}
	return nil, pancake.Errorf(pancake.NotFound, "Couldn't find request with id %s", id)
}

func (v View) viewOf(r *pancake.Request) client.RequestView {
	return client.RequestView{
		Request:     *r,
		Active:      v.State.Deploy(r.ID, r.ActiveDeploy),
		Pending:     v.State.Deploy(r.ID, r.PendingDeploy),
		Tasks:       byInstance(v.State.TasksOf(r.ID)),
		Unplaced:    v.Unplaced[r.ID],
		LastFailure: v.lastFailure(r.ID),
	}
}

// lastFailure is why the newest deploy failed or, if it did not, how the
// newest task ended that ended by itself.
func (v View) lastFailure(request string) string {
	var settled time.Time // what ended before the newest deploy had succeeded is history
	if ds := v.State.DeploysOf(request); len(ds) > 0 {
		switch ds[0].State {
		case pancake.DeployFailed, pancake.DeployOverdue:
			return fmt.Sprintf("deploy %s %s: %s", ds[0].ID, ds[0].State, ds[0].Message)
		case pancake.DeploySucceeded:
			settled = ds[0].Finished
		}
	}
	for _, t := range slices.Backward(v.State.Ended[request]) {
		if t.Desired == pancake.DesiredRun && t.Status.Updated.After(settled) {
			return fmt.Sprintf("task %s %s: %s", t.ID, t.Status.State, cmp.Or(t.Status.Message, t.Status.Reason, "no reason given"))
		}
	}
	return ""
}

func (v View) deploys(request string) ([]pancake.Deploy, error) {
	if _, err := v.find(request); err != nil {
		return nil, err
	}
	out := []pancake.Deploy{}
	for _, d := range v.State.DeploysOf(request) {
		out = append(out, *d)
	}
	return out, nil
}

// Deploy is a deploy with its tasks: live ones, the last of each instance that
// has none, and the live ones of other deploys of the request.
func (v View) Deploy(request, id string) (client.DeployView, error) {
	if _, err := v.find(request); err != nil {
		return client.DeployView{}, err
	}
	d := v.State.Deploy(request, id)
	if d == nil {
		return client.DeployView{}, pancake.Errorf(pancake.NotFound, "Couldn't find deploy %s of request %s", id, request)
	}
	tasks := v.State.TasksOf(request)
	live := map[int]bool{}
	for _, t := range tasks {
		live[t.Instance] = live[t.Instance] || t.DeployID == id
	}
	for _, t := range slices.Backward(v.State.Ended[request]) {
		if t.DeployID == id && !live[t.Instance] {
			live[t.Instance] = true
			tasks = append(tasks, t)
		}
	}
	out := client.DeployView{Deploy: *d, Tasks: byInstance(tasks)}
	for _, u := range v.Unplaced[request] {
		if u.DeployID == id {
			out.Unplaced = append(out.Unplaced, u)
		}
	}
	return out, nil
}

func (v View) tasks(request string, history bool) []pancake.Task {
	var tasks []*pancake.Task
	if request != "" {
		tasks = v.State.TasksOf(request)
	} else {
		tasks = slices.SortedFunc(maps.Values(v.State.Tasks), state.ByAge)
	}
	if history {
		for id, ended := range v.State.Ended {
			if request == "" || request == id {
				tasks = append(tasks, ended...)
			}
		}
	}
	return byInstance(tasks)
}

func (v View) task(id string) (*pancake.Task, error) {
	if t := v.State.Task(id); t != nil {
		return t, nil
	}
	return nil, pancake.Errorf(pancake.NotFound, "Couldn't find task with id %s", id)
}

func (v View) agents(connected func(string) bool) []client.AgentView {
	out := make([]client.AgentView, 0, len(v.State.Agents))
	for _, id := range slices.Sorted(maps.Keys(v.State.Agents)) {
		out = append(out, v.viewOfAgent(v.State.Agents[id], connected))
	}
	return out
}

func (v View) agent(id string, connected func(string) bool) (client.AgentView, error) {
	if a := v.State.Agents[id]; a != nil {
		return v.viewOfAgent(a, connected), nil
	}
	return client.AgentView{}, pancake.Errorf(pancake.NotFound, "Couldn't find agent with id %s", id)
}

func (v View) viewOfAgent(a *pancake.Agent, connected func(string) bool) client.AgentView {
	out := client.AgentView{Agent: *a, Connected: connected(a.ID)}
	for _, t := range v.State.TasksOn(a.ID) {
		ports := out.Used.Ports.Union(t.Resources.Ports)
		out.Used = out.Used.Add(t.Resources)
		out.Used.Ports = ports
		out.Tasks++
	}
	return out
}

// byInstance copies tasks, sorted by request, instance and age.
func byInstance(tasks []*pancake.Task) []pancake.Task {
	out := make([]pancake.Task, len(tasks))
	for i, t := range tasks {
		out[i] = *t
	}
	slices.SortFunc(out, func(a, b pancake.Task) int {
		return cmp.Or(cmp.Compare(a.RequestID, b.RequestID), cmp.Compare(a.Instance, b.Instance), state.ByAge(&a, &b))
	})
	return out
}
