package executor

import (
	"context"
	"errors"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/executor/step"
)

// The longest that the engine may take for an answer. Creating and starting
// take a third of a second, or many when a machine starts everything at once.
const (
	lookTimeout   = 15 * time.Second
	createTimeout = 2 * time.Minute
	drainTimeout  = 3 * time.Second
	removeTimeout = time.Minute
)

// outcome is what came of an action.
type outcome struct {
	container docker.Container // of create (the id alone) and look
	err       error
}

// perform carries an action out while it goes on listening, and gives it up
// half way if something else is wanted and that is safe.
func (t *task) perform(ctx context.Context, verb step.Verb) {
	workCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan outcome, 1)
	t.retryAt = time.Time{}
	w := work{node: t.node, taskID: t.id, spec: t.spec, container: t.rec.ContainerID, grace: t.grace()}
	go func() { done <- w.do(workCtx, verb) }()
	for {
		select {
		case o := <-done:
			t.apply(ctx, verb, o)
			return
		case <-t.mailbox.wake:
			t.read()
			if verb.Interruptible() && step.Next(t.facts(), time.Now()).Do != verb {
				cancel()
			}
		}
	}
}

func (t *task) grace() time.Duration {
	if k := t.rec.Kill; k != nil && k.Grace > 0 {
		return k.Grace
	}
	return t.node.cfg.KillGrace
}

// work is what an action needs to know; it shares nothing with the task.
type work struct {
	node      *node
	taskID    string
	spec      docker.Spec
	container string // id, "" if not known
	grace     time.Duration
}

func (w work) do(ctx context.Context, verb step.Verb) outcome {
	engine := w.node.engine
	limit := map[step.Verb]time.Duration{
		step.Pull: w.node.cfg.PullTimeout, step.Create: createTimeout, step.Start: createTimeout,
		step.Drain: drainTimeout, step.Remove: removeTimeout, step.Look: lookTimeout,
		step.Stop: w.grace + removeTimeout,
	}
	ctx, cancel := context.WithTimeout(ctx, limit[verb])
	defer cancel()
	switch verb {
	case step.Pull:
		return outcome{err: w.pull(ctx)}
	case step.Create:
		id, err := engine.Create(ctx, w.spec)
		return outcome{container: docker.Container{ID: id}, err: err}
	case step.Start:
		return outcome{err: engine.Start(ctx, w.container)}
	case step.Drain:
		return outcome{err: w.node.sidecar.Drain(ctx, serviceID(w.container))}
	case step.Stop:
		return outcome{err: engine.Stop(ctx, w.container, w.grace)}
	case step.Remove:
		return outcome{err: engine.Remove(ctx, w.container)}
	}
	return w.look(ctx)
}

// look finds the task's container by its id, or by its name when a crash kept
// us from learning the id.
func (w work) look(ctx context.Context) outcome {
	name := w.container
	if name == "" {
		name = w.spec.Name
	}
	c, err := w.node.engine.Inspect(ctx, name)
	if err == nil && c.Labels[pancake.LabelTask] != w.taskID {
		err = pancake.Errorf(pancake.NotFound, "container %s belongs to somebody else", name)
	}
	return outcome{container: c, err: err}
}

// pullTries is how often a pull is tried that failed for another reason than a clear no.
const pullTries = 3

func (w work) pull(ctx context.Context) error {
	wait := newBackOff(500*time.Millisecond, 10*time.Second)
	for try := 1; ; try++ {
		err := w.node.engine.Pull(ctx, w.spec.Image)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return pancake.Errorf(pancake.Failed, "pull image %s: not done after %s", w.spec.Image, w.node.cfg.PullTimeout)
		}
		if try == pullTries || ctx.Err() != nil || pancake.KindOf(err) != pancake.Failed {
			return err
		}
		sleep(ctx, wait.NextBackOff())
	}
}

