package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const statusLong = `Show what runs, and why something does not.

Without an argument: all requests, a line each, and what the agents have left.
With a request (dev_hello) or a service: its deploys and tasks. A service that
was released to one environment needs no -e. An instance that waits for an
agent says what the agents lack.`

func newStatusCommand(env *environment) *cobra.Command {
	var environment string
	var why, watch bool
	cmd := &cobra.Command{
		Use:   "status [request or service]",
		Short: "Show what runs, and why something does not",
		Long:  statusLong,
		Example: examples(
			"pancake status",
			"pancake status hello -e dev",
			"pancake status dev_hello --why      # with the last lines of tasks that failed",
			"pancake status dev_hello --watch    # until Ctrl-C",
			"pancake status -o json",
		),
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			s := &status{env: env, client: c, why: why}
			if len(args) == 0 && environment != "" {
				return pancake.Errorf(pancake.Invalid, "--environment needs a service, for example: pancake status hello -e %s", environment)
			}
			if len(args) > 0 {
				view, err := resolveRequest(cmd.Context(), s.client, args[0], environment)
				if err != nil {
					return err
				}
				s.request = view.Request.ID
			}
			if watch {
				return s.watch(cmd.Context())
			}
			return s.print(cmd.Context())
		},
	}
	addEnvironmentFlag(env, cmd, &environment)
	cmd.Flags().BoolVar(&why, "why", false, "explain what does not run: each reason in full, and what failed tasks printed last")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing until Ctrl-C")
	cmd.ValidArgsFunction = completeRequests(env, false)
	return cmd
}

// status is one run of the status command.
type status struct {
	env     *environment
	client  *client.Client
	request string // "" means all
	why     bool
}

func (s *status) print(ctx context.Context) error {
	view, err := s.read(ctx)
	switch {
	case err != nil:
		return err
	case s.env.json():
		return s.env.printJSON(view)
	}
	width, _ := s.env.terminal(s.env.stdout)
	for _, line := range view.table(s.env.now(), s.env.paint()) {
		if width > 0 && s.request == "" && !s.why {
			line = cut(line, width) // one line each; what is cut off is shown with the request
		}
		s.env.printf("%s\n", line)
	}
	return nil
}

func (s *status) watch(ctx context.Context) error {
	if s.env.json() {
		return pancake.Errorf(pancake.Invalid, "--watch has no JSON form; leave out one of --watch and -o json")
	}
	d := newDisplay(s.env)
	w := &watcher{client: s.client, request: s.request, silent: d.silent}
	w.look = func(ctx context.Context) (bool, error) {
		view, err := s.read(ctx)
		if err == nil {
			d.show(view)
		}
		return false, err
	}
	return w.run(ctx)
}

func (s *status) read(ctx context.Context) (shown, error) {
	if s.request == "" {
		return s.readAll(ctx)
	}
	return s.readOne(ctx)
}

func (s *status) readAll(ctx context.Context) (shown, error) {
	requests, err := s.client.Requests(ctx)
	if err != nil {
		return nil, err
	}
	agents, err := s.client.Agents(ctx)
	return overview{requests, agents, s.why}, err
}

func (s *status) readOne(ctx context.Context) (shown, error) {
	view, err := s.client.Request(ctx, s.request)
	if err != nil {
		return nil, err
	}
	out := detail{RequestView: view, why: s.why}
	if out.Deploys, err = s.client.Deploys(ctx, s.request); err != nil {
		return nil, err
	}
	if s.why {
		if out.Ended, err = s.client.Tasks(ctx, s.request, true); err != nil {
			return nil, err
		}
		out.Ended = lastFailed(out.Ended)
	}
	return out, nil
}

// overview is what status shows of everything.
type overview struct {
	Requests []client.RequestView `json:"requests"`
	Agents   []client.AgentView   `json:"agents"`
	why      bool
}

func (o overview) table(now time.Time, p palette) []string {
	var lines []string
	if len(o.Requests) == 0 {
		lines = append(lines, "nothing was released yet; try: pancake release <service> -e <environment> -t <tag>")
	} else {
		header := []string{"REQUEST", p.paint(plain, "STATE"), "HEALTHY", "DEPLOY", "AGE", "NOTE"}
		var rows [][]string
		for _, v := range o.Requests {
			r := v.Request
			rows = append(rows, []string{r.ID, p.state(word(r.State)), healthyOf(v, now), r.ActiveDeploy, requestAge(v, now), requestNote(v, now)})
		}
		lines = append(lines, table(header, rows)...)
	}
	if o.why {
		for _, v := range o.Requests {
			lines = append(lines, whyLines(v, nil, now)...)
		}
	}
	return append(lines, "", agentSummary(o.Agents))
}

func (o overview) facts(now time.Time) []fact {
	var out []fact
	for _, v := range o.Requests {
		text := fmt.Sprintf("%s %s, %s healthy%s", v.Request.ID, word(v.Request.State), healthyOf(v, now), prefixed(", deploy ", v.Request.ActiveDeploy))
		out = append(out, fact{v.Request.ID, text + prefixed(": ", requestNote(v, now))})
	}
	return append(out, fact{"agents", agentSummary(o.Agents)})
}

// healthyOf prints how many of the wanted instances are healthy: 2/3.
func healthyOf(v client.RequestView, now time.Time) string {
	n := 0
	for _, t := range v.Tasks {
		if healthy(t, now) && (v.Request.ActiveDeploy == "" || t.DeployID == v.Request.ActiveDeploy) {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, v.Request.Instances)
}

// requestAge is the age of what runs: the active deploy, else the request.
func requestAge(v client.RequestView, now time.Time) string {
	if v.Active != nil {
		return age(now, v.Active.Created)
	}
	return age(now, v.Request.Created)
}

// requestNote says what a request is busy with or suffers from.
func requestNote(v client.RequestView, now time.Time) string {
	var parts []string
	if v.Request.PendingDeploy != "" {
		parts = append(parts, "deploying "+v.Request.PendingDeploy)
	}
	if len(v.Unplaced) > 0 {
		parts = append(parts, fmt.Sprintf("%s waiting: %s", plural(len(v.Unplaced), "instance"), whyUnplaced(v.Unplaced[0], now)))
	} else if v.LastFailure != "" {
		parts = append(parts, "last failure: "+clean(v.LastFailure))
	}
	return joinNotEmpty("; ", parts...)
}
