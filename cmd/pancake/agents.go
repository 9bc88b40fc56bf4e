package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func newAgentsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "List the agents and what they have left; freeze and drain them",
		Long: `List the agents: the machines that tasks run on, what their tasks take (used/total),
and the attributes that services can require. The commands below take an agent out of use and
back in; they name it by its host or id.`,
		Example: examples("pancake agents", "pancake agents -o json", "pancake agents drain node3 --wait"),
		Args:    noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			agents, err := c.Agents(cmd.Context())
			if err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(agents)
			}
			if len(agents) == 0 {
				env.printf("no agent has registered; start one with \"pancake agent\", or everything with \"pancake dev\"\n")
				return nil
			}
			for _, line := range agentTable(env, agents) {
				env.printf("%s\n", line)
			}
			return nil
		},
	}
	cmd.AddCommand(newAgentsFreezeCommand(env), newAgentsDrainCommand(env), newAgentsActivateCommand(env), newAgentsForgetCommand(env))
	return cmd
}

func agentTable(env *environment, agents []client.AgentView) []string {
	p := env.paint()
	header := []string{"HOST", p.paint(plain, "STATE"), "TASKS", "CPUS", "MEMORY (MiB)", "ADDRESS", "ATTRIBUTES", "VERSION", "ID"}
	var rows [][]string
	for _, v := range agents {
		a := v.Agent
		state := p.state(word(a.State))
		if a.State == pancake.AgentActive && !v.Connected {
			state = p.paint(red, "not connected")
		}
		rows = append(rows, []string{
			a.Hostname, state, fmt.Sprint(v.Tasks),
			fmt.Sprintf("%s/%s", v.Used.CPUs, a.Resources.CPUs), fmt.Sprintf("%d/%d", v.Used.MemoryMB, a.Resources.MemoryMB),
			a.Address, attributes(a.Attributes), a.Version, a.ID,
		})
	}
	return table(header, rows)
}

// agentSummary says in one line what the agents have and use.
func agentSummary(agents []client.AgentView) string {
	var used, total pancake.Resources
	up := 0
	for _, v := range agents {
		if v.Connected && v.Agent.State == pancake.AgentActive {
			up++
			used, total = used.Add(v.Used), total.Add(v.Agent.Resources)
		}
	}
	switch {
	case len(agents) == 0:
		return "no agent has registered: nothing can run"
	case up == 0:
		return fmt.Sprintf("%s, none of them connected and active: nothing can be started", plural(len(agents), "agent"))
	}
	missing := ""
	if up < len(agents) {
		missing = fmt.Sprintf(" (%d of %d connected and active)", up, len(agents))
	}
	return fmt.Sprintf("%s%s: %s of %s cpus and %d of %d MiB of memory used", plural(len(agents), "agent"), missing,
		used.CPUs, total.CPUs, used.MemoryMB, total.MemoryMB)
}
