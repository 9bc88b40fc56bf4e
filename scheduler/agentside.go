package scheduler

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/scheduler/agents"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// Register implements agents.Owner.
func (l *lead) Register(ctx context.Context, session uint64, a pancake.Agent, tasks map[string]pancake.TaskStatus) error {
	return l.ask(ctx, func() error {
		l.register(ctx, session, a, tasks)
		return nil
	})
}

// register takes an agent in and compares what it holds with what it should.
func (l *lead) register(ctx context.Context, session uint64, a pancake.Agent, reported map[string]pancake.TaskStatus) {
	known := l.work.Agents[a.ID]
	a.LastSeen, a.Wanted, a.Parallel = l.now, "", 0
	if known != nil {
		a.Wanted, a.Parallel = known.Wanted, known.Parallel // an operator's wish outlives a restart
	}
	a.State = l.wantedState(&a, known)
	l.heard[a.ID] = time.Now()
	l.joining[a.ID] = true
	l.change(state.Change{Agents: []*pancake.Agent{&a}})
	l.after = append(l.after, func() { l.links.Accept(a.ID, session) })
	l.log.InfoContext(ctx, "agent registers", "agent", a.ID, "hostname", a.Hostname, "tasks", len(reported))

	for _, t := range l.work.TasksOn(a.ID) {
		s, ok := reported[t.ID]
		switch {
		case ok && s.Sequence < t.Status.Sequence:
			// It lost its notes and counts anew, but it knows best what it sees now.
			l.observe(t, s)
		case ok:
			l.status(a.ID, t.ID, s)
		case t.Status.Sequence > 0:
			l.lose(t, pancake.TaskLost, pancake.ReasonUnknownTask, "agent "+a.Hostname+" came back without it")
		case t.Desired == pancake.DesiredKill:
			l.lose(t, pancake.TaskKilled, pancake.ReasonKilled, "it was stopped before it had reached the agent")
		}
		l.after = append(l.after, func() { l.tell(t.ID) })
	}
	for id, s := range reported {
		if t := l.work.Tasks[id]; t == nil || t.AgentID != a.ID {
			l.status(a.ID, id, s)
		}
	}
}

// Status implements agents.Owner.
func (l *lead) Status(ctx context.Context, agent, task string, s pancake.TaskStatus) error {
	return l.post(ctx, message{do: func() error {
		l.status(agent, task, s)
		return nil
	}})
}

// status takes what an agent observed of a task. It is acknowledged once
// stored. A task that the agent should not have is stopped.
func (l *lead) status(agent, task string, s pancake.TaskStatus) {
	l.after = append(l.after, func() {
		l.links.Send(agent, &agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Acknowledge{
			Acknowledge: &agentlink.Acknowledge{TaskId: task, Sequence: s.Sequence},
		}})
	})
	t := l.work.Tasks[task]
	if t == nil || t.AgentID != agent {
		if !s.State.Terminal() && s.State != pancake.TaskKilling {
			l.after = append(l.after, func() { l.links.Send(agent, killMessage(task)) })
		}
		return
	}
	if s.Sequence > t.Status.Sequence {
		l.observe(t, s)
	}
}

// observe stores a status, of whose times those are corrected that an agent
// with a wrong clock makes impossible.
func (l *lead) observe(t *pancake.Task, s pancake.TaskStatus) {
	c := *t
	s.Updated = between(t.Created, s.Updated, l.now)
	if s.Started.IsZero() {
		s.Started = t.Status.Started
	} else {
		s.Started = between(t.Created, s.Started, l.now)
	}
	c.Status = s
	if s.State == pancake.TaskRunning && c.FirstHealthy.IsZero() {
		switch s.Health {
		case pancake.Healthy:
			c.FirstHealthy = l.now
		case pancake.HealthUnwatched:
			c.FirstHealthy = s.Started.Add(pancake.ConsiderHealthyAfter)
		}
	}
	l.dirty[t.RequestID] = true
	if s.State.Terminal() {
		l.change(l.work.End(&c))
		return
	}
	l.change(state.Change{Tasks: []*pancake.Task{&c}})
}

func between(low, t, high time.Time) time.Time {
	switch {
	case t.After(high):
		return high
	case t.Before(low):
		return low
	}
	return t
}

// lose ends a task whose agent cannot tell.
func (l *lead) lose(t *pancake.Task, s pancake.TaskState, reason, message string) {
	c := *t
	c.Status.State, c.Status.Reason, c.Status.Message, c.Status.Updated = s, reason, message, l.now
	l.dirty[t.RequestID] = true
	l.change(l.work.End(&c))
}

