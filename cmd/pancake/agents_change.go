package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/suggest"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func newAgentsFreezeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "freeze <agent>",
		Short: "Give an agent no new tasks; it keeps those that it has",
		Long: `Give an agent no new tasks. It keeps those that it has; one of them that ends is
replaced on another agent. It stays so when it restarts, until "pancake agents activate".`,
		Example: examples("pancake agents freeze node3"),
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeAgent(cmd.Context(), env, args[0], (*client.Client).FreezeAgent)
		},
	}
	cmd.ValidArgsFunction = completeAgents(env)
	return cmd
}

func newAgentsActivateCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "activate <agent>",
		Short: "Give an agent tasks again, after freeze or drain",
		Long: `Take back what "freeze" or "drain" has said: the agent gets tasks again. Those that
it still has stay, and replacements that are not healthy yet go.`,
		Example: examples("pancake agents activate node3"),
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeAgent(cmd.Context(), env, args[0], (*client.Client).ActivateAgent)
		},
	}
	cmd.ValidArgsFunction = completeAgents(env)
	return cmd
}

// changeAgent has an agent be what change asks for, and says what it is now.
func changeAgent(ctx context.Context, env *environment, name string, change func(*client.Client, context.Context, string) (client.AgentView, error)) error {
	c, err := env.client(ctx)
	if err != nil {
		return err
	}
	agent, err := resolveAgent(ctx, c, name)
	if err != nil {
		return err
	}
	if agent, err = change(c, ctx, agent.Agent.ID); err != nil {
		return err
	}
	if env.json() {
		return env.printJSON(agent)
	}
	later := ""
	if a := agent.Agent; a.State == pancake.AgentUnreachable || a.State == pancake.AgentDead {
		later = ", and will be " + word(wantedOf(a)) + " when it is back"
	}
	env.printf("%s is %s%s\n", agent.Agent.Hostname, word(agent.Agent.State), later)
	return nil
}

func wantedOf(a pancake.Agent) pancake.AgentState {
	if a.Wanted == "" {
		return pancake.AgentActive
	}
	return a.Wanted
}

func newAgentsForgetCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget <agent>",
		Short: "Remove an agent that is gone",
		Long: `Remove an agent that is gone for good: one that is decommissioned, unreachable or dead,
not connected, and has no task left. If it comes back it is taken in as a new one; to keep it
out, revoke its certificate as well: pancake ca revoke agent/<id>.`,
		Example: examples("pancake agents forget node3"),
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			agent, err := resolveAgent(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.ForgetAgent(cmd.Context(), agent.Agent.ID); err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]string{"forgotten": agent.Agent.ID})
			}
			env.printf("%s is forgotten (id %s)\n", agent.Agent.Hostname, agent.Agent.ID)
			return nil
		},
	}
	cmd.ValidArgsFunction = completeAgents(env)
	return cmd
}

// resolveAgent finds the agent that a person means, by its id or host. It is
// Invalid when several have that host, and NotFound when none has.
func resolveAgent(ctx context.Context, c *client.Client, name string) (client.AgentView, error) {
	all, err := c.Agents(ctx)
	if err != nil {
		return client.AgentView{}, err
	}
	var fit client.AgentView
	var ids, known []string
	for _, v := range all {
		if v.Agent.ID == name {
			return v, nil
		}
		known = append(known, v.Agent.Hostname, v.Agent.ID)
		if v.Agent.Hostname == name {
			fit, ids = v, append(ids, v.Agent.ID)
		}
	}
	switch len(ids) {
	case 1:
		return fit, nil
	case 0:
		hint := `See "pancake agents"`
		if near, ok := suggest.Nearest(name, known); ok {
			hint = "Did you mean " + near + "?"
		}
		return client.AgentView{}, pancake.Errorf(pancake.NotFound, "there is no agent %q. %s", name, hint)
	}
	return client.AgentView{}, pancake.Errorf(pancake.Invalid, "several agents are called %s: name one by its id, one of %s", name, strings.Join(ids, ", "))
}
