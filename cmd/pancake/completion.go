package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake/jobspec"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// completionTimeout bounds what a person waits for after pressing Tab.
const completionTimeout = time.Second

// addEnvironmentFlag adds --environment with its completion.
func addEnvironmentFlag(env *environment, cmd *cobra.Command, value *string) {
	cmd.Flags().StringVarP(value, "environment", "e", "", "`environment` of the service, for example dev")
	_ = cmd.RegisterFlagCompletionFunc("environment", func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var service string
		if len(args) > 0 {
			service = args[0]
		}
		return completeEnvironments(cmd, env, service), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeEnvironments offers the environments of the service's file, else
// those in which the scheduler knows the service.
func completeEnvironments(cmd *cobra.Command, env *environment, service string) []string {
	if service != "" {
		if path, text, err := readSpec(service, specFolders(env.getenv)); err == nil {
			file, _ := jobspec.Parse(path, text)
			return file.Environments()
		}
	}
	var out []string
	for _, v := range knownRequests(cmd, env) {
		if r := v.Request; (service == "" || r.Service == serviceOf(service)) && r.Environment != "" && !slices.Contains(out, r.Environment) {
			out = append(out, r.Environment)
		}
	}
	return out
}

// completeSpecs offers the services that have a file; a path completes as one.
func completeSpecs(env *environment) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return specNames(specFolders(env.getenv)), cobra.ShellCompDirectiveDefault
	}
}

// completeRequests offers the requests of the scheduler, and their tasks if asked to.
func completeRequests(env *environment, tasks bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, v := range knownRequests(cmd, env) {
			out = append(out, v.Request.ID)
			for _, t := range v.Tasks {
				if tasks {
					out = append(out, t.ID)
				}
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// knownRequests asks the scheduler. A shell that completes has no place for errors.
func knownRequests(cmd *cobra.Command, env *environment) []client.RequestView {
	if err := env.prepare(cmd); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	c, err := env.client(cmd.Context())
	if err != nil {
		return nil
	}
	views, _ := c.Requests(ctx)
	return views
}

// completeAgents offers the hosts of the agents.
func completeAgents(env *environment) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || env.prepare(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := env.client(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		agents, _ := c.Agents(ctx)
		var out []string
		for _, v := range agents {
			out = append(out, v.Agent.Hostname)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// knownTokens are the ids of the tokens, as knownRequests asks for them.
func knownTokens(cmd *cobra.Command, env *environment) []string {
	if err := env.prepare(cmd); err != nil {
		return nil
	}
	c, err := env.client(cmd.Context())
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	tokens, _ := c.Tokens(ctx, "")
	var ids []string
	for _, t := range tokens {
		if t.Revoked == nil {
			ids = append(ids, t.ID)
		}
	}
	return ids
}
