package scheduler

import (
	"cmp"
	"context"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/deploy"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// defaultParallel is how many tasks of a decommissioned agent are replaced at a time.
const defaultParallel = 5

// SetAgent says what an operator wants of an agent: AgentActive, AgentFrozen or
// AgentDecommissioning, then with parallel tasks replaced at a time, 0 meaning 5.
// Asking again does no harm. It fails with NotFound.
func (l *lead) SetAgent(ctx context.Context, agent string, wanted pancake.AgentState, parallel int) error {
	return l.ask(ctx, func() error {
		a, err := l.findAgent(agent)
		if err != nil {
			return err
		}
		next := *a
		next.Wanted, next.Parallel = wanted, 0
		switch wanted {
		case pancake.AgentActive:
			next.Wanted = ""
		case pancake.AgentDecommissioning:
			next.Parallel = cmp.Or(parallel, defaultParallel)
		}
		if a.State != pancake.AgentUnreachable && a.State != pancake.AgentDead { // else when it comes back
			next.State = l.wantedState(&next, a)
		}
		if next.State == a.State && next.Wanted == a.Wanted && next.Parallel == a.Parallel {
			return nil
		}
		next.LastSeen = l.now
		l.change(state.Change{Agents: []*pancake.Agent{&next}})
		l.log.InfoContext(ctx, "agent is wanted otherwise", "agent", a.ID, "hostname", a.Hostname, "wanted", wanted, "tasks", l.work.CountOn(a.ID))
		for _, t := range l.work.TasksOn(a.ID) {
			l.dirty[t.RequestID] = true // it may stay now, or has to go
		}
		return nil
	})
}

// ForgetAgent removes an agent that is gone and has no task left. It fails with
// NotFound, and with Conflict for one that is there.
func (l *lead) ForgetAgent(ctx context.Context, agent string) error {
	return l.ask(ctx, func() error {
		a, err := l.findAgent(agent)
		if err != nil {
			return err
		}
		_, connected := l.links.Links()[a.ID]
		switch n := l.work.CountOn(a.ID); {
		case a.State != pancake.AgentUnreachable && a.State != pancake.AgentDead && a.State != pancake.AgentDecommissioned:
			return pancake.Errorf(pancake.Conflict, "agent %s is %s; only one that is DECOMMISSIONED, UNREACHABLE or DEAD can be forgotten", a.Hostname, a.State)
		case n > 0:
			return pancake.Errorf(pancake.Conflict, "agent %s still holds %d tasks, which are being replaced; try again when it has none", a.Hostname, n)
		case connected:
			return pancake.Errorf(pancake.Conflict, "agent %s is connected and would come back as a new one; stop it first", a.Hostname)
		}
		l.change(state.Change{ForgetAgent: a.ID})
		l.log.InfoContext(ctx, "agent is forgotten", "agent", a.ID, "hostname", a.Hostname)
		return nil
	})
}

func (l *lead) findAgent(id string) (*pancake.Agent, error) {
	if a := l.work.Agents[id]; a != nil {
		return a, nil
	}
	return nil, pancake.Errorf(pancake.NotFound, "Couldn't find agent with id %s", id)
}

// wantedState is the state of an agent that is there, given how it was before: nil
// for one that is new.
func (l *lead) wantedState(a, before *pancake.Agent) pancake.AgentState {
	switch {
	case a.Wanted == "":
		return pancake.AgentActive
	case a.Wanted == pancake.AgentDecommissioning && before != nil && before.State == pancake.AgentDecommissioned && l.work.CountOn(a.ID) == 0:
		return pancake.AgentDecommissioned
	}
	return a.Wanted
}

// drain lets more tasks of decommissioned agents be replaced, as those before them
// have been, and notes which agents are empty. What is replaced is the rules' to say:
// see deploy.Input.Leaving.
func (l *lead) drain(ctx context.Context) {
	moving := map[string]bool{}
	clear(l.leaving)
	for id, a := range l.work.Agents {
		if a.Wanted != pancake.AgentDecommissioning {
			continue
		}
		l.leaving[id] = true
		if a.State == pancake.AgentDecommissioned {
			continue
		}
		if l.work.CountOn(a.ID) == 0 {
			c := *a
			c.State, c.LastSeen = pancake.AgentDecommissioned, l.now
			l.change(state.Change{Agents: []*pancake.Agent{&c}})
			l.log.InfoContext(ctx, "agent is decommissioned", "agent", a.ID, "hostname", a.Hostname)
			continue
		}
		if a.State == pancake.AgentDecommissioning {
			l.admit(a, moving)
		}
	}
	l.moving = moving
}

// admit adds those tasks of an agent to moving that may be replaced now. A task
// whose replacement fits nowhere takes the place of no other.
func (l *lead) admit(a *pancake.Agent, moving map[string]bool) {
	tasks, free := l.work.TasksOn(a.ID), a.Parallel
	for _, t := range tasks {
		if t.Desired == pancake.DesiredKill {
			free--
			continue
		}
		if l.moving[t.ID] {
			moving[t.ID] = true
			if _, waits := l.waiting[t.RequestID][deploy.Slot{Deploy: t.DeployID, Instance: t.Instance}]; !waits {
				free--
			}
		}
	}
	for _, t := range tasks {
		if free <= 0 {
			return
		}
		if t.Desired == pancake.DesiredRun && !moving[t.ID] {
			moving[t.ID] = true
			l.dirty[t.RequestID] = true
			free--
		}
	}
}