// apply turns the outcome of an action into facts.
func (t *task) apply(ctx context.Context, verb step.Verb, o outcome) {
	if errors.Is(o.err, context.Canceled) {
		return // given up; the facts are as they were
	}
	if pancake.KindOf(o.err) == pancake.Unavailable && verb != step.Drain {
		t.postpone(ctx, verb, o.err)
		return
	}
	switch verb {
	case step.Pull:
		t.applyPull(o.err)
	case step.Create:
		t.applyCreate(ctx, o)
	case step.Start:
		t.applyStart(o.err)
	case step.Drain:
		if o.err != nil {
			t.node.log.WarnContext(ctx, "drain failed; the task is stopped after the usual wait", "task", t.id, "err", o.err)
		}
		t.rec.DrainedAt, t.again = time.Now(), false
		t.save(ctx)
	case step.Look:
		t.applyLook(ctx, o)
	default: // stop, remove
		t.applyGone(ctx, verb, o.err)
	}
	if t.retryAt.IsZero() {
		t.retry.Reset()
	}
}

// postpone puts off what the engine did not answer. Whether a create or start
// took effect is then unknown.
func (t *task) postpone(ctx context.Context, verb step.Verb, err error) {
	t.retryAt, t.trouble = time.Now().Add(t.retry.NextBackOff()), err.Error()
	if verb != step.Pull {
		t.container = step.Unknown
	}
	t.node.log.WarnContext(ctx, "put off", "task", t.id, "action", verb, "until", t.retryAt, "err", err)
}

func (t *task) applyPull(err error) {
	t.pulled = true
	t.needImage = false
	if err != nil {
		t.node.metrics.pullFailures.Inc()
		t.fail(pancake.ReasonImagePull, err)
	}
}

func (t *task) applyCreate(ctx context.Context, o outcome) {
	switch {
	case o.err == nil:
		t.container = step.Created
		// Written down before the start, so that a container that is missing
		// later is known to have run.
		t.rec.ContainerID, t.rec.StartAsked = o.container.ID, true
		t.save(ctx)
	case pancake.KindOf(o.err) == pancake.NotFound && !t.pulled:
		t.needImage = true
	default:
		t.fail(pancake.ReasonCreate, o.err)
	}
}

func (t *task) applyStart(err error) {
	switch pancake.KindOf(err) {
	case "":
		t.container, t.started = step.Running, time.Now()
	case pancake.NotFound:
		t.container = step.Absent
	case pancake.Conflict:
		t.fail(pancake.ReasonPortInUse, err)
	default:
		t.fail(pancake.ReasonStart, err)
	}
}

func (t *task) applyLook(ctx context.Context, o outcome) {
	c := o.container
	switch pancake.KindOf(o.err) {
	case "":
		t.container = map[docker.State]step.ContainerState{
			docker.Created: step.Created, docker.Running: step.Running, docker.Exited: step.Exited,
		}[c.State]
		t.rec.ContainerID, t.exitCode, t.oom, t.started = c.ID, c.ExitCode, c.OOM, c.StartedAt
		if !t.rec.StartAsked { // a start may come next: see applyCreate
			t.rec.StartAsked = true
			t.save(ctx)
		}
	case pancake.NotFound:
		t.container = step.Absent
	default:
		t.postpone(ctx, step.Look, o.err)
	}
}

func (t *task) applyGone(ctx context.Context, verb step.Verb, err error) {
	switch kind := pancake.KindOf(err); {
	case err == nil && verb == step.Remove, kind == pancake.NotFound:
		t.container = step.Absent
	case err == nil:
		t.container = step.Unknown // look how it ended
	default:
		t.postpone(ctx, verb, err)
	}
}

// fail notes that the task cannot be started: TASK_ERROR when it never could
// be, TASK_FAILED when another time or place might do.
func (t *task) fail(reason string, err error) {
	state := pancake.TaskFailed
	if pancake.KindOf(err) == pancake.Invalid {
		state = pancake.TaskError
	}
	t.problem = &step.Problem{State: state, Reason: reason, Message: err.Error()}
}

// serviceID is what Sidecar calls a container.
func serviceID(container string) string { return container[:min(12, len(container))] }

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
