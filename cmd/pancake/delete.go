package main

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func newDeleteCommand(env *environment) *cobra.Command {
	var environment string
	var yes bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "delete <service> -e <environment>",
		Short: "Stop a service and forget it",
		Long: `Stop all tasks of a service, after they have been taken out of traffic, and forget
the service. Asks first; where nobody can answer, --yes is needed.

Ctrl-C stops waiting; the scheduler goes on.`,
		Example: examples("pancake delete hello -e dev", "pancake delete dev_hello --yes"),
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			view, err := resolveRequest(cmd.Context(), c, args[0], environment)
			if err != nil {
				return err
			}
			if !yes {
				if err := confirmDelete(cmd.Context(), env, view); err != nil {
					return err
				}
			}
			return deleteRequest(cmd.Context(), env, c, view.Request, timeout)
		},
	}
	addEnvironmentFlag(env, cmd, &environment)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait; the scheduler goes on afterwards")
	cmd.ValidArgsFunction = completeRequests(env, false)
	return cmd
}

// confirmDelete asks the person at the terminal.
func confirmDelete(ctx context.Context, env *environment, view client.RequestView) error {
	if !env.isTerminal(env.stdin) || env.json() {
		return pancake.Errorf(pancake.Invalid, "delete asks before it stops %s and nobody can answer here: add --yes", view.Request.ID)
	}
	env.printf("Stop and forget %s, which has %s? [y/N] ", view.Request.ID, plural(len(view.Tasks), "task"))
	answer := make(chan string, 1)
	go func() { // ends with the answer or, after Ctrl-C, with the process
		line, _ := bufio.NewReader(env.stdin).ReadString('\n') // an end of input is a no
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
	}
	return pancake.Errorf(pancake.Failed, "%s was not deleted", view.Request.ID)
}

// deleteRequest deletes a request and waits until it is gone.
func deleteRequest(ctx context.Context, env *environment, c *client.Client, request pancake.Request, timeout time.Duration) error {
	d := newDisplay(env)
	if err := c.Delete(ctx, request.ID); err != nil {
		return err
	}
	w := &watcher{client: c, request: request.ID, timeout: timeout, silent: d.silent}
	w.look = func(ctx context.Context) (bool, error) {
		view, err := c.Request(ctx, request.ID)
		switch {
		case pancake.KindOf(err) == pancake.NotFound, err == nil && view.Request.State != pancake.RequestDeleting: // or is there anew
			d.show(board{})
			return true, nil
		case err != nil:
			return false, err
		}
		d.show(detail{RequestView: view}.board())
		return false, nil
	}
	err := w.run(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		env.notef("stopped waiting; the scheduler goes on. See: pancake status %s", request.ID)
		return err
	case errors.Is(err, errTimeout):
		return pancake.Errorf(pancake.Failed, "%s is not gone after %s; the scheduler goes on. See: pancake status %s", request.ID, timeout, request.ID)
	case err != nil:
		return err
	case env.json():
		request.State = pancake.RequestDeleted
		return env.printJSON(request)
	}
	env.printf("%s in %s: %s is gone\n", env.paint().paint(green, "DELETED"), d.elapsed(), request.ID)
	return nil
}
