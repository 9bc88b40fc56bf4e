package scheduler

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/deploy"
	"github.com/pancake-stack/pancake/scheduler/plan"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// maxRounds bounds how often one request is reconciled per turn. Each round
// moves its deploy on by a step, so a few are enough.
const maxRounds = 16

// launch is a task that the rules ask for.
type launch struct {
	want     plan.Want
	restarts int
}

// reconcile decides for every request that was touched or whose time has
// come, and returns which they were.
func (l *lead) reconcile(ctx context.Context) []string {
	for _, id := range l.wakes.due(l.now) {
		l.dirty[id] = true
	}
	if l.roomier {
		for id := range l.waiting {
			l.dirty[id] = true
		}
		l.roomier = false
	}
	if len(l.dirty) == 0 {
		return nil
	}
	looked := slices.Sorted(maps.Keys(l.dirty))
	clear(l.dirty)
	var launches []launch
	for _, id := range looked {
		launches = append(launches, l.settle(ctx, id)...)
	}
	l.place(launches)
	return looked
}

// settle does what the rules say about one request, until there is nothing to
// change, and returns the tasks that may start now.
func (l *lead) settle(ctx context.Context, id string) []launch {
	waited := l.waiting[id]
	delete(l.waiting, id)
	for range maxRounds {
		r := l.work.Requests[id]
		if r == nil {
			return nil
		}
		p := deploy.Reconcile(l.input(r, waited))
		if p.Deploy != nil {
			l.advance(ctx, r, p)
			continue
		}
		for _, k := range p.Kill {
			l.kill(l.work.Tasks[k.TaskID], k.Reason)
		}
		if p.Gone {
			l.change(state.Change{ForgetRequest: id})
			return nil
		}
		l.wakes.add(p.Wake, id)
		return l.due(r, p.Launch, waited)
	}
	l.wakes.add(l.now, id) // go on in the next turn
	return nil
}

func (l *lead) input(r *pancake.Request, waited map[deploy.Slot]client.Unplaced) deploy.Input {
	in := deploy.Input{
		Request: *r,
		Active:  l.work.Deploy(r.ID, r.ActiveDeploy),
		Pending: l.work.Deploy(r.ID, r.PendingDeploy),
		Live:    l.work.TasksOf(r.ID),
		Ended:   l.work.Ended[r.ID],
		Leaving: l.leaving, Move: l.moving,
		Now: l.now,
	}
	if len(waited) > 0 {
		in.Waiting = map[deploy.Slot]string{}
		for s, u := range waited {
			in.Waiting[s] = reasonText(u.Reasons)
		}
	}
	return in
}

// advance stores a deploy that has come further.
func (l *lead) advance(ctx context.Context, r *pancake.Request, p deploy.Plan) {
	c := state.Change{Deploys: []*pancake.Deploy{p.Deploy}}
	if p.Deploy.State.Final() {
		next := *r
		if p.Deploy.State == pancake.DeploySucceeded {
			next = *r.As(l.work.Deploy(r.ID, p.Deploy.ID)) // as it was stored: with its settings
			next.ActiveDeploy = p.Deploy.ID
		}
		next.PendingDeploy, next.Updated = "", l.now
		c.Requests = []*pancake.Request{&next}
		l.log.InfoContext(ctx, "deploy is over", "request", r.ID, "deploy", p.Deploy.ID, "state", p.Deploy.State,
			"took", l.now.Sub(p.Deploy.Created), "message", p.Deploy.Message)
	}
	l.change(c)
}

// due returns the launches that need not wait for their back-off, and notes the others.
func (l *lead) due(r *pancake.Request, launches []deploy.Launch, waited map[deploy.Slot]client.Unplaced) []launch {
	var out []launch
	for _, n := range launches {
		if n.NotBefore.After(l.now) {
			l.wait(r.ID, n.Slot, client.Unplaced{NotBefore: n.NotBefore, Reasons: []client.Reason{}}, waited)
			continue
		}
		if u, ok := waited[n.Slot]; ok {
			l.wait(r.ID, n.Slot, u, waited) // until it is placed, it waits as before
		}
		out = append(out, launch{want(r, l.work.Deploy(r.ID, n.Slot.Deploy), n.Slot.Instance), n.Restarts})
	}
	return out
}

func (l *lead) wait(request string, s deploy.Slot, u client.Unplaced, waited map[deploy.Slot]client.Unplaced) {
	if l.waiting[request] == nil {
		l.waiting[request] = map[deploy.Slot]client.Unplaced{}
	}
	u.RequestID, u.DeployID, u.Instance, u.Since = request, s.Deploy, s.Instance, l.now
	if before, ok := waited[s]; ok {
		u.Since = before.Since
	}
	l.waiting[request][s] = u
}

