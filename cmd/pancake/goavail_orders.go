package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
)

// orderFlags are those of the commands that tell the agents something.
type orderFlags struct {
	length time.Duration
	reason string
	wait   time.Duration
}

func (f *orderFlags) addReason(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "`text` that all who look will see")
}

func (f *orderFlags) addFor(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.length, "for", 0, "`time` after which it ends by itself, for example 1h (default: it stands until it is taken back)")
}

func (f *orderFlags) addWait(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.wait, "wait", time.Minute, "`time` to wait until it shows in the records; 0 does not wait")
}

func (f *orderFlags) request(env *environment, about string) (client.Request, error) {
	if f.length < 0 || f.wait < 0 || f.length > 0 && f.length < time.Second {
		return client.Request{}, pancake.Errorf(pancake.Invalid, "--for and --wait take no negative value, and --for at least 1s")
	}
	return client.Request{About: about, By: env.user(), Why: f.reason, For: int(f.length / time.Second)}, nil
}

// told prints the orders that were given.
func (e *environment) told(orders []client.Order) error {
	if e.json() {
		return e.printJSON(orders)
	}
	for _, o := range orders {
		text := joinNotEmpty(" ", o.Kind, cmp.Or(o.About, "everything"), untilText(o))
		switch {
		case o.Kind == "confirm":
			text = "configuration " + o.About + " is confirmed; agents that have it act on it"
		case o.Over:
			text = "taken back: " + text
		}
		e.printf("%s\n", clean(text))
	}
	return nil
}

func untilText(o client.Order) string {
	if o.Until.IsZero() {
		return ""
	}
	return "until " + o.Until.Local().Format(time.DateTime)
}

func newGoavailApplyCommand(env *environment, f *goavailFlags) *cobra.Command {
	var o orderFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Confirm the configuration, so that agents act on it",
		Long: `Confirm the agent's configuration, for all agents that have the same. Look at "pancake
goavail plan" first: what that shows is done from then on.`,
		Example: examples("pancake goavail plan", "pancake goavail apply --reason 'second ingress zone'"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.order(cmd.Context(), env, &o, "", (*client.Client).Apply, nil)
		},
	}
	o.addReason(cmd)
	return cmd
}

func newGoavailHoldCommand(env *environment, f *goavailFlags) *cobra.Command {
	var o orderFlags
	cmd := &cobra.Command{
		Use:   "hold [<record>]",
		Short: "Let no agent change a record, or any, for a while",
		Long: `Stop all changes of one record, or without a name of all. Agents go on probing and voting,
and "status" shows what they would do. "release" takes it back.`,
		Example:           examples("pancake goavail hold --for 1h --reason 'moving the zone'", "pancake goavail hold www.example.com"),
		Args:              arguments(0, 1),
		ValidArgsFunction: f.names(env, recordNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.order(cmd.Context(), env, &o, first(args), (*client.Client).Hold, recordNames)
		},
	}
	o.addFor(cmd)
	o.addReason(cmd)
	return cmd
}

func newGoavailReleaseCommand(env *environment, f *goavailFlags) *cobra.Command {
	var o orderFlags
	cmd := &cobra.Command{
		Use:               "release [<record>]",
		Short:             "Take back what hold ordered",
		Long:              "Take back a hold: that of one record, or without a name the one of all. Holds of single records stand until they are released by name.",
		Example:           examples("pancake goavail release", "pancake goavail release www.example.com"),
		Args:              arguments(0, 1),
		ValidArgsFunction: f.names(env, recordNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			release := func(c *client.Client, ctx context.Context, r client.Request) ([]client.Order, error) {
				r.Release = true
				return c.Hold(ctx, r)
			}
			return f.order(cmd.Context(), env, &o, first(args), release, recordNames)
		},
	}
	o.addReason(cmd)
	return cmd
}

func newGoavailDrainCommand(env *environment, f *goavailFlags) *cobra.Command {
	var o orderFlags
	var maintenance bool
	cmd := &cobra.Command{
		Use:   "drain <target>",
		Short: "Take a target out of service, as far as enough others are left",
		Long: `Take a target out of all its records, and wait until it is out. It stays in where it is the
last one, or fewer than min_healthy would be left: then the exit code is 1. With
--maintenance the target stays as it is, in or out, whatever places say.`,
		Example: examples(
			"pancake goavail drain ingress-1 --for 2h --reason 'kernel upgrade'",
			"pancake goavail drain ingress-1 --maintenance --for 30m",
			"pancake goavail restore ingress-1",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: f.names(env, targetNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			drain := func(c *client.Client, ctx context.Context, r client.Request) ([]client.Order, error) {
				r.Maintenance = maintenance
				return c.Drain(ctx, r)
			}
			if err := f.order(cmd.Context(), env, &o, args[0], drain, targetNames); err != nil || maintenance {
				return err
			}
			return f.settle(cmd.Context(), env, args[0], false, o.wait)
		},
	}
	o.addFor(cmd)
	o.addReason(cmd)
	o.addWait(cmd)
	cmd.Flags().BoolVar(&maintenance, "maintenance", false, "leave the target as it is rather than take it out")
	return cmd
}

func newGoavailRestoreCommand(env *environment, f *goavailFlags) *cobra.Command {
	var o orderFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "restore <target>",
		Short: "Take back what drain ordered, and forgive a target its falls",
		Long: `Take back what drain ordered, and forget how often the target fell, so that it comes back
as soon as places say that it is up. With --force it is put in whatever they say.`,
		Example:           examples("pancake goavail restore ingress-1", "pancake goavail restore ingress-1 --force --for 1h"),
		Args:              arguments(1, 1),
		ValidArgsFunction: f.names(env, targetNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			restore := func(c *client.Client, ctx context.Context, r client.Request) ([]client.Order, error) {
				r.Force = force
				return c.Restore(ctx, r)
			}
			if err := f.order(cmd.Context(), env, &o, args[0], restore, targetNames); err != nil {
				return err
			}
			return f.settle(cmd.Context(), env, args[0], true, o.wait)
		},
	}
	o.addFor(cmd)
	o.addReason(cmd)
	o.addWait(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "put it in service whatever places say")
	return cmd
}

