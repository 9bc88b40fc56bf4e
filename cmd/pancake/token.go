package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func newTokenCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens: for agents to join with, and for the API",
		Long: `Make, list and revoke tokens. A join token gets an agent its first certificate; an
API token lets a person or program use the API as far as its role and groups go.

The roles: viewer reads; deployer also releases, scales, deletes and kills what
belongs to its groups or to nobody; operator may do everything, these commands included.`,
		Example: examples(
			"pancake token create --agent --ttl 1h",
			"pancake token create --role deployer --group shop --name ci",
			"pancake token list",
			"pancake token revoke k3x…",
		),
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreateCommand(env), newTokenListCommand(env), newTokenRevokeCommand(env))
	return cmd
}

// tokenFlags are the flags of "token create".
type tokenFlags struct {
	agent     bool
	component string
	id        string
	uses      int
	role      string
	groups    []string
	ttl       time.Duration
	name      string
}

// components are what may join besides agents.
var components = []string{string(identity.Ingress), string(identity.Goavail), string(identity.Proviso)}

// joins is the kind that a join token is for, "" when it is to be another token.
func (f tokenFlags) joins() string {
	if f.agent {
		return string(identity.Agent)
	}
	return f.component
}

// body checks the flags, so that what is wrong is said before anybody is asked.
func (f tokenFlags) body() (client.TokenBody, error) {
	body := client.TokenBody{Name: f.name, TTL: f.ttl}
	switch {
	case f.agent && f.component != "":
		return body, pancake.Errorf(pancake.Invalid, "choose one of --agent and --component")
	case f.component != "" && !slices.Contains(components, f.component):
		return body, pancake.Errorf(pancake.Invalid, "--component %q: use one of %s; a scheduler needs no token, but the key of --ca-key", f.component, strings.Join(components, ", "))
	case f.joins() != "" && (f.role != "" || len(f.groups) > 0):
		return body, pancake.Errorf(pancake.Invalid, "--agent and --component make a token to join with, which has no --role and no --group; choose one")
	case f.joins() != "":
		body.Type, body.Kind, body.BoundID, body.Uses = client.JoinToken, f.joins(), f.id, f.uses
		if f.uses < 1 {
			return body, pancake.Errorf(pancake.Invalid, "--uses is 1 or more")
		}
	case f.role == "":
		return body, pancake.Errorf(pancake.Invalid, "say what the token is for: --agent or --component to let a part join, or --role viewer, deployer or operator for the API")
	case f.uses != 1 || f.id != "":
		return body, pancake.Errorf(pancake.Invalid, "--uses and --id are for join tokens; an API token can be used until it expires")
	default:
		body.Type, body.Grant = client.APIToken, client.Grant{Role: f.role, Groups: f.groups}
		if err := (identity.Grant{Role: identity.Role(f.role), Groups: f.groups}).Validate(); err != nil {
			return body, err
		}
	}
	if f.ttl < 0 {
		return body, pancake.Errorf(pancake.Invalid, "--ttl is a time to come, for example 1h")
	}
	return body, nil
}

func completeRoles() cobra.CompletionFunc {
	return cobra.FixedCompletions([]string{string(identity.Viewer), string(identity.Deployer), string(identity.Operator)}, cobra.ShellCompDirectiveNoFileComp)
}

func newTokenCreateCommand(env *environment) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "create --agent | --component <name> | --role <role>",
		Short: "Make a token and print it, this once",
		Long: `Make a token. It is printed to stdout, this once: the scheduler keeps only its hash.

A join token works once, or --uses times, until --ttl is over (default 1h). An API
token works until --ttl is over (default 90 days) or it is revoked. Its groups name
the requests that it is for; the group "*" stands for all, and an operator needs none.`,
		Example: examples(
			"pancake token create --agent --ttl 1h",
			"pancake token create --agent --uses 20 --name 'first rack'",
			"pancake token create --role deployer --group shop --group search --ttl 720h --name ci",
			"pancake token create --role viewer --group '*' > viewer.token",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := f.body()
			if err != nil {
				return err
			}
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			out, err := c.CreateToken(cmd.Context(), body)
			if err != nil {
				return err
			}
			return env.printToken(out)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.agent, "agent", false, "a token for an agent to join with")
	flags.StringVar(&f.component, "component", "", "a token for another part to join with, `name`: ingress, goavail or proviso")
	_ = cmd.RegisterFlagCompletionFunc("component", cobra.FixedCompletions(components, cobra.ShellCompDirectiveNoFileComp))
	flags.StringVar(&f.id, "id", "", "the only `id` that may join with it")
	flags.IntVar(&f.uses, "uses", 1, "how often it can be used to join, `number`")
	flags.StringVar(&f.role, "role", "", "what an API token may do: `role` viewer, deployer or operator")
	flags.StringArrayVar(&f.groups, "group", nil, "`group` whose requests an API token is for; can be given several times")
	flags.DurationVar(&f.ttl, "ttl", 0, "how long it can be used, `duration` (default: 1h to join, 90 days for the API)")
	flags.StringVar(&f.name, "name", "", "what it is for, shown by \"pancake token list\", `text`")
	_ = cmd.RegisterFlagCompletionFunc("role", completeRoles())
	return cmd
}

