package main

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const loginLong = `Keep which scheduler to talk to, the API token to show it, and the CA to know it
by, so that all other commands find them.

The CA is known by its fingerprint, which "pancake ca show" prints on a machine
that is logged in already, and the scheduler's log when it starts; or by the
file that --ca names. The token comes from --token-file, PANCAKE_TOKEN or stdin.
Both are tried before anything is kept, in a file that only you can read:
pancake/credentials.yml in XDG_CONFIG_HOME, else in ~/.config.`

func newLoginCommand(env *environment) *cobra.Command {
	var fingerprint string
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Keep the scheduler's address, its CA and an API token for later commands",
		Long:  loginLong,
		Example: examples(
			"pancake login --scheduler https://10.0.0.1:7099 --ca-fingerprint 3f…9c    # asks for the token",
			"pancake login --scheduler https://10.0.0.1:7099 --ca-fingerprint 3f…9c < operator.token",
			"pancake login --scheduler https://10.0.0.1:7099 --ca ca.pem --token-file operator.token",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return login(cmd.Context(), env, fingerprint) },
	}
	cmd.Flags().StringVar(&fingerprint, "ca-fingerprint", "", "`SHA-256` of the CA's certificate, 64 hexadecimal digits")
	_ = cmd.RegisterFlagCompletionFunc("ca-fingerprint", cobra.NoFileCompletions)
	return cmd
}

// loginOutput is what "login -o json" prints.
type loginOutput struct {
	Scheduler string `json:"scheduler"`
	Cluster   string `json:"cluster"`
	File      string `json:"file"`
}

func login(ctx context.Context, env *environment, fingerprint string) error {
	url := schedulerURL(env.global.scheduler)
	if !strings.HasPrefix(url, "https://") {
		return pancake.Errorf(pancake.Invalid, "say which scheduler with --scheduler https://…; %s has no TLS and so no login", url)
	}
	view, trusted, err := env.meet(ctx, url, fingerprint)
	if err != nil {
		return err
	}
	token, err := env.askToken()
	if err != nil {
		return err
	}
	c := &client.Client{URL: url, Token: token, HTTP: client.NewHTTP(identity.TrustTLS(trusted, env.expectScheduler(view.Cluster)))}
	if _, err := c.Agents(ctx); err != nil && pancake.KindOf(err) != pancake.Forbidden { // a known token that may do little is good
		return err
	}
	path, err := credentials{Scheduler: url, Cluster: view.Cluster, Token: token, CA: string(trusted.PEM()), Checked: env.now()}.save(env.getenv)
	if err != nil {
		return err
	}
	if env.json() {
		return env.printJSON(loginOutput{url, view.Cluster, path})
	}
	env.printf("logged in to cluster %s at %s; kept in %s\n", view.Cluster, url, path)
	return nil
}

// meet finds out what to trust of a scheduler.
func (e *environment) meet(ctx context.Context, url, fingerprint string) (client.CAView, identity.Bundle, error) {
	if fingerprint != "" {
		ca, err := identity.ParseFingerprint(fingerprint)
		if err != nil {
			return client.CAView{}, nil, pancake.Errorf(pancake.Invalid, "--ca-fingerprint: %w", err)
		}
		return e.fetchTrust(ctx, url, ca)
	}
	if e.global.ca == "" {
		return client.CAView{}, nil, pancake.Errorf(pancake.Invalid,
			"say how to know the scheduler: --ca-fingerprint, as \"pancake ca show\" prints it on a machine that is logged in already, or --ca with the file")
	}
	trusted, _, err := e.trusted(credentials{})
	if err != nil {
		return client.CAView{}, nil, err
	}
	c := &client.Client{URL: url, HTTP: client.NewHTTP(identity.TrustTLS(trusted, e.expectScheduler("")))}
	view, err := c.CA(ctx)
	if err != nil {
		return view, nil, err
	}
	trusted, err = bundleOf(view) // the file may lack the next CA
	return view, trusted, err
}

// askToken takes the token from where one was given, else from stdin.
func (e *environment) askToken() (string, error) {
	token, err := e.token("")
	if token != "" || err != nil {
		return token, err
	}
	var text []byte
	if f, ok := e.stdin.(*os.File); ok && e.isTerminal(e.stdin) {
		e.notef("paste the API token; it is not shown:")
		text, err = term.ReadPassword(int(f.Fd()))
	} else {
		text, err = io.ReadAll(io.LimitReader(e.stdin, 1<<12)) // longer than any token
	}
	if err != nil {
		return "", pancake.Errorf(pancake.Invalid, "cannot read the token from stdin: %w", err)
	}
	token = strings.TrimSpace(string(text))
	if _, err := identity.ParseToken(identity.APIToken, token); err != nil {
		return "", pancake.Errorf(pancake.Invalid, "the token on stdin: %w", err)
	}
	return token, nil
}

func newLogoutCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "Forget what login kept",
		Long: `Remove the file that "pancake login" wrote. The token stays good for whoever has
it elsewhere; "pancake token revoke" ends it for all.`,
		Example: examples("pancake logout"),
		Args:    arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			was, err := forget(env.getenv)
			if err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]bool{"loggedOut": was})
			}
			if !was {
				env.printf("nobody was logged in\n")
				return nil
			}
			env.printf("logged out\n")
			return nil
		},
	}
}
