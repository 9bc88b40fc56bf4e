package executor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/checkpoint"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/executor/step"
)

// maxUnacked is how many statuses of a task are kept while nobody acknowledges
// them. Each is complete, so the oldest can go.
const maxUnacked = 16

// task is one task of the agent. Its goroutine, run, alone touches what is
// below "owned"; everybody else leaves mail and reads what was published.
type task struct {
	id      string
	node    *node
	mailbox *mailbox

	mu      sync.Mutex
	status  pancake.TaskStatus   // published: the last
	unacked []pancake.TaskStatus // published: those to be acknowledged, oldest first

	// owned by run
	rec       checkpoint.Record
	spec      docker.Spec
	accepted  time.Time
	container step.ContainerState
	exitCode  int
	oom       bool
	started   time.Time
	needImage bool
	pulled    bool
	look      bool // an event came while something was under way
	again     bool // the drain that the record knows of was before this run
	health    health
	sickSince time.Time
	problem   *step.Problem
	retryAt   time.Time
	trouble   string
	retry     *backoff.ExponentialBackOff
}

// newTask makes the task of a record. What its container does is known only if
// there cannot be one yet.
func (n *node) newTask(rec checkpoint.Record, container step.ContainerState) *task {
	t := &task{
		id: rec.TaskID(), node: n, mailbox: newMailbox(),
		status: rec.Status, unacked: slices.Clone(rec.Unacked),
		rec: rec, accepted: time.Now(), container: container, started: rec.Status.Started,
		spec:      containerSpec(rec.Assignment, n.agent, n.address, n.cfg.CPULimit),
		needImage: rec.Assignment.Deploy.Container.ForcePull,
		retry:     newBackOff(100*time.Millisecond, 5*time.Second),
		health:    health{state: rec.Status.Health, note: rec.Status.HealthNote},
		again:     !rec.DrainedAt.IsZero(),
	}
	if t.spec.Labels[pancake.LabelSidecarDiscover] == "false" {
		t.health = health{state: pancake.HealthUnwatched}
	}
	t.mailbox.mail.health = t.health
	return t
}

// run takes the task through its life, one action at a time, and returns when
// the scheduler has acknowledged its end, or ctx is done: then the container is
// left alone, for the next start to find.
func (t *task) run(ctx context.Context) {
	for ctx.Err() == nil {
		t.read()
		if t.look && t.container != step.Absent {
			t.container, t.retryAt = step.Unknown, time.Time{}
		}
		t.look = false
		switch a := step.Next(t.facts(), time.Now()); a.Do {
		case step.Wait:
			t.wait(ctx, a.Until)
		case step.Report:
			t.report(ctx, a)
		case step.Done:
			if t.settled(ctx) {
				return
			}
			t.wait(ctx, time.Time{})
		default:
			t.perform(ctx, a.Do)
		}
	}
}

// wait waits for mail, for until unless it is zero, or for ctx.
func (t *task) wait(ctx context.Context, until time.Time) {
	var alarm <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-ctx.Done():
	case <-t.mailbox.wake:
	case <-alarm:
	}
}

// read takes in what others left in the mailbox.
func (t *task) read() {
	m := t.mailbox.take()
	t.look = t.look || m.look
	if m.kill != nil {
		t.rec.Kill = m.kill
	}
	t.acknowledge(m.acked)
	if t.health.state == pancake.HealthUnwatched {
		return
	}
	t.health = m.health
	if m.health.state == pancake.Healthy {
		t.rec.WasHealthy = true
	}
	switch sick := m.health.heard && m.health.state == pancake.Unhealthy; {
	case !sick:
		t.sickSince = time.Time{}
	case t.sickSince.IsZero():
		t.sickSince = time.Now()
	}
}

// acknowledge drops the statuses up to a sequence. It is not written down by
// itself: after a restart they are sent once more, which does no harm.
func (t *task) acknowledge(sequence uint64) {
	before := len(t.rec.Unacked)
	t.rec.Unacked = slices.DeleteFunc(t.rec.Unacked, func(s pancake.TaskStatus) bool { return s.Sequence <= sequence })
	if len(t.rec.Unacked) != before {
		t.mu.Lock()
		t.unacked = slices.Clone(t.rec.Unacked)
		t.mu.Unlock()
	}
}

