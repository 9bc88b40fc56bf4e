package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/config"
)

const rootLong = `Pancake runs containers on a set of machines and keeps them running.

Start everything on this machine with "pancake dev", release a service from its
YAML file with "pancake release", and ask "pancake status" what runs, and why
something does not.`

const rootFooter = `
Every flag can also be set by an environment variable (--scheduler is
PANCAKE_SCHEDULER) or by a key of the YAML file that --config names. A flag goes
before a variable, and a variable before the file.

Exit codes:
  0    success
  1    it was tried and failed: a deploy or task failed, a conflict, no room
  2    wrong usage or bad input: flags, arguments, YAML
  3    the scheduler does not answer
  4    not allowed: no good credentials, a role or group that is not enough, or a
       scheduler that is not the one it should be
  130  interrupted
`

// newRootCommand builds the whole command tree.
func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:           "pancake",
		Short:         "A container platform made of small layers",
		Long:          rootLong,
		Version:       buildVersion(),
		SilenceErrors: true, // run prints the error, once
		SilenceUsage:  true,

		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return env.prepare(cmd)
		},
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("pancake {{.Version}}\n")
	root.SetUsageTemplate(root.UsageTemplate() + "{{if not .HasParent}}" + rootFooter + "{{end}}")
	root.CompletionOptions.HiddenDefaultCmd = false

	flags := root.PersistentFlags()
	flags.StringVar(&env.global.scheduler, "scheduler", "http://127.0.0.1:7099", "`address` of the scheduler's API")
	flags.StringVar(&env.global.tokenFile, "token-file", "", "`file` with the API token, which nobody else may read (default: PANCAKE_TOKEN, else as of \"pancake login\")")
	flags.StringVar(&env.global.ca, "ca", "", "PEM `file` with the CA certificates to know the scheduler by (default: as of \"pancake login\")")
	flags.StringVar(&env.global.cert, "cert", "", "PEM `file` with a client certificate, as of \"pancake ca issue\", to use instead of the token that login kept")
	flags.StringVar(&env.global.key, "key", "", "PEM `file` with its key, which nobody else may read (default: it is in --cert)")
	config.AddFlags(flags)
	flags.StringVarP(&env.global.output, "output", "o", "text", "`format` of the output: text or json")
	flags.BoolVar(&env.global.noColor, "no-color", false, "print without colours, as NO_COLOR does")
	flags.StringVar(&env.global.logLevel, "log-level", "info", "lowest `level` that daemons log: debug, info, warn or error")
	flags.StringVar(&env.global.logFormat, "log-format", "text", "`format` of the daemons' log: text or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))

	root.AddGroup(&cobra.Group{ID: groupServices, Title: "Services:"}, &cobra.Group{ID: groupAccess, Title: "Access:"}, &cobra.Group{ID: groupDaemons, Title: "Daemons:"})
	for group, constructors := range commands() {
		for _, construct := range constructors {
			cmd := construct(env)
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	forEach(root, func(cmd *cobra.Command) { startWith(env, cmd) })
	return root
}

// noSuchCommand refuses arguments of a command that only has subcommands: words
// that are none.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2 // the edits that a slip takes; cobra's default
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	_, path, _ := strings.Cut(cmd.CommandPath()+" "+args[0], " ") // without "pancake"
	return pancake.Errorf(pancake.Invalid, "there is no command %q%s", path, hint)
}

// arguments checks how many arguments a command got.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most || printsConfig(cmd) {
			return nil
		}
		problem := fmt.Sprintf("%d too few", least-len(args))
		if len(args) > most {
			problem = fmt.Sprintf("%q is one too many", args[most])
		}
		return pancake.Errorf(pancake.Invalid, "arguments: %s; write: %s", problem, cmd.UseLine())
	}
}

// prepare runs after the flags were parsed and before the command: it fills in
// settings that come from elsewhere and checks those that all commands share.
func (e *environment) prepare(cmd *cobra.Command) error {
	if err := config.Apply(cmd, e.getenv); err != nil {
		return err
	}
	if !slices.Contains([]string{"text", "json"}, e.global.output) {
		return pancake.Errorf(pancake.Invalid, "--output %q: use text or json", e.global.output)
	}
	e.named = cmd.Flags().Changed("scheduler")
	return nil
}

// startWith puts in front of cmd's own code what is common to all commands.
func startWith(env *environment, cmd *cobra.Command) {
	inner := cmd.RunE
	if inner == nil {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		env.started = true
		if printsConfig(cmd) {
			return config.Print(env.stdout, cmd.Flags())
		}
		return inner(cmd, args)
	}
}

// printsConfig reports whether the settings shall be printed instead of used.
func printsConfig(cmd *cobra.Command) bool {
	on, err := cmd.Flags().GetBool(config.PrintFlag)
	return err == nil && on
}

// forEach calls fn for cmd and everything below it.
func forEach(cmd *cobra.Command, fn func(*cobra.Command)) {
	fn(cmd)
	for _, sub := range cmd.Commands() {
		forEach(sub, fn)
	}
}

// examples formats the example section of a command's help.
func examples(lines ...string) string {
	return "  " + strings.Join(lines, "\n  ")
}
