package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const logsLong = `Print what the tasks of a service print: their stdout to stdout, their stderr to
stderr. With several instances each line begins with the instance.

With -f new lines follow as they come, also those of tasks that replace others.
When no task runs, the last one that ended says why, with its last lines.`

// repeatedLines is how many lines are printed again after a broken stream, in
// place of those that may have been missed.
const repeatedLines = 20

func newLogsCommand(env *environment) *cobra.Command {
	l := &logs{env: env}
	var environment string
	cmd := &cobra.Command{
		Use:   "logs <service, request or task>",
		Short: "Print what tasks print",
		Long:  logsLong,
		Example: examples(
			"pancake logs hello -e dev",
			"pancake logs dev_hello -f --tail 0    # everything so far, then what comes",
			"pancake logs dev_hello --instance 2",
		),
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if l.tail < 0 || l.instance < 0 {
				return pancake.Errorf(pancake.Invalid, "--tail and --instance take no negative number")
			}
			var err error
			if l.client, err = env.client(cmd.Context()); err != nil {
				return err
			}
			return l.run(cmd.Context(), args[0], environment)
		},
	}
	addEnvironmentFlag(env, cmd, &environment)
	cmd.Flags().BoolVarP(&l.follow, "follow", "f", false, "go on with new lines until Ctrl-C")
	cmd.Flags().IntVar(&l.tail, "tail", 100, "`number` of lines to begin with, per task; 0 for all")
	cmd.Flags().IntVar(&l.instance, "instance", 0, "only the instance with this `number`; 0 for all")
	cmd.ValidArgsFunction = completeRequests(env, true)
	return cmd
}

// logs is one run of the logs command.
type logs struct {
	env      *environment
	client   *client.Client
	follow   bool
	tail     int
	instance int

	service  string
	prefixed bool
	mu       sync.Mutex // one line at a time
}

func (l *logs) run(ctx context.Context, name, environment string) error {
	view, err := resolveRequest(ctx, l.client, name, environment)
	if pancake.KindOf(err) == pancake.NotFound && strings.Contains(name, "-") {
		// The ids of tasks have dashes, those of requests have none.
		task, taskErr := l.client.Task(ctx, name)
		if taskErr == nil {
			return l.oneTask(ctx, task)
		}
		if pancake.KindOf(taskErr) == pancake.Forbidden {
			return taskErr
		}
	}
	if err != nil {
		return err
	}
	l.service = serviceName(view.Request)
	l.prefixed = max(view.Request.Instances, view.Request.As(view.Pending).Instances) > 1 && l.instance == 0
	if l.follow {
		return l.followRequest(ctx, view.Request.ID)
	}
	tasks := l.wanted(view.Tasks)
	if len(tasks) == 0 {
		return l.ended(ctx, view.Request.ID)
	}
	leaving := func(t pancake.Task) bool { return t.Desired == pancake.DesiredKill }
	if staying := slices.DeleteFunc(slices.Clone(tasks), leaving); len(staying) > 0 {
		tasks = staying // the ones that are being replaced would only confuse
	}
	l.prefixed = len(tasks) > 1
	var failed error
	for _, t := range tasks {
		if err := l.client.Logs(ctx, t.ID, l.tail, false, l.printer(t)); err != nil {
			failed = cmp.Or(failed, pancake.Errorf(pancake.KindOf(err), "%s: %w", label(l.service, t.Instance), err))
		}
	}
	return failed
}

// wanted picks the live tasks of the instances asked for.
func (l *logs) wanted(tasks []pancake.Task) []pancake.Task {
	return slices.DeleteFunc(sortTasks(tasks), func(t pancake.Task) bool {
		return !t.Live() || l.instance > 0 && t.Instance != l.instance
	})
}

// oneTask prints the log of a task that was named by its id.
func (l *logs) oneTask(ctx context.Context, t pancake.Task) error {
	l.service = t.RequestID
	switch {
	case !t.Live():
		return l.remember(t)
	case l.follow:
		l.stream(ctx, t, l.tail)
		return ctx.Err()
	}
	return l.client.Logs(ctx, t.ID, l.tail, false, l.printer(t))
}

