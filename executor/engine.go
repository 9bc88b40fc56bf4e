package executor

import (
	"context"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/checkpoint"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/executor/step"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// watchEngine tells tasks when their containers end, for as long as ctx lasts.
// Each time the engine comes back, every task looks again: what happened
// meanwhile was not heard.
func (n *node) watchEngine(ctx context.Context) {
	wait, down := newBackOff(50*time.Millisecond, 5*time.Second), false
	up := func() error {
		if err := n.resync(ctx); err != nil {
			return err
		}
		wait.Reset()
		if down {
			n.log.InfoContext(ctx, "Docker engine answers again")
		}
		down = false
		return nil
	}
	for ctx.Err() == nil {
		err := n.engine.Watch(ctx, pancake.LabelAgent, n.agent.ID, up,
			func(labels map[string]string) { n.lookAgain(labels[pancake.LabelTask]) })
		if ctx.Err() != nil {
			return
		}
		if !down { // once: the rest is the same
			down = true
			n.log.WarnContext(ctx, "Docker engine lost; tasks keep their state until it is back", "err", err)
		}
		sleep(ctx, wait.NextBackOff())
	}
}

// reconcileEngine compares every now and then: the engine drops events that
// nobody takes at once, and a task whose end was missed would run for ever.
func (n *node) reconcileEngine(ctx context.Context) {
	for {
		sleep(ctx, n.cfg.Reconcile)
		if ctx.Err() != nil {
			return
		}
		if err := n.resync(ctx); err != nil {
			n.log.DebugContext(ctx, "containers not compared", "err", err) // watchEngine says what is wrong
		}
	}
}

func (n *node) lookAgain(id string) {
	if t := n.table.get(id); t != nil {
		t.mailbox.put(func(m *mail) bool {
			m.look = true
			return true
		})
	}
}

// resync has every task look at its container, unless the engine's list says
// that it runs as known, and takes in containers that are ours and unknown.
func (n *node) resync(ctx context.Context) error {
	list, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	containers, err := n.engine.List(list, pancake.LabelAgent, n.agent.ID)
	if err != nil {
		return err
	}
	running := map[string]string{}
	for _, c := range containers {
		id := c.Labels[pancake.LabelTask]
		if c.State == docker.Running {
			running[id] = c.ID
		}
		if id != "" && n.table.get(id) == nil {
			n.adopt(ctx, id, c)
		}
	}
	for id, t := range n.table.all() {
		last, _ := t.published()
		if last.State == pancake.TaskRunning && last.ContainerID != "" && running[id] == last.ContainerID {
			continue
		}
		n.lookAgain(id)
	}
	return nil
}

// adopt takes in a container of ours whose checkpoint is lost. The scheduler
// hears of it as of any other task: it keeps it if it knows it, and kills it
// otherwise, with drain. One that never ran is of no use to anybody.
func (n *node) adopt(ctx context.Context, id string, c docker.Container) {
	now := time.Now()
	rec := checkpoint.Record{
		Assignment: agentlink.Assignment{
			Task: pancake.Task{
				ID: id, RequestID: c.Labels[pancake.LabelRequest], DeployID: c.Labels[pancake.LabelDeploy], AgentID: n.agent.ID,
			},
			Deploy: pancake.Deploy{Container: pancake.Container{Labels: c.Labels}},
		},
		ContainerID: c.ID, StartAsked: c.State != docker.Created, Ran: c.State == docker.Running,
		Status: pancake.TaskStatus{State: pancake.TaskStarting, Sequence: ahead(now), ContainerID: c.ID, Updated: now},
	}
	if c.State == docker.Running {
		rec.Status.State = pancake.TaskRunning
	}
	if c.State == docker.Created {
		rec.Kill = &checkpoint.Kill{Now: true}
	}
	rec.Unacked = []pancake.TaskStatus{rec.Status}
	if n.hold(n.newTask(rec, step.Unknown)) {
		n.table.news(id, false)
		n.log.WarnContext(ctx, "container without a checkpoint taken in", "task", id, "container", c.ID, "state", c.State)
	}
}