// settled reports whether the task's end was acknowledged; then nothing of it is kept.
func (t *task) settled(ctx context.Context) bool {
	if len(t.rec.Unacked) > 0 {
		return false
	}
	if err := t.node.store.Delete(t.id); err != nil {
		t.node.log.ErrorContext(ctx, "checkpoint stays behind", "task", t.id, "err", err)
	}
	t.node.table.retire(t.id, t.rec.Status)
	return true
}

func (t *task) facts() step.Facts {
	want := step.Run
	if k := t.rec.Kill; k != nil {
		want = step.Kill
		if k.Now {
			want = step.KillNow
		}
	}
	return step.Facts{
		Want:     want,
		Reported: t.rec.Status.State, ReportedHealth: t.rec.Status.Health, ReportedReason: t.rec.Status.Reason,
		ReportedNote: t.rec.Status.HealthNote, ReportedAt: t.rec.Status.Updated,
		Ran: t.rec.Ran, StartAsked: t.rec.StartAsked, WasHealthy: t.rec.WasHealthy,
		DrainedAt: t.rec.DrainedAt, DrainAgain: t.again,
		Container: t.container, ExitCode: t.exitCode, OOM: t.oom, NeedImage: t.needImage,
		Health: t.health.state, Note: t.health.note, UnhealthySince: t.sickSince,
		Problem: t.problem, RetryAt: t.retryAt, Trouble: t.trouble,
		Image: t.spec.Image, DrainFor: t.node.cfg.DrainDuration, UnhealthyAfter: t.node.cfg.UnhealthyAfter,
	}
}

// report makes a status, writes it down and hands it to the session. A full
// disk must not silence the task: the status is sent even if it cannot be kept.
func (t *task) report(ctx context.Context, a step.Action) {
	last := t.rec.Status
	s := pancake.TaskStatus{
		State: a.State, Sequence: last.Sequence + 1, Reason: a.Reason, Message: a.Message,
		Health: t.health.state, HealthNote: t.health.note,
		ContainerID: t.rec.ContainerID, Started: t.started, Updated: time.Now(),
	}
	if a.State == last.State && a.Reason == "" {
		s.Reason, s.Message = last.Reason, last.Message // only the health is new
	}
	if a.State.Terminal() {
		s.ExitCode = t.exitCode
	}
	if a.State == pancake.TaskFailed && t.container == step.Exited {
		lines, err := t.node.engine.LastLines(ctx, t.rec.ContainerID)
		if err != nil {
			t.node.log.WarnContext(ctx, "last lines of a failed task not read", "task", t.id, "err", err)
		}
		s.Log = lines
	}
	t.rec.Status = s
	t.rec.Ran = t.rec.Ran || s.State == pancake.TaskRunning
	t.rec.Unacked = append(t.rec.Unacked, s)
	if extra := len(t.rec.Unacked) - maxUnacked; extra > 0 {
		t.rec.Unacked = slices.Delete(t.rec.Unacked, 0, extra)
	}
	t.save(ctx)
	t.node.metrics.reported(last.State, s.State, t.accepted)
	t.mu.Lock()
	t.status, t.unacked = s, slices.Clone(t.rec.Unacked)
	t.mu.Unlock()
	t.node.table.news(t.id, false)
	t.node.log.InfoContext(ctx, "task", "task", t.id, "state", s.State, "health", s.Health,
		"reason", s.Reason, "message", s.Message, "container", s.ContainerID)
}

// published returns the last status and those that are to be acknowledged. The slice is not to be changed.
func (t *task) published() (pancake.TaskStatus, []pancake.TaskStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status, t.unacked
}

func (t *task) save(ctx context.Context) {
	if err := t.node.store.Save(t.rec); err != nil {
		t.node.log.ErrorContext(ctx, "checkpoint not written; is the disk full?", "task", t.id, "err", err)
	}
}

// newBackOff spaces retries from first to cap, with jitter.
func newBackOff(first, most time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = first, most, 2
	b.Reset()
	return b
}
