package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// drainFlags are the flags of "agents drain".
type drainFlags struct {
	parallel int
	wait     bool
	timeout  time.Duration
}

func newAgentsDrainCommand(env *environment) *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain <agent>",
		Short: "Move an agent's tasks to other agents, and give it no new ones",
		Long: `Empty an agent, for example to take its machine away. Each of its tasks gets a
replacement on another agent; once that is healthy, the task is taken out of traffic
and stopped. What fits nowhere else stays until there is room.

The agent is DECOMMISSIONING until it is empty, then DECOMMISSIONED; it stays so when it
restarts. "pancake agents activate" takes that back at any time.

With --wait, Ctrl-C stops waiting; the scheduler goes on.`,
		Example: examples("pancake agents drain node3 --wait", "pancake agents drain node3 --parallel 1"),
		Args:    arguments(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return drain(cmd.Context(), env, f, args[0]) },
	}
	flags := cmd.Flags()
	flags.IntVar(&f.parallel, "parallel", 5, "how many of its tasks are replaced at a time, `number`")
	flags.BoolVar(&f.wait, "wait", false, "show the progress, and return when the agent is empty")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Minute, "how long to wait; the scheduler goes on afterwards")
	cmd.ValidArgsFunction = completeAgents(env)
	return cmd
}

func drain(ctx context.Context, env *environment, f drainFlags, name string) error {
	if f.parallel < 1 {
		return pancake.Errorf(pancake.Invalid, "--parallel is 1 or more")
	}
	c, err := env.client(ctx)
	if err != nil {
		return err
	}
	agent, err := resolveAgent(ctx, c, name)
	if err != nil {
		return err
	}
	d := newDisplay(env)
	if agent, err = c.DecommissionAgent(ctx, agent.Agent.ID, f.parallel); err != nil {
		return err
	}
	if f.wait {
		return awaitDrained(ctx, env, c, agent, d, f.timeout)
	}
	if env.json() {
		return env.printJSON(agent)
	}
	env.printf("%s is %s; %s. See: pancake agents, or pancake agents drain %s --wait\n",
		agent.Agent.Hostname, word(agent.Agent.State), left(agent.Tasks), agent.Agent.Hostname)
	return nil
}

func left(tasks int) string { return plural(tasks, "task") + " left" }

// awaitDrained shows how an agent is emptied, until it is.
func awaitDrained(ctx context.Context, env *environment, c *client.Client, agent client.AgentView, d *display, timeout time.Duration) error {
	id, host, before := agent.Agent.ID, agent.Agent.Hostname, agent.Tasks
	w := &watcher{client: c, timeout: timeout, silent: d.silent}
	w.look = func(ctx context.Context) (bool, error) {
		requests, err := c.Requests(ctx)
		if err != nil {
			return false, err
		}
		if agent, err = c.Agent(ctx, id); err != nil {
			return false, err
		}
		d.show(drainBoard{agent: agent, before: before, requests: requests})
		if agent.Agent.Wanted != pancake.AgentDecommissioning {
			return false, pancake.Errorf(pancake.Conflict, "%s is no more to be drained: somebody else has changed that", host)
		}
		return agent.Agent.State == pancake.AgentDecommissioned, nil
	}
	err := w.run(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		env.notef("stopped waiting; the scheduler goes on. See: pancake agents")
		return err
	case errors.Is(err, errTimeout):
		err = pancake.Errorf(pancake.Failed, "%s is not empty after %s: %s; the scheduler goes on. See: pancake status --why", host, timeout, left(agent.Tasks))
	case err != nil:
		return err
	}
	if env.json() {
		return cmp.Or(env.printJSON(agent), err)
	}
	if err == nil {
		env.printf("%s in %s: %s is empty\n", env.paint().paint(green, "DRAINED"), d.elapsed(), host)
	}
	return err
}

// drainBoard shows what is left on an agent that is emptied.
type drainBoard struct {
	agent    client.AgentView
	before   int // tasks when it began
	requests []client.RequestView
}

func (b drainBoard) title() string {
	return fmt.Sprintf("%s: %d of %s left", b.agent.Agent.Hostname, b.agent.Tasks, plural(b.before, "task"))
}

// leaving is a task on the agent, and how far its replacement is.
type leaving struct{ key, label, state, next string }

func (b drainBoard) leaving(now time.Time) []leaving {
	var out []leaving
	for _, v := range b.requests {
		for _, t := range sortTasks(v.Tasks) {
			if t.AgentID == b.agent.Agent.ID {
				out = append(out, leaving{t.ID, label(v.Request.ID, t.Instance), taskState(t), replacement(v, t, now)})
			}
		}
	}
	return out
}

// replacement says where the task goes that takes the place of t.
func replacement(v client.RequestView, t pancake.Task, now time.Time) string {
	for _, other := range v.Tasks {
		if other.AgentID != t.AgentID && other.DeployID == t.DeployID && other.Instance == t.Instance && other.Desired == pancake.DesiredRun {
			state := taskState(other)
			if state == "running" && other.Status.Health != pancake.HealthUnknown {
				state += ", " + healthWord(other)
			}
			return state + " on " + other.Hostname
		}
	}
	for _, u := range v.Unplaced {
		if u.DeployID == t.DeployID && u.Instance == t.Instance {
			return whyUnplaced(u, now)
		}
	}
	if t.Desired == pancake.DesiredKill {
		return t.KillReason
	}
	return "not begun"
}

// table implements shown.
func (b drainBoard) table(now time.Time, p palette) []string {
	lines := []string{clean(b.title())}
	var rows [][]string
	for _, l := range b.leaving(now) {
		rows = append(rows, []string{clean(l.label), p.stateIn(stateWidth, l.state), clean(l.next)})
	}
	if len(rows) == 0 {
		return lines
	}
	return append(lines, table([]string{"INSTANCE", p.paint(plain, "STATE"), "REPLACEMENT"}, rows)...)
}

// facts implements shown.
func (b drainBoard) facts(now time.Time) []fact {
	var out []fact
	for _, l := range b.leaving(now) {
		out = append(out, fact{l.key, fmt.Sprintf("%s %s; replacement: %s", l.label, l.state, l.next)})
	}
	return append(out, fact{"left", b.title()})
}
