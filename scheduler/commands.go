package scheduler

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/api"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/deploy"
	"github.com/pancake-stack/pancake/scheduler/plan"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// Submit stores a request and starts a deploy of it. It fails with Conflict
// while another is pending, if the id is taken, or the request is going; with
// NoRoom if its first step does not fit. Then nothing has changed.
func (l *lead) Submit(ctx context.Context, body client.DeployBody) (client.DeployView, error) {
	planned := make(chan client.DeployView, 1)
	err := l.askForRoom(ctx, func() error {
		view, err := l.submit(body)
		if err == nil {
			planned <- view
		}
		return err
	})
	if err != nil {
		return client.DeployView{}, err
	}
	if body.DryRun {
		return <-planned, nil
	}
	var view client.DeployView
	l.Read(func(v api.View) { view, err = v.Deploy(body.Request.ID, body.Deploy.ID) })
	return view, err
}

// askForRoom is ask for what needs room on agents. Just after this scheduler
// began to lead, agents are on their way back to it: what finds no room then is asked again.
func (l *lead) askForRoom(ctx context.Context, do func() error) error {
	for {
		var early atomic.Bool
		err := l.ask(ctx, func() error {
			err := do()
			early.Store(pancake.KindOf(err) == pancake.NoRoom && l.awaitsAgents())
			return err
		})
		if !early.Load() {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// awaitsAgents reports whether agents that were there before this term have
// not come back yet, and may be expected to: for as long as one may be silent.
func (l *lead) awaitsAgents() bool {
	if time.Since(l.began) >= l.cfg.Silence {
		return false
	}
	links := l.links.Links()
	for id, a := range l.work.Agents {
		if _, connected := links[id]; !connected && a.State == pancake.AgentActive {
			return true
		}
	}
	return false
}

func (l *lead) submit(body client.DeployBody) (client.DeployView, error) {
	r, d := body.Request, body.Deploy
	out := client.DeployView{Tasks: []pancake.Task{}}
	old := l.work.Requests[r.ID]
	if err := l.mayDeploy(old, &r, &d); err != nil {
		return out, err
	}
	before := 0
	if old != nil && !r.Grouped() {
		r.Group, r.ReadWriteGroups, r.ReadOnlyGroups = old.Group, old.ReadWriteGroups, old.ReadOnlyGroups // not given up by saying nothing
	}
	d.Settings = r.Settings()
	r.Created = l.now
	if old != nil {
		r = *old // until the deploy succeeds
		if old.ActiveDeploy != "" {
			before = old.Instances
		}
	}
	r.Updated, r.PendingDeploy = l.now, d.ID
	deploy.Start(&d, d.Settings.Instances, before, l.now)
	placed, err := l.room(&r, &d, 1, d.Progress.Target)
	if err != nil {
		return out, err
	}
	if body.DryRun {
		out.Deploy = d
		for _, p := range placed {
			out.Tasks = append(out.Tasks, *l.newTask(p))
		}
		return out, nil
	}
	l.change(l.work.Submit(&r, &d))
	l.dirty[r.ID] = true
	return out, nil
}

// mayDeploy refuses a deploy that the state of its request does not allow now.
func (l *lead) mayDeploy(old, r *pancake.Request, d *pancake.Deploy) error {
	if old == nil {
		return nil
	}
	existing := l.work.Deploy(r.ID, d.ID)
	switch {
	case old.State == pancake.RequestDeleting:
		return pancake.Errorf(pancake.Conflict, "request %s is being deleted; wait until it is gone", r.ID)
	case old.PendingDeploy != "":
		return pending(old)
	case old.Type != r.Type:
		return pancake.Errorf(pancake.Conflict, "request %s is of type %s, which cannot become %s; delete it first", r.ID, old.Type, r.Type)
	case existing != nil && old.ActiveDeploy == d.ID:
		return pancake.Errorf(pancake.Conflict, "deploy %s of %s is already active", d.ID, r.ID)
	case existing != nil:
		return pancake.Errorf(pancake.Conflict, "There is already a deploy with id %s of %s, which ended as %s; use --force to force the redeploy",
			d.ID, r.ID, existing.State)
	}
	return nil
}

func pending(r *pancake.Request) error {
	return pancake.Errorf(pancake.Conflict, "Pending deploy already in progress for %s - cancel it or wait for it to complete (%s)", r.ID, r.PendingDeploy)
}

// room says where instances from first to last fit now, or what is missing.
func (l *lead) room(r *pancake.Request, d *pancake.Deploy, first, last int) ([]plan.Placement, error) {
	var wants []plan.Want
	for i := first; i <= last; i++ {
		wants = append(wants, want(r, d, i))
	}
	placed, unplaced := l.plan(wants)
	if len(unplaced) == 0 {
		return placed, nil
	}
	return nil, pancake.Errorf(pancake.NoRoom, "no room for %d of %d instances of %s: %s",
		len(unplaced), len(wants), r.ID, reasonText(reasons(unplaced[0].Reasons)))
}

// Scale changes how many instances a request has. It fails with NotFound,
// Conflict or NoRoom.
func (l *lead) Scale(ctx context.Context, request string, instances int) error {
	return l.askForRoom(ctx, func() error {
		r, err := l.find(request)
		switch {
		case err != nil:
			return err
		case r.State == pancake.RequestDeleting:
			return pancake.Errorf(pancake.Conflict, "request %s is being deleted", r.ID)
		case r.PendingDeploy != "":
			return pending(r)
		case r.ActiveDeploy == "":
			return pancake.Errorf(pancake.Conflict, "request %s has no deploy that succeeded; release it with the number of instances that it should have", r.ID)
		}
		next := *r
		next.Instances, next.Updated = instances, l.now
		if d := l.work.Deploy(r.ID, r.ActiveDeploy); d != nil && instances > r.Instances {
			if _, err := l.room(&next, d, r.Instances+1, instances); err != nil {
				return err
			}
		}
		l.change(state.Change{Requests: []*pancake.Request{&next}})
		l.dirty[r.ID] = true
		return nil
	})
}

// Delete stops the tasks of a request and forgets it when the last has
// ended. Asking again does no harm.
func (l *lead) Delete(ctx context.Context, request string) error {
	return l.ask(ctx, func() error {
		r, err := l.find(request)
		if err != nil {
			return err
		}
		next := *r
		next.State, next.Updated = pancake.RequestDeleting, l.now
		l.change(state.Change{Requests: []*pancake.Request{&next}})
		l.dirty[r.ID] = true
		return nil
	})
}

// KillTask stops a task. Asking again does no harm.
func (l *lead) KillTask(ctx context.Context, task string) error {
	return l.ask(ctx, func() error {
		t := l.work.Task(task)
		switch {
		case t == nil:
			return pancake.Errorf(pancake.NotFound, "Couldn't find task with id %s", task)
		case !t.Live():
			return pancake.Errorf(pancake.Conflict, "task %s has ended already: %s", task, t.Status.State)
		case t.Desired == pancake.DesiredKill:
			return nil
		}
		l.kill(t, "a user asked for it")
		l.dirty[t.RequestID] = true
		return nil
	})
}

func (l *lead) find(request string) (*pancake.Request, error) {
	if r := l.work.Requests[request]; r != nil {
		return r, nil
	}
	return nil, pancake.Errorf(pancake.NotFound, "Couldn't find request with id %s", request)
}
