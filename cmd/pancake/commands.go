package main

import "github.com/spf13/cobra"

// The groups of commands in the help.
const (
	groupServices = "services"
	groupAccess   = "access"
	groupDaemons  = "daemons"
)

// commands lists the constructors of the subcommands by group.
func commands() map[string][]func(*environment) *cobra.Command {
	return map[string][]func(*environment) *cobra.Command{
		groupServices: {
			newReleaseCommand,
			newStatusCommand,
			newLogsCommand,
			newScaleCommand,
			newDeleteCommand,
			newAgentsCommand,
		},
		groupAccess: {
			newLoginCommand, newLogoutCommand, newTokenCommand, newCACommand, newGossipKeyCommand, newAuditCommand,
		},
		groupDaemons: {newDevCommand, newSchedulerCommand, newAgentCommand, newSidecarCommand, newGoavailCommand},
		"":           {newVersionCommand},
	}
}
