package deploy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pancake-stack/pancake"
)

// keep makes the tasks what they should be: one in each wanted slot, not on an
// agent that is to be left. A task elsewhere goes, unless it is healthy and without
// it fewer than floor healthy tasks would be left: then it serves until those that
// are wanted do.
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
	served := map[Slot]bool{} // by a healthy task that stays
	for _, s := range wanted {
		t := best[s]
		if t == nil || in.leaves(t) && in.Move[t.ID] {
			l := restart(in, s)
			if l.NotBefore.After(in.Now) {
				p.Wake = earliest(p.Wake, l.NotBefore)
			}
			p.Launch = append(p.Launch, l)
		}
		if t != nil && Healthy(t, in.Now) {
			served[s] = true
		}
	}
	slices.SortFunc(surplus, func(a, b *pancake.Task) int { return prefer(in, a, b) })
	for _, t := range surplus {
		s := Slot{t.DeployID, t.Instance}
		if len(served) < floor && !served[s] && Healthy(t, in.Now) {
			served[s] = true
			continue
		}
		p.Kill = append(p.Kill, Kill{t.ID, why(in, t, best)})
	}
	return p
}

// prefer orders two tasks by which one should stay: the one that need not leave its
// agent, the healthy one, then the older one, then the one with the smaller id.
func prefer(in Input, a, b *pancake.Task) int {
	rank := func(t *pancake.Task) int {
		r := 0
		if in.leaves(t) {
			r += 2
		}
		if !Healthy(t, in.Now) {
			r++
		}
		return r
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

// why says in plain words why a task is not wanted.
func why(in Input, t *pancake.Task, wanted map[Slot]*pancake.Task) string {
	if held := wanted[Slot{t.DeployID, t.Instance}]; held != nil {
		why := fmt.Sprintf("instance %d runs as %s", t.Instance, held.ID)
		if in.leaves(t) {
			why = "its agent is decommissioned; " + why
		}
		return why
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
