package deploy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pancake-stack/pancake"
)

// keep makes the tasks what they should be: one in each wanted slot. A task
// elsewhere goes, unless it is healthy and without it fewer than floor healthy
// tasks would be left: then it serves until those that are wanted do.
func keep(in Input, wanted []Slot, floor int) Plan {
	var p Plan
	best := map[Slot]*pancake.Task{}
	for _, s := range wanted {
		best[s] = nil
	}
	var surplus []*pancake.Task
	for _, t := range in.Live {
		if t.Desired != pancake.DesiredRun {
			continue
		}
		if at, ok := HealthyAt(t); ok && at.After(in.Now) {
			p.Wake = earliest(p.Wake, at)
		}
		s := Slot{t.DeployID, t.Instance}
		held, isWanted := best[s]
		switch {
		case !isWanted:
			surplus = append(surplus, t)
		case held == nil:
			best[s] = t
		case prefer(in, t, held) < 0:
			best[s] = t
			surplus = append(surplus, held)
		default:
			surplus = append(surplus, t)
		}
	}
	healthy := 0
	for _, s := range wanted {
		switch t := best[s]; {
		case t == nil:
			l := restart(in, s)
			if l.NotBefore.After(in.Now) {
				p.Wake = earliest(p.Wake, l.NotBefore)
			}
			p.Launch = append(p.Launch, l)
		case Healthy(t, in.Now):
			healthy++
		}
	}
	slices.SortFunc(surplus, func(a, b *pancake.Task) int { return prefer(in, a, b) })
	for _, t := range surplus {
		if healthy < floor && Healthy(t, in.Now) {
			healthy++
			continue
		}
		p.Kill = append(p.Kill, Kill{t.ID, why(in, t, best)})
	}
	return p
}

// prefer orders two tasks by which one should stay: the healthy one, then the
// older one, then the one with the smaller id.
func prefer(in Input, a, b *pancake.Task) int {
	rank := func(t *pancake.Task) int {
		if Healthy(t, in.Now) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

// why says in plain words why a task is not wanted.
func why(in Input, t *pancake.Task, wanted map[Slot]*pancake.Task) string {
	if held := wanted[Slot{t.DeployID, t.Instance}]; held != nil {
		return fmt.Sprintf("instance %d runs as %s", t.Instance, held.ID)
	}
	switch {
	case in.Request.State == pancake.RequestDeleting:
		return "the request is being deleted"
	case in.Active != nil && t.DeployID == in.Active.ID && in.Pending != nil && t.Instance <= in.Pending.Progress.Before:
		return "replaced by deploy " + in.Pending.ID
	case in.Active != nil && t.DeployID == in.Active.ID:
		return fmt.Sprintf("scaled down to %d instances", in.Request.Instances)
	case in.Active != nil && t.Created.Before(in.Active.Created):
		return "replaced by deploy " + in.Active.ID
	}
	return fmt.Sprintf("deploy %s did not succeed", t.DeployID)
}
