package main

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func newScaleCommand(env *environment) *cobra.Command {
	var environment string
	var instances int
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "scale <service> -e <environment> <instances>",
		Short: "Change the number of instances of a service",
		Long: `Change how many instances of a service run, and wait until that many are healthy
and the surplus ones are gone. The next release sets the number of its file again.

Ctrl-C stops waiting; the scheduler goes on.`,
		Example: examples(
			"pancake scale hello -e dev 3",
			"pancake scale dev_hello --instances 3",
		),
		Args: arguments(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				n, err := strconv.Atoi(args[1])
				if err != nil || instances > 0 && instances != n {
					return pancake.Errorf(pancake.Invalid, "say the number of instances once, for example: pancake scale %s 3", args[0])
				}
				instances = n
			}
			if instances < 1 {
				return pancake.Errorf(pancake.Invalid, "say how many instances, 1 or more, for example: pancake scale %s 3. To stop all: pancake delete %s", args[0], args[0])
			}
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			view, err := resolveRequest(cmd.Context(), c, args[0], environment)
			if err != nil {
				return err
			}
			return scale(cmd.Context(), env, c, view.Request, instances, timeout)
		},
	}
	addEnvironmentFlag(env, cmd, &environment)
	cmd.Flags().IntVar(&instances, "instances", 0, "`number` of instances, as the argument says it")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait; the scheduler goes on afterwards")
	cmd.ValidArgsFunction = completeRequests(env, false)
	return cmd
}

// scale asks for n instances and waits until they are what runs.
func scale(ctx context.Context, env *environment, c *client.Client, request pancake.Request, n int, timeout time.Duration) error {
	d := newDisplay(env)
	if _, err := c.Scale(ctx, request.ID, n); err != nil {
		return err
	}
	if !env.json() {
		env.printf("scaling %s from %d to %s\n", request.ID, request.Instances, plural(n, "instance"))
	}
	var view client.RequestView
	w := &watcher{client: c, request: request.ID, timeout: timeout, silent: d.silent}
	w.look = func(ctx context.Context) (done bool, err error) {
		if view, err = c.Request(ctx, request.ID); err != nil {
			return false, err
		}
		d.show(detail{RequestView: view}.board())
		if now := view.Request.Instances; now != n {
			return false, pancake.Errorf(pancake.Conflict, "%s is scaled to %s meanwhile, by somebody else", request.ID, plural(now, "instance"))
		}
		return scaled(view, n, env.now()), nil
	}
	err := w.run(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		env.notef("stopped waiting; the scheduler goes on. See: pancake status %s", request.ID)
		return err
	case errors.Is(err, errTimeout):
		err = pancake.Errorf(pancake.Failed, "%s has %s of its instances healthy after %s; the scheduler goes on. See: pancake status %s --why",
			request.ID, healthyOf(view, env.now()), timeout, request.ID)
	case err != nil:
		return err
	}
	if env.json() {
		return cmp.Or(env.printJSON(view), err)
	}
	if err == nil {
		env.printf("%s in %s: %s has %s\n", env.paint().paint(green, "DONE"), d.elapsed(), request.ID, plural(n, "instance"))
	}
	return err
}

// scaled reports whether n healthy instances run and nothing else does.
func scaled(v client.RequestView, n int, now time.Time) bool {
	alive, well := 0, 0
	for _, t := range v.Tasks {
		if t.Live() {
			alive++
		}
		if healthy(t, now) {
			well++
		}
	}
	return v.Request.Instances == n && alive == n && well == n
}