// printToken prints the token to stdout and what to do with it to stderr, so that
// the output of the command can go into a file.
func (e *environment) printToken(out client.TokenCreated) error {
	if e.json() {
		return e.printJSON(out)
	}
	until := out.Info.Expires.Local().Format(time.DateTime)
	if out.Info.Type == client.JoinToken {
		use := ""
		if out.Info.Kind == "" || out.Info.Kind == string(identity.Agent) {
			use = " Use it with: pancake agent --join <token, or @file> --scheduler …"
		}
		e.notef("join token %s, good for %s until %s.%s", out.Info.ID, times(out.Info.Uses), until, use)
	} else {
		e.notef("API token %s, %s, until %s. Use it with: pancake login, --token-file or %s", out.Info.ID, grantText(out.Info.Grant), until, tokenVariable)
	}
	e.notef("it is shown this once; keep it secret")
	e.printf("%s\n", out.Token)
	return nil
}

func times(n int) string {
	if n == 1 {
		return "one use"
	}
	return fmt.Sprintf("%d uses", n)
}

// grantText prints "deployer of shop, search".
func grantText(g client.Grant) string {
	switch {
	case len(g.Groups) == 0:
		return g.Role
	case len(g.Groups) == 1 && g.Groups[0] == identity.AllGroups:
		return g.Role + " of all groups"
	}
	return g.Role + " of " + strings.Join(g.Groups, ", ")
}

func newTokenListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the tokens",
		Long:    "List the tokens, oldest first, with what they are for and until when they can be used. Their texts are known to nobody but those who hold them.",
		Example: examples("pancake token list", "pancake token list -o json"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			tokens, err := c.Tokens(cmd.Context(), "")
			if err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(tokens)
			}
			if len(tokens) == 0 {
				env.printf("there is no token; make one with \"pancake token create\"\n")
				return nil
			}
			for _, line := range tokenTable(tokens, env.now()) {
				env.printf("%s\n", line)
			}
			return nil
		},
	}
}

func tokenTable(tokens []client.TokenInfo, now time.Time) []string {
	var rows [][]string
	for _, t := range tokens {
		what, uses := grantText(t.Grant), ""
		if t.Type == client.JoinToken {
			what, uses = joinText(t), fmt.Sprintf("%d/%d", t.Used, t.Uses)
		}
		used := ""
		if t.LastUsed != nil {
			used = age(now, *t.LastUsed)
		}
		rows = append(rows, []string{t.ID, clean(what), tokenState(t, now), uses, used, age(now, t.Created), clean(t.CreatedBy), clean(t.Name)})
	}
	return table([]string{"ID", "FOR", "STATE", "USES", "LAST USED", "AGE", "CREATED BY", "NAME"}, rows)
}

func joinText(t client.TokenInfo) string {
	return joinNotEmpty(" ", t.Kind, t.BoundID, "joins")
}

// tokenState says whether a token is good, and if not, which check it would fail.
func tokenState(t client.TokenInfo, now time.Time) string {
	switch {
	case t.Revoked != nil:
		return "revoked"
	case !now.Before(t.Expires):
		return "expired"
	case t.Type == client.JoinToken && t.Used >= t.Uses:
		return "used"
	}
	return "good for " + age(t.Expires, now)
}

func newTokenRevokeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke <id>",
		Short: "Make a token useless from now on",
		Long: `Make a token useless from now on. Agents that joined with it stay: "pancake ca revoke"
is for those.`,
		Example: examples("pancake token revoke k3xvq7aemrb2ychd"),
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.Contains(args[0], "_") {
				return pancake.Errorf(pancake.Invalid, "give the id of the token, not its text: it is the part behind the first \"_\", and in \"pancake token list\"")
			}
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]string{"revoked": args[0]})
			}
			env.printf("token %s is revoked\n", args[0])
			return nil
		},
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return knownTokens(cmd, env), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