// ended explains why there is no log: the last task that ended, and its last lines.
func (l *logs) ended(ctx context.Context, request string) error {
	tasks, err := l.client.Tasks(ctx, request, true)
	if err != nil {
		return err
	}
	tasks = slices.DeleteFunc(tasks, func(t pancake.Task) bool { return l.instance > 0 && t.Instance != l.instance })
	if len(tasks) == 0 {
		what := request
		if l.instance > 0 {
			what = "instance " + fmt.Sprint(l.instance) + " of " + request
		}
		return pancake.Errorf(pancake.NotFound, "no task of %s has run yet. See: pancake status %s --why", what, request)
	}
	return l.remember(slices.MaxFunc(tasks, func(a, b pancake.Task) int { return a.Created.Compare(b.Created) }))
}

// remember prints what is left of a task that ended.
func (l *logs) remember(t pancake.Task) error {
	l.env.notef("no task runs; the last one ended: %s", endedLines(t, l.service, l.env.now())[0])
	for _, line := range t.Status.Log {
		l.env.printf("%s\n", line)
	}
	return nil
}

// followRequest prints what all tasks of a request print, until ctx ends or the
// request is gone.
func (l *logs) followRequest(ctx context.Context, request string) error {
	ctx, cancel := context.WithCancel(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel()
	seen := map[string]bool{}
	first := true
	w := &watcher{client: l.client, request: request, silent: l.silent}
	w.look = func(ctx context.Context) (bool, error) {
		view, err := l.client.Request(ctx, request)
		if err != nil {
			return false, err
		}
		tail := 0 // tasks that start from now on are printed from their beginning
		if first {
			tail = l.tail
		}
		for _, t := range l.wanted(view.Tasks) {
			if !seen[t.ID] {
				seen[t.ID] = true
				streams.Go(func() { l.stream(ctx, t, tail) })
			}
		}
		if first && len(seen) == 0 {
			l.notef("no task of %s runs; waiting for one", request)
		}
		first = false
		return false, nil
	}
	err := w.run(ctx)
	if pancake.KindOf(err) == pancake.NotFound {
		l.notef("%s was deleted", request)
		return nil
	}
	return err
}

// stream prints the log of a task until the task or ctx ends. A stream that
// breaks, or that is not there yet because the container is not, is opened again.
func (l *logs) stream(ctx context.Context, t pancake.Task, tail int) {
	retry := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 5 * time.Second}
	retry.Reset()
	name := label(l.service, t.Instance)
	printed := false
	printLine := l.printer(t)
	for {
		// Why the stream ended does not matter, only whether the task did.
		_ = l.client.Logs(ctx, t.ID, tail, true, func(line client.LogLine) error {
			printed = true
			retry.Reset()
			return printLine(line)
		})
		select {
		case <-time.After(retry.NextBackOff()): // the end of a container takes a moment to be known
		case <-ctx.Done():
			return
		}
		now, err := l.client.Task(ctx, t.ID)
		switch {
		case err == nil && !now.Live():
			l.notef("%s", endedLines(now, l.service, l.env.now())[0])
			return
		case pancake.KindOf(err) == pancake.NotFound:
			l.notef("%s has ended", name)
			return
		case printed:
			l.notef("the log of %s was interrupted; its last lines are repeated", name)
			tail, printed = repeatedLines, false
		}
	}
}

// printer prints the lines of one task.
func (l *logs) printer(t pancake.Task) func(client.LogLine) error {
	prefix := ""
	if l.prefixed {
		prefix = label(l.service, t.Instance) + " | "
	}
	return func(line client.LogLine) error {
		out := l.env.stdout
		if line.Source == "stderr" {
			out = l.env.stderr
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		_, err := fmt.Fprintf(out, "%s%s\n", prefix, line.Text)
		return err
	}
}

func (l *logs) silent(err error) {
	if err == nil {
		l.notef("the scheduler answers again")
		return
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	l.notef("%s; waiting for it to come back", first)
}

// notef is environment.notef between two lines of a log.
func (l *logs) notef(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.env.notef(format, args...)
}
