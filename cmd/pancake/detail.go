package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

const (
	// shownDeploys is how many of a request's deploys status lists.
	shownDeploys = 5
	// shownFailed is how many failed tasks status --why quotes.
	shownFailed = 3
)

// detail is what status shows of one request.
type detail struct {
	client.RequestView
	Deploys []pancake.Deploy `json:"deploys"`
	// Ended are the newest tasks that failed; only with --why.
	Ended []pancake.Task `json:"ended,omitempty"`
	why   bool
}

// board is the part of it that changes while it is watched.
func (d detail) board() board {
	return board{
		service: serviceName(d.Request), deploy: cmp.Or(d.Request.PendingDeploy, d.Request.ActiveDeploy),
		tasks: d.Tasks, unplaced: d.Unplaced,
	}
}

func (d detail) table(now time.Time, p palette) []string {
	r := d.Request
	lines := []string{fmt.Sprintf("%s: %s, %s, %s of its instances healthy", r.ID, p.state(word(r.State)), word(r.Type), healthyOf(d.RequestView, now))}
	if d.LastFailure != "" {
		lines = append(lines, "last failure: "+clean(d.LastFailure))
	}
	if tasks := d.board().table(now, p); len(tasks) > 0 {
		lines = append(append(lines, ""), tasks...)
	}
	if len(d.Deploys) > 0 {
		lines = append(append(lines, ""), d.deployTable(now, p)...)
	}
	if d.why {
		lines = append(lines, whyLines(d.RequestView, d.Ended, now)...)
	}
	return lines
}

func (d detail) deployTable(now time.Time, p palette) []string {
	header := []string{"DEPLOY", p.paint(plain, "STATE"), "IMAGE", "BY", "AGE", "NOTE"}
	var rows [][]string
	for _, dep := range d.Deploys[:min(len(d.Deploys), shownDeploys)] {
		note := clean(dep.Message)
		if dep.ID == d.Request.ActiveDeploy {
			note = joinNotEmpty(", ", "active", note)
		}
		rows = append(rows, []string{dep.ID, p.state(word(dep.State)), dep.Container.Image, dep.User, age(now, dep.Created), note})
	}
	return table(header, rows)
}

func (d detail) facts(now time.Time) []fact {
	r := d.Request
	head := fact{"request", fmt.Sprintf("%s %s, %s healthy%s%s", r.ID, word(r.State), healthyOf(d.RequestView, now),
		prefixed(", deploy ", r.ActiveDeploy), prefixed(", deploying ", r.PendingDeploy))}
	out := append([]fact{head}, d.board().facts(now)...)
	if d.LastFailure != "" {
		out = append(out, fact{"failure", "last failure: " + clean(d.LastFailure)})
	}
	return out
}

// whyLines explain in full what does not run.
func whyLines(v client.RequestView, ended []pancake.Task, now time.Time) []string {
	var lines []string
	service := serviceName(v.Request)
	for _, u := range v.Unplaced {
		if u.NotBefore.After(now) || len(u.Reasons) == 0 {
			lines = append(lines, "", label(service, u.Instance)+" waits: "+whyUnplaced(u, now))
			continue
		}
		lines = append(lines, "", fmt.Sprintf("%s of deploy %s waits for an agent:", label(service, u.Instance), u.DeployID))
		for _, reason := range u.Reasons {
			lines = append(lines, fmt.Sprintf("  %s rules out %s: %s", reason.Constraint, plural(reason.Agents, "agent"), clean(reason.Message)))
		}
	}
	for _, t := range v.Tasks {
		if t.Status.Health == pancake.Unhealthy {
			lines = append(lines, "", fmt.Sprintf("%s on %s is unhealthy%s", label(service, t.Instance), t.Hostname, prefixed(": ", clean(t.Status.HealthNote))))
		}
	}
	for _, t := range ended {
		lines = append(lines, "")
		lines = append(lines, endedLines(t, service, now)...)
	}
	return lines
}

// endedLines say how a task ended and what it printed last.
func endedLines(t pancake.Task, service string, now time.Time) []string {
	when := prefixed(" ", age(now, t.Status.Updated))
	if when != "" {
		when += " ago"
	}
	lines := []string{fmt.Sprintf("%s on %s: %s%s%s", label(service, t.Instance), t.Hostname, taskState(t), when, prefixed(": ", clean(t.Status.Message)))}
	for _, line := range t.Status.Log {
		lines = append(lines, "  | "+clean(line))
	}
	return lines
}

// lastFailed picks the newest tasks that did not end because somebody wanted them to.
func lastFailed(tasks []pancake.Task) []pancake.Task {
	failed := slices.DeleteFunc(slices.Clone(tasks), func(t pancake.Task) bool {
		return !t.Status.State.Terminal() || t.Status.State == pancake.TaskKilled || t.Status.State == pancake.TaskFinished
	})
	slices.SortFunc(failed, func(a, b pancake.Task) int {
		return cmp.Or(b.Status.Updated.Compare(a.Status.Updated), cmp.Compare(b.ID, a.ID))
	})
	return failed[:min(len(failed), shownFailed)]
}