func newGoavailAdoptCommand(env *environment, f *goavailFlags) *cobra.Command {
	var o orderFlags
	cmd := &cobra.Command{
		Use:   "adopt <record>",
		Short: "Take over records that exist already and are listed in the configuration",
		Long: `Mark values of a record that are listed in the configuration as goavail's own, so that it may
remove them later. Without that, what somebody else made is left alone. Only the mark is
written: TTL, proxied flag, comment and tags stay.`,
		Example:           examples("pancake goavail adopt www.example.com", "pancake goavail adopt 'www.example.com AAAA'"),
		Args:              arguments(1, 1),
		ValidArgsFunction: f.names(env, recordNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.order(cmd.Context(), env, &o, args[0], (*client.Client).Adopt, recordNames); err != nil || o.wait == 0 {
				return err
			}
			return f.follow(cmd.Context(), env, o.wait, func(s client.Status) (string, bool, error) {
				for _, set := range s.Sets {
					if set.Name != args[0] && setName(set) != args[0] {
						continue
					}
					for _, m := range set.Members {
						if m.Rule == "foreign" && m.In {
							return "waiting for the writer to mark " + setName(set) + " " + m.Value, false, nil
						}
					}
				}
				return args[0] + " is goavail's", true, nil
			})
		},
	}
	o.addReason(cmd)
	o.addWait(cmd)
	return cmd
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// order gives an order and prints it.
func (f *goavailFlags) order(ctx context.Context, env *environment, o *orderFlags, about string,
	give func(*client.Client, context.Context, client.Request) ([]client.Order, error), known func(client.Status) []string,
) error {
	c, err := f.client(env)
	if err != nil {
		return err
	}
	r, err := o.request(env, about)
	if err != nil {
		return err
	}
	orders, err := give(c, ctx, r)
	if pancake.KindOf(err) == pancake.NotFound && known != nil {
		if s, statusErr := c.Status(ctx, false); statusErr == nil {
			err = nearby(err, about, known(s))
		}
	}
	if err != nil {
		return f.advise(err)
	}
	return env.told(orders)
}

// settle waits until a target is in or out of all its records, or stays for a reason.
func (f *goavailFlags) settle(ctx context.Context, env *environment, target string, in bool, limit time.Duration) error {
	if limit == 0 {
		return nil
	}
	word := map[bool]string{true: "in", false: "out"}[in]
	return f.follow(ctx, env, limit, func(s client.Status) (string, bool, error) {
		var waits, kept []string
		done := 0
		for _, set := range s.Sets {
			for _, m := range set.Members {
				switch {
				case m.Target != target:
				case m.In == in:
					done++
				case m.Want == m.In && s.Writer.Place != "" && !s.Provider.Read.IsZero() && m.Rule != "unknown":
					kept = append(kept, fmt.Sprintf("%s %s: %s", setName(set), m.Value, m.Reason))
				default:
					waits = append(waits, setName(set))
				}
			}
		}
		switch {
		case s.DryRun:
			return "", true, pancake.Errorf(pancake.Conflict, "the order stands, but this is a dry run: nothing is changed until \"pancake goavail apply\"")
		case len(waits) > 0 && s.Writer.Place == "":
			return "waiting for a writer: no majority of places agrees on one", false, nil
		case len(waits) > 0:
			return "waiting for " + s.Writer.Place + " to change " + strings.Join(slices.Compact(waits), ", "), false, nil
		case len(kept) > 0:
			return "", true, pancake.Errorf(pancake.Conflict, "the order stands, but %s is not %s everywhere:\n%s", target, word, strings.Join(kept, "\n"))
		case done == 0:
			return target + " is in no record", true, nil
		}
		return fmt.Sprintf("%s is %s, in %s", target, word, plural(done, "record")), true, nil
	})
}

// follow looks at the status until it is done, for at most limit. It says what it waits
// for whenever that changes.
func (f *goavailFlags) follow(ctx context.Context, env *environment, limit time.Duration, look func(client.Status) (text string, done bool, err error)) error {
	c, err := f.client(env)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	told, refusals := "", 0
	for {
		s, err := c.Status(ctx, false)
		text, done := "waiting for the agent to answer", false
		if err == nil {
			text, done, err = look(s)
		} else if pancake.KindOf(err) != pancake.Unavailable {
			return f.advise(err)
		} else {
			err = nil
		}
		// The order has just been given: a first refusal may still be about what was before.
		if done && err != nil {
			if refusals++; refusals > 2 {
				return err
			}
			done = false
		} else {
			refusals = 0
		}
		if text != told && text != "" && (!env.json() || !done) {
			told = text
			if done {
				env.printf("%s\n", clean(text))
			} else {
				env.notef("%s", clean(text))
			}
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errTimeout) {
				return pancake.Errorf(pancake.Failed, "the order stands, but after %s it does not show yet: %s. See \"pancake goavail status\"", limit, told)
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}
