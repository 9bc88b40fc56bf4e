package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/jobspec"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const releaseLong = `Release one version of a service: deploy the image with the given tag as the
service's YAML file says, and follow the deploy until it has succeeded or failed.

The service is the name of its file: "hello" is hello.yml (or hello.yaml) in the
current folder, else in the folder that NMESOS_CONFIG_REPOSITORY names. It may
contain a path. New tasks start beside the old ones; the old ones go when the new
ones are healthy, and stay if they do not become so.

Ctrl-C stops following; the deploy goes on.`

// releaseFlags are the flags of release.
type releaseFlags struct {
	environment string
	tag         string
	force       bool
	dryRun      bool
	detach      bool
	timeout     time.Duration
}

// The results of a release besides the final states of a deploy.
const (
	resultSubmitted = "SUBMITTED"       // with --detach: it is on its way
	resultRunning   = "ALREADY_RUNNING" // the active deploy is this one
	resultDryRun    = "DRY_RUN"         // it would be accepted
)

// releaseOutput is what "release -o json" prints.
type releaseOutput struct {
	// Result is the deploy's final state, WAITING when following it ended
	// before, or one of the results above.
	Result   string              `json:"result"`
	Seconds  float64             `json:"seconds"` // from submitting it
	Warnings jobspec.Diagnostics `json:"warnings,omitempty"`
	client.DeployView
}

func newReleaseCommand(env *environment) *cobra.Command {
	var flags releaseFlags
	cmd := &cobra.Command{
		Use:   "release <service> -e <environment> -t <tag>",
		Short: "Deploy a version of a service and follow it",
		Long:  releaseLong,
		Example: examples(
			"pancake release hello -e dev -t 1",
			"pancake release services/hello.yml -e prod -t v1.4.2 --timeout 10m",
			"pancake release hello -e prod -t v1.4.2 --dry-run    # would it be accepted, and does it fit?",
			"pancake release hello -e dev -t 1 --force            # the same version once more",
			"pancake release hello -e dev -t 1 -o json | jq -r .result",
		),
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			r := &release{env: env, client: c, flags: flags}
			return r.run(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	addEnvironmentFlag(env, cmd, &flags.environment)
	f.StringVarP(&flags.tag, "tag", "t", "", "`tag` of the image: the version to deploy")
	f.BoolVarP(&flags.force, "force", "f", false, "deploy it even if this version is running or was deployed before")
	f.BoolVarP(&flags.dryRun, "dry-run", "n", false, "say what would happen and change nothing")
	f.BoolVarP(&flags.detach, "detach", "d", false, "return when the deploy is accepted")
	f.DurationVar(&flags.timeout, "timeout", 30*time.Minute, "how long to follow the deploy; it goes on afterwards")
	cmd.ValidArgsFunction = completeSpecs(env)
	_ = cmd.RegisterFlagCompletionFunc("tag", cobra.NoFileCompletions)
	return cmd
}

// release is one run of the release command.
type release struct {
	env      *environment
	client   *client.Client
	flags    releaseFlags
	request  pancake.Request
	deploy   pancake.Deploy
	warnings jobspec.Diagnostics
	display  *display
	view     client.DeployView
}

func (r *release) run(ctx context.Context, service string) error {
	spec, warnings, err := r.env.loadSpec(service, r.flags.environment)
	if err != nil {
		return err
	}
	r.warnings = warnings
	if r.flags.tag == "" {
		return pancake.Errorf(pancake.Invalid, "say which version with --tag (-t), for example: pancake release %s -e %s -t 1", service, r.flags.environment)
	}
	if r.flags.force {
		r.request, r.deploy, err = spec.ForceRelease(r.flags.tag, r.env.user(), r.env.now())
	} else {
		r.request, r.deploy, err = spec.Release(r.flags.tag, r.env.user())
	}
	if err != nil {
		return err
	}
	r.display = newDisplay(r.env)
	r.view, err = r.client.Submit(ctx, client.DeployBody{Request: r.request, Deploy: r.deploy, DryRun: r.flags.dryRun})
	switch {
	case pancake.KindOf(err) == pancake.Conflict && !r.flags.force:
		return r.conflict(ctx, err)
	case err != nil:
		return err
	case r.flags.dryRun:
		return r.dryRun()
	case r.flags.detach:
		return r.finish(resultSubmitted, fmt.Sprintf("deploy %s of %s is accepted. Follow it with: %s", r.deploy.ID, r.request.ID, r.followCommand()), nil)
	}
	return r.follow(ctx)
}

// conflict finds out why the scheduler refused. A deploy that is running or on
// its way already is what was asked for.
func (r *release) conflict(ctx context.Context, refused error) error {
	now, err := r.client.Request(ctx, r.request.ID)
	if err != nil {
		return refused // what the scheduler said first is worth more
	}
	name := serviceName(r.request) + " " + r.deploy.ID
	r.view = client.DeployView{Deploy: r.deploy, Tasks: now.Tasks, Unplaced: now.Unplaced}
	switch {
	case r.deploy.ID == now.Request.ActiveDeploy && now.Active != nil:
		r.view.Deploy = *now.Active
		return r.finish(resultRunning, name+" is already running; nothing to do (use --force to deploy it again)", nil)
	case r.deploy.ID == now.Request.PendingDeploy && now.Pending != nil:
		r.view.Deploy = *now.Pending
		if r.flags.dryRun || r.flags.detach {
			return r.finish(resultSubmitted, name+" is already on its way", nil)
		}
		return r.follow(ctx)
	}
	if _, err := r.client.Deploy(ctx, r.request.ID, r.deploy.ID); err == nil {
		return pancake.Errorf(pancake.Conflict, "There is already a deploy with id %s, use --force to force the redeploy", r.deploy.ID)
	}
	return refused
}

func (r *release) dryRun() error {
	r.say("would deploy %s to %s as %s with %s", r.deploy.Container.Image, r.request.ID, r.deploy.ID, plural(r.request.Instances, "instance"))
	for _, t := range r.view.Tasks {
		if t.DeployID == r.deploy.ID {
			r.say("%s would start on %s", label(serviceName(r.request), t.Instance), t.Hostname)
		}
	}
	if len(r.view.Unplaced) > 0 {
		return r.finish(resultDryRun, "", pancake.Errorf(pancake.NoRoom, "it does not fit: %s", whyUnplaced(r.view.Unplaced[0], r.env.now())))
	}
	return r.finish(resultDryRun, "nothing was changed", nil)
}

// follow shows the deploy until it is final.
func (r *release) follow(ctx context.Context) error {
	r.say("deploying %s to %s as %s", r.deploy.Container.Image, r.request.ID, r.deploy.ID)
	if before, now := r.view.Deploy.Progress.Before, r.request.Instances; before != 0 && before != now {
		r.say("%s instead of %d, as its file says", plural(now, "instance"), before)
	}
	var succeeded time.Time
	w := &watcher{client: r.client, request: r.request.ID, timeout: r.flags.timeout, silent: r.display.silent}
	w.look = func(ctx context.Context) (bool, error) {
		view, err := r.client.Deploy(ctx, r.request.ID, r.deploy.ID)
		if err != nil {
			return false, err
		}
		r.view = view
		r.display.show(r.board())
		if view.Deploy.State != pancake.DeploySucceeded {
			return view.Deploy.State.Final(), nil
		}
		if succeeded.IsZero() {
			succeeded = r.env.now()
		}
		return r.drained() || r.env.now().Sub(succeeded) > drainPatience, nil
	}
	err := w.run(ctx)
	again := "Follow it with: " + r.followCommand()
	switch {
	case err == nil:
		return r.outcome()
	case ctx.Err() != nil:
		r.env.notef("stopped following; the deploy goes on. %s", again)
		return err
	case errors.Is(err, errTimeout):
		return r.finish(string(r.view.Deploy.State), "", pancake.Errorf(pancake.Failed,
			"the deploy was not finished after %s; it goes on. %s", r.flags.timeout, again))
	}
	return pancake.Errorf(pancake.KindOf(err), "lost sight of deploy %s of %s, which goes on if the scheduler does. %s\n%w",
		r.deploy.ID, r.request.ID, again, err)
}

// drainPatience bounds the wait, after success, for the old tasks to be taken
// out of traffic: an agent that is away cannot say that it has.
const drainPatience = 5 * time.Second

// drained reports whether the tasks of other deploys are on their way out, so
// that whoever asks next is answered by this one.
func (r *release) drained() bool {
	for _, t := range r.view.Tasks {
		unwatched := t.Status.State == pancake.TaskKilling && t.Status.Health == pancake.HealthUnwatched
		if t.DeployID != r.deploy.ID && t.Live() && t.Status.Health != pancake.HealthDraining && !unwatched {
			return false
		}
	}
	return true
}

// outcome tells how the deploy ended.
func (r *release) outcome() error {
	d, took := r.view.Deploy, r.display.elapsed()
	if d.State == pancake.DeploySucceeded {
		state := r.env.paint().paint(green, string(d.State))
		return r.finish(string(d.State), fmt.Sprintf("%s in %s: %s runs %s", state, took, r.request.ID, d.ID), nil)
	}
	for _, f := range d.Failures {
		r.say("%s", strings.Join(failureLines(r.view, f, serviceName(r.request)), "\n"))
	}
	for _, t := range r.view.Tasks {
		if t.DeployID != d.ID && t.Desired == pancake.DesiredRun && t.Live() {
			r.say("the deploy before it, %s, goes on", t.DeployID)
			break
		}
	}
	return r.finish(string(d.State), "", pancake.Errorf(pancake.Failed, "deploy %s of %s %s after %s%s",
		d.ID, r.request.ID, d.State, took, prefixed(": ", clean(d.Message))))
}

// failureLines say which task failed, where, why, and what it printed last. A
// message that the deploy has as well is left to it.
func failureLines(view client.DeployView, f pancake.DeployFailure, service string) []string {
	what := f.TaskID
	for _, t := range view.Tasks {
		if t.ID == f.TaskID {
			what = label(service, t.Instance) + " on " + t.Hostname
		}
	}
	message := f.Message
	if message == view.Deploy.Message {
		message = ""
	}
	lines := []string{joinNotEmpty(": ", what, string(f.Reason), clean(message))}
	for _, line := range f.Log {
		lines = append(lines, "  | "+clean(line))
	}
	return lines
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// finish prints the result, as a document with -o json, else the message, and
// returns the failure, if it is one.
func (r *release) finish(result, message string, failure error) error {
	if r.env.json() {
		seconds := r.env.now().Sub(r.display.start).Seconds()
		return cmp.Or(r.env.printJSON(releaseOutput{result, seconds, r.warnings, r.view}), failure)
	}
	if message != "" {
		r.env.printf("%s\n", message)
	}
	return failure
}

// say prints a line for people.
func (r *release) say(format string, args ...any) {
	if !r.env.json() {
		r.env.printf(format+"\n", args...)
	}
}

func (r *release) board() board {
	b := board{service: serviceName(r.request), deploy: r.deploy.ID, tasks: r.view.Tasks, unplaced: r.view.Unplaced}
	if d := r.view.Deploy; d.State == pancake.DeployWaiting && d.Strategy.InstancesPerStep > 0 && d.Progress.Target > 0 {
		b.note = fmt.Sprintf("step to %d of %s", d.Progress.Target, plural(r.request.Instances, "instance"))
	}
	return b
}

func (r *release) followCommand() string {
	return fmt.Sprintf("pancake status %s --watch", r.request.ID)
}