func want(r *pancake.Request, d *pancake.Deploy, instance int) plan.Want {
	return plan.Want{
		RequestID: r.ID, DeployID: d.ID, Instance: instance,
		Resources: d.Resources, Ports: d.Container.Ports, Attributes: r.As(d).RequiredAttributes,
	}
}

// place finds agents for tasks; those that fit nowhere wait.
func (l *lead) place(launches []launch) {
	if len(launches) == 0 {
		return
	}
	type key struct {
		request string
		slot    deploy.Slot
	}
	restarts := map[key]int{}
	wants := make([]plan.Want, len(launches))
	for i, n := range launches {
		wants[i] = n.want
		restarts[key{n.want.RequestID, deploy.Slot{Deploy: n.want.DeployID, Instance: n.want.Instance}}] = n.restarts
	}
	placed, unplaced := l.plan(wants)
	for _, p := range placed {
		slot := deploy.Slot{Deploy: p.Want.DeployID, Instance: p.Want.Instance}
		t := l.newTask(p)
		t.Restarts = restarts[key{p.Want.RequestID, slot}]
		l.cursors[p.AgentID] = p.Cursor
		l.change(state.Change{Tasks: []*pancake.Task{t}})
		delete(l.waiting[t.RequestID], slot)
		if len(l.waiting[t.RequestID]) == 0 {
			delete(l.waiting, t.RequestID)
		}
	}
	for _, u := range unplaced {
		id := u.Want.RequestID
		l.wait(id, deploy.Slot{Deploy: u.Want.DeployID, Instance: u.Want.Instance}, client.Unplaced{Reasons: reasons(u.Reasons)}, l.waiting[id])
	}
}

// plan asks where wants fit now.
func (l *lead) plan(wants []plan.Want) ([]plan.Placement, []plan.Unplaced) {
	in := plan.Input{Wants: wants, Offers: l.offer(), Cursor: l.cursors, Running: map[plan.Group]map[string]int{}}
	for _, w := range wants {
		g := plan.Group{RequestID: w.RequestID, DeployID: w.DeployID}
		if in.Running[g] != nil {
			continue
		}
		in.Running[g] = map[string]int{}
		for _, t := range l.work.TasksOf(w.RequestID) {
			if t.DeployID == w.DeployID && t.Desired == pancake.DesiredRun {
				in.Running[g][t.AgentID]++
			}
		}
	}
	return plan.Place(in)
}

func (l *lead) newTask(p plan.Placement) *pancake.Task {
	a := l.work.Agents[p.AgentID]
	t := &pancake.Task{
		RequestID: p.Want.RequestID, DeployID: p.Want.DeployID, Instance: p.Want.Instance, AgentID: a.ID, Hostname: a.Hostname,
		Resources: pancake.Resources{CPUs: p.Want.Resources.CPUs, MemoryMB: p.Want.Resources.MemoryMB},
		Ports:     p.Ports, Desired: pancake.DesiredRun, Created: l.now,
		Status: pancake.TaskStatus{State: pancake.TaskStaging, Updated: l.now},
	}
	for _, m := range p.Ports {
		t.Resources.Ports = t.Resources.Ports.Union(pancake.PortSet{{First: uint16(m.HostPort), Last: uint16(m.HostPort)}})
	}
	// The time in the id is in milliseconds: two tasks of a slot may fall into the same.
	for at := l.now; ; at = at.Add(time.Millisecond) {
		t.ID = pancake.TaskID(t.RequestID, t.DeployID, at, t.Instance, a.Hostname, a.Rack())
		if l.work.Tasks[t.ID] == nil && !slices.ContainsFunc(l.work.Ended[t.RequestID], func(o *pancake.Task) bool { return o.ID == t.ID }) {
			return t
		}
	}
}

// kill marks a task to be stopped.
func (l *lead) kill(t *pancake.Task, reason string) {
	c := *t
	c.Desired, c.KillReason = pancake.DesiredKill, reason
	l.change(state.Change{Tasks: []*pancake.Task{&c}})
}

// unplaced lists why instances of a request wait, by deploy and number.
func (l *lead) unplaced(request string) []client.Unplaced {
	return slices.SortedFunc(maps.Values(l.waiting[request]), func(a, b client.Unplaced) int {
		if a.DeployID != b.DeployID {
			return strings.Compare(a.DeployID, b.DeployID)
		}
		return a.Instance - b.Instance
	})
}

func reasons(in []plan.Reason) []client.Reason {
	out := make([]client.Reason, len(in))
	for i, r := range in {
		out[i] = client.Reason(r)
	}
	return out
}

// reasonText joins reasons into one line.
func reasonText(reasons []client.Reason) string {
	parts := make([]string, len(reasons))
	for i, r := range reasons {
		parts[i] = r.Constraint + ": " + r.Message
	}
	return strings.Join(parts, "; ")
}
