package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// sidecarCommands lists the constructors of the commands that ask a Sidecar; each gets
// where the address of that will be.
func sidecarCommands() []func(*environment, *string) *cobra.Command {
	return []func(*environment, *string) *cobra.Command{
		newSidecarMembersCommand, newSidecarServicesCommand, newSidecarWatchCommand,
		newSidecarDrainCommand, newSidecarForceLeaveCommand, newSidecarKeysCommand, newSidecarDebugCommand, newSidecarBridgeCommand,
	}
}

// asked is a Sidecar that commands ask.
type asked struct {
	*client.Client
	base string
}

// askSidecar takes an address with or without http:// or https://.
func askSidecar(env *environment, address string) (*asked, error) {
	given := address
	address = schedulerURL(address)
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, pancake.Errorf(pancake.Invalid, "--sidecar %q is not an address such as http://127.0.0.1:7777", given)
	}
	dialer, err := env.dialer(address, identity.Agent)
	if err != nil {
		return nil, err
	}
	return &asked{Client: &client.Client{URL: address, Timeout: askTimeout, HTTP: dialer}, base: address}, nil
}

const (
	// askTimeout bounds one question to a Sidecar.
	askTimeout = 10 * time.Second
)

// notAnswering adds what to do to the error of a Sidecar that does not answer.
func notAnswering(err error) error {
	if pancake.KindOf(err) != pancake.Unavailable {
		return err
	}
	return pancake.Errorf(pancake.Unavailable, "%w\nIs it running? Start one with \"pancake sidecar\", or name another with --sidecar or PANCAKE_SIDECAR.", err)
}

// asking is the code of a command that asks a Sidecar and ends.
func asking(env *environment, address *string, ask func(ctx context.Context, a *asked, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a, err := askSidecar(env, *address)
		if err != nil {
			return err
		}
		return notAnswering(ask(cmd.Context(), a, args))
	}
}

func newSidecarMembersCommand(env *environment, address *string) *cobra.Command {
	return &cobra.Command{
		Use:     "members",
		Short:   "List the Sidecars of the cluster, and which of them are gone",
		Example: examples("pancake sidecar members", "pancake sidecar members -o json", "pancake sidecar members --sidecar http://127.0.0.2:7777"),
		Args:    arguments(0, 0),
		RunE: asking(env, address, func(ctx context.Context, a *asked, _ []string) error {
			members, err := a.Members(ctx)
			if err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(members)
			}
			for _, line := range memberTable(env, members) {
				env.printf("%s\n", line)
			}
			return nil
		}),
	}
}

func memberTable(env *environment, members []client.Member) []string {
	p := env.paint()
	var rows [][]string
	for _, m := range members {
		colour := green
		switch m.State {
		case client.MemberDead:
			colour = red
		case client.MemberLeft:
			colour = yellow
		}
		rows = append(rows, []string{clean(m.Name), p.paint(colour, string(m.State)), clean(m.Address), age(env.now(), m.Since)})
	}
	return table([]string{"NAME", p.paint(plain, "STATE"), "ADDRESS", "SINCE"}, rows)
}

func newSidecarDrainCommand(env *environment, address *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain <id>",
		Short: "Take a service of the Sidecar's own host out of traffic",
		Long: `Take a service out of traffic: all Sidecars hear that it is DRAINING, until it is gone. It
has to run on the host of the Sidecar that is asked; "pancake sidecar services" shows ids and hosts.`,
		Example: examples("pancake sidecar drain deadbeef0001", "pancake sidecar drain deadbeef0001 --sidecar http://127.0.0.2:7777"),
		Args:    arguments(1, 1),
		RunE: asking(env, address, func(ctx context.Context, a *asked, args []string) error {
			if err := a.Drain(ctx, args[0]); err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]string{"id": args[0], "status": "Draining"})
			}
			env.printf("%s is draining\n", clean(args[0]))
			return nil
		}),
	}
	cmd.ValidArgsFunction = completeSidecar(env, address, func(s *client.State) (out []string) {
		if own := s.Servers[s.Hostname]; own != nil {
			for id, svc := range own.Services {
				if svc.Status != pancake.Tombstone {
					out = append(out, id)
				}
			}
		}
		return out
	})
	return cmd
}

func newSidecarForceLeaveCommand(env *environment, address *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "force-leave <node>",
		Short: "Tell the cluster that a node which is dead will not come back",
		Long: `Tell the cluster that a node which is dead will not come back: its services end everywhere, and
nobody tries to reach it any more. One that is alive is refused: stop its Sidecar first.`,
		Example: examples("pancake sidecar force-leave node-7"),
		Args:    arguments(1, 1),
		RunE: asking(env, address, func(ctx context.Context, a *asked, args []string) error {
			if _, err := a.Raw(ctx, http.MethodPost, sidecar.MembersPath+url.PathEscape(args[0])+"/leave"); err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]string{"name": args[0], "state": string(client.MemberLeft)})
			}
			env.printf("%s has left\n", clean(args[0]))
			return nil
		}),
	}
	cmd.ValidArgsFunction = completeSidecar(env, address, func(s *client.State) (out []string) {
		for name := range s.Servers {
			if name != s.Hostname {
				out = append(out, name)
			}
		}
		return out
	})
	return cmd
}

func newSidecarKeysCommand(env *environment, address *string) *cobra.Command {
	return &cobra.Command{
		Use:   "keys",
		Short: "Print the fingerprints of the keys that gossip is encrypted with",
		Long: `Print the fingerprints of the keys that a Sidecar encrypts gossip with, never the keys: the
first 16 hexadecimal digits of SHA-256 of each. All Sidecars of a cluster have the same first one, but while
it is being replaced.`,
		Example: examples("pancake sidecar keys", "pancake sidecar keys -o json"),
		Args:    arguments(0, 0),
		RunE: asking(env, address, func(ctx context.Context, a *asked, _ []string) error {
			body, err := a.Raw(ctx, http.MethodGet, sidecar.KeysPath)
			if err != nil {
				return err
			}
			var keys sidecar.Keys
			if err := json.Unmarshal(body, &keys); err != nil {
				return pancake.Errorf(pancake.Unavailable, "sidecar at %s answered with something unreadable: %w", a.base, err)
			}
			switch {
			case env.json():
				return env.printJSON(keys)
			case len(keys.Fingerprints) == 0:
				env.printf("gossip is not encrypted\n")
			default:
				env.printf("%s (the first one encrypts)\n", clean(strings.Join(keys.Fingerprints, ", ")))
			}
			return nil
		}),
	}
}

// completeSidecar offers what a Sidecar knows, and nothing when it does not answer.
func completeSidecar(env *environment, address *string, pick func(*client.State) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || env.prepare(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		a, err := askSidecar(env, *address)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		state, err := a.State(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		out := pick(state)
		slices.Sort(out)
		return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
	}
}

// statusWord is a service's status as people write it: alive.
func statusWord(s pancake.ServiceStatus) string { return strings.ToLower(fmt.Sprint(s)) }
