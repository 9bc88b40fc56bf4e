package main

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/file"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/suggest"
)

const goavailLong = `Keep what is down out of DNS. Agents in different places probe targets, and when more
than half of all places agree one of them changes the records. The last record of a name
is never removed, and what is not known changes nothing.

"run" is the agent. "check", "plan" and "convert" work on its configuration; the others
ask, or tell, an agent that runs: --agent says which, and any of them will do.`

func newGoavailCommand(env *environment) *cobra.Command {
	var f goavailFlags
	cmd := &cobra.Command{
		Use:   "goavail",
		Short: "Take dead targets out of DNS, and back in, by the vote of several places",
		Long:  goavailLong,
		Example: examples(
			"pancake goavail check -f goavail.yml",
			"pancake goavail run -f goavail.yml --place fra",
			"pancake goavail plan",
			"pancake goavail apply",
			"pancake goavail status",
		),
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&f.agent, "agent", "http://127.0.0.1:7950", "`address` of an agent's API")
	cmd.PersistentFlags().StringVar(&f.agentTokenFile, "agent-token-file", "", "`file` with the token that the agent's API wants (default: GOAVAIL_TOKEN)")
	cmd.AddCommand(
		newGoavailRunCommand(env), newGoavailCheckCommand(env), newGoavailConvertCommand(env), newGoavailKeygenCommand(env),
		newGoavailPlanCommand(env, &f), newGoavailApplyCommand(env, &f), newGoavailStatusCommand(env, &f), newGoavailHistoryCommand(env, &f),
		newGoavailHoldCommand(env, &f), newGoavailReleaseCommand(env, &f), newGoavailDrainCommand(env, &f), newGoavailRestoreCommand(env, &f),
		newGoavailAdoptCommand(env, &f),
	)
	return cmd
}

// goavailFlags say which agent is asked.
type goavailFlags struct {
	agent, agentTokenFile string
}

// client talks to the agent.
func (f *goavailFlags) client(env *environment) (*client.Client, error) {
	address := schedulerURL(f.agent)
	if u, err := url.Parse(address); err != nil || u.Host == "" {
		return nil, pancake.Errorf(pancake.Invalid, "--agent %q is not an address, for example http://127.0.0.1:7950", f.agent)
	}
	token := env.getenv("GOAVAIL_TOKEN")
	if f.agentTokenFile != "" {
		text, err := identity.ReadPrivate(f.agentTokenFile)
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "--agent-token-file: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	c := &client.Client{URL: address, Token: token, Timeout: time.Minute}
	if token != "" && env.global.cert == "" {
		return c, nil // of an agent behind a proxy
	}
	var err error
	if c.HTTP, err = env.dialer(address, identity.Goavail); pancake.KindOf(err) == pancake.Unauthenticated {
		err = pancake.Errorf(pancake.Unauthenticated, "%w. Of an agent behind a proxy, give the token with --agent-token-file, or in GOAVAIL_TOKEN", err)
	}
	return c, err
}

// advise adds what to do to the error of an agent that does not answer, or not to us.
func (f *goavailFlags) advise(err error) error {
	switch pancake.KindOf(err) {
	case pancake.Unavailable:
		if strings.HasPrefix(err.Error(), "goavail at ") { // else it answered, and something else does not
			return pancake.Errorf(pancake.Unavailable, "%w\nIs an agent running there? Start one with \"pancake goavail run\", or name another with --agent.", err)
		}
	case pancake.Unauthenticated:
		return pancake.Errorf(pancake.Unauthenticated, "%w\nGive the agent's token (api.token_file of its configuration) with --agent-token-file, or in GOAVAIL_TOKEN.", err)
	}
	return err
}

// goavailFile are the flags of the commands that read the configuration.
type goavailFile struct {
	path, place string
	old         file.OldFlags
}

func (f *goavailFile) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.path, "config-file", "f", "goavail.yml", "configuration `file`; one that ends in .toml is taken for the old goavail's")
	flags.StringVar(&f.place, "place", "", "`name` of the place that this agent is (default: place in the file)")
	f.addOld(cmd)
	_ = cmd.MarkFlagFilename("config-file", "yml", "yaml", "toml")
}

func (f *goavailFile) addOld(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.old.Type, "type", "", "of an old file: the `kind` of check, ip or tcp (default: tcp if it has a port)")
	flags.StringVar(&f.old.Provider, "dns-provider", "", "of an old file: the `provider`, cloudflare or route53, if it has both")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"ip", "tcp"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("dns-provider", cobra.FixedCompletions([]string{"cloudflare", "route53"}, cobra.ShellCompDirectiveNoFileComp))
}

// load reads the file and tells what may be wrong with it.
func (f *goavailFile) load(env *environment) (*file.File, error) {
	if t := f.old.Type; t != "" && t != "ip" && t != "tcp" {
		return nil, pancake.Errorf(pancake.Invalid, "--type %q: use ip or tcp", t)
	}
	read, err := file.Load(f.path, f.old, env.getenv)
	if err != nil {
		return nil, err
	}
	read.Settings.Place = cmp.Or(f.place, read.Settings.Place)
	return read, nil
}

// warn tells the file's warnings.
func (e *environment) warn(f *file.File) {
	for _, w := range f.Warnings {
		e.notef("warning: %s", w)
	}
}

// names completes the names of targets, or of records, as the agent knows them.
func (f *goavailFlags) names(env *environment, of func(client.Status) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || env.prepare(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := f.client(env)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		s, err := c.Status(ctx, false)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return of(s), cobra.ShellCompDirectiveNoFileComp
	}
}

func targetNames(s client.Status) []string {
	var out []string
	for _, t := range s.Targets {
		out = append(out, t.Name)
	}
	return out
}

func recordNames(s client.Status) []string {
	var out []string
	for _, r := range s.Sets {
		out = append(out, setName(r))
	}
	return out
}

// setName is what a set is called: name, type and, if it has one, identifier.
func setName(s client.Set) string { return strings.TrimSpace(s.Name + " " + s.Type + " " + s.Set) }

// nearby adds to an agent's "there is no …" what may have been meant.
func nearby(err error, name string, known []string) error {
	if pancake.KindOf(err) != pancake.NotFound {
		return err
	}
	if near, ok := suggest.Nearest(name, known); ok {
		return pancake.Errorf(pancake.NotFound, "%w; did you mean %q?", err, near)
	}
	return pancake.Errorf(pancake.NotFound, "%w; there are %s", err, strings.Join(known, ", "))
}