// Closed implements agents.Owner.
func (l *lead) Closed(agent string, heard time.Time) {
	m := message{do: func() error {
		if heard.After(l.heard[agent]) {
			l.heard[agent] = heard
		}
		return nil
	}}
	select {
	case l.inbox <- m:
	case <-l.done:
	}
}

// unanswered reports whether the agent still has to answer the Launch or Kill of a task.
func unanswered(t *pancake.Task) bool {
	if t.Desired == pancake.DesiredKill {
		return t.Status.State != pancake.TaskKilling
	}
	return t.Status.Sequence == 0
}

// tell sends an agent what is wanted of a task, unless it has answered.
func (l *lead) tell(id string) {
	t := l.work.Tasks[id]
	if t == nil || !unanswered(t) {
		delete(l.sent, id)
		return
	}
	l.sent[id] = l.now
	if t.Desired == pancake.DesiredKill {
		l.links.Send(t.AgentID, killMessage(id))
		return
	}
	r, d := l.work.Requests[t.RequestID], l.work.Deploy(t.RequestID, t.DeployID)
	if r == nil || d == nil {
		return // on its way out; the rules will stop it
	}
	l.links.Send(t.AgentID, &agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Launch{Launch: agentlink.NewLaunch(*t, *r.As(d), *d)}})
}

func killMessage(task string) *agentlink.SchedulerMessage {
	return &agentlink.SchedulerMessage{Message: &agentlink.SchedulerMessage_Kill{Kill: &agentlink.Kill{TaskId: task}}}
}

// resendUnanswered repeats what was sent a while ago.
func (l *lead) resendUnanswered() {
	for id, at := range l.sent {
		if l.now.Sub(at) >= resend {
			l.tell(id)
		}
	}
}

// watchAgents declares agents lost that are silent for too long, and replaces
// the tasks of lost agents, at a bounded rate.
func (l *lead) watchAgents(ctx context.Context, links map[string]agents.Link) {
	l.evacuate = math.Min(float64(l.cfg.ReplacementBurst), l.evacuate+float64(l.cfg.Replacements)*tick.Seconds())
	for id, link := range links {
		l.heard[id] = link.Heard
	}
	at := time.Now()
	for id, a := range l.work.Agents {
		switch a.State {
		case pancake.AgentDecommissioned, pancake.AgentDead:
		case pancake.AgentUnreachable:
			l.replaceTasks(a)
		default:
			if why := l.lost(a, links, at); why != "" {
				c := *a
				c.State, c.LastSeen = pancake.AgentUnreachable, l.now
				l.change(state.Change{Agents: []*pancake.Agent{&c}})
				l.links.Drop(id)
				l.log.WarnContext(ctx, "agent is lost", "agent", id, "hostname", a.Hostname, "tasks", l.work.CountOn(id), "why", why)
				l.replaceTasks(&c)
			}
		}
	}
}

// lost says why an agent counts as lost, "" if it does not. One that has not
// come back since this term began has the hard timeout to do so: gossip knows
// nothing of agents, only of their nodes. All times, at included, have a
// monotonic reading: a clock that jumps makes nobody silent.
func (l *lead) lost(a *pancake.Agent, links map[string]agents.Link, at time.Time) string {
	since, known := l.heard[a.ID]
	if !known {
		since = l.began
	}
	silent := at.Sub(since)
	switch {
	case silent >= l.cfg.HardTimeout:
		return fmt.Sprintf("silent for %s", silent.Round(time.Second))
	case !known || silent < l.cfg.Silence:
		return ""
	}
	others, votes := 0, 0
	for id, link := range links {
		if id == a.ID || at.Sub(link.Heard) >= l.cfg.Silence {
			continue
		}
		others++
		if slices.Contains(link.Dead, a.Hostname) {
			votes++
		}
	}
	if votes*2 <= others {
		return ""
	}
	return fmt.Sprintf("silent for %s, and the gossip of %d of %d agents calls it dead", silent.Round(time.Second), votes, others)
}

// replaceTasks ends tasks of a lost agent, as far as the rate allows; their
// requests start others.
func (l *lead) replaceTasks(a *pancake.Agent) {
	for _, t := range l.work.TasksOn(a.ID) {
		if l.evacuate < 1 {
			return
		}
		l.evacuate--
		l.lose(t, pancake.TaskUnreachable, pancake.ReasonAgentLost, "agent "+a.Hostname+" is unreachable")
	}
}
