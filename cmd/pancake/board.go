package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// board is what a command shows of a request while it changes. Its methods are
// pure: the same board at the same time gives the same text.
type board struct {
	title    string
	service  string // what the instances are called after
	deploy   string // the deploy that is on its way in; tasks of another one are old. "" means none is
	tasks    []pancake.Task
	unplaced []client.Unplaced
	note     string // a line below the table
}

// The widths of the longest common state and health.
const (
	stateWidth  = len("starting")
	healthWidth = len("unhealthy")
)

var taskHeader = []string{"INSTANCE", "STATE", "HEALTH", "HOST", "PORTS", "AGE", "NOTE"}

// table is the board for a terminal: a title, a row per instance, a note.
func (b board) table(now time.Time, p palette) []string {
	var lines []string
	if b.title != "" {
		lines = append(lines, clean(b.title))
	}
	if rows := b.rows(now, p); len(rows) > 0 {
		header := append([]string(nil), taskHeader...)
		header[1], header[2] = p.paint(plain, header[1]), p.paint(plain, header[2])
		lines = append(lines, table(header, rows)...)
	}
	if b.note != "" {
		lines = append(lines, clean(b.note))
	}
	return lines
}

func (b board) rows(now time.Time, p palette) [][]string {
	var rows [][]string
	for _, t := range sortTasks(b.tasks) {
		health := ""
		if !t.Status.State.Terminal() {
			health = healthWord(t)
		}
		rows = append(rows, []string{
			label(b.service, t.Instance), p.stateIn(stateWidth, taskState(t)), p.stateIn(healthWidth, health), t.Hostname,
			ports(t.Ports), age(now, cmp.Or(t.Status.Started, t.Created)), clean(b.taskNote(t)),
		})
	}
	for _, u := range b.unplaced {
		rows = append(rows, []string{
			label(b.service, u.Instance), p.stateIn(stateWidth, "waiting"), p.stateIn(healthWidth, ""), "", "",
			age(now, u.Since), whyUnplaced(u, now),
		})
	}
	return rows
}

// taskState is the state of a task in one word.
func taskState(t pancake.Task) string {
	if t.Desired == pancake.DesiredKill && t.Status.State == pancake.TaskRunning {
		return "draining"
	}
	return word(cmp.Or(t.Status.State, pancake.TaskStaging))
}

// healthWord is what Sidecar says of a task. A task that has not passed a check
// yet is not called unhealthy: it may still be starting.
func healthWord(t pancake.Task) string {
	if t.Status.Health == pancake.Unhealthy && t.FirstHealthy.IsZero() {
		return "checking"
	}
	return word(t.Status.Health)
}

// taskNote says what the other columns do not: why a task is the way it is.
func (b board) taskNote(t pancake.Task) string {
	var parts []string
	if b.deploy != "" && t.DeployID != b.deploy {
		parts = append(parts, "old deploy "+t.DeployID)
	}
	switch {
	case t.Status.State.Terminal():
		parts = append(parts, t.Status.Message)
	case t.Desired == pancake.DesiredKill:
		parts = append(parts, t.KillReason)
	case t.Status.Health == pancake.Unhealthy:
		parts = append(parts, t.Status.HealthNote)
	case t.Status.State != pancake.TaskRunning:
		parts = append(parts, t.Status.Message)
	}
	return joinNotEmpty(", ", parts...)
}

func joinNotEmpty(sep string, parts ...string) string {
	var out []string
	for _, part := range parts {
		if part != "" {
			out = append(out, part)
		}
	}
	return strings.Join(out, sep)
}

// fact is one line about one thing. It is told again when its text changes.
type fact struct{ key, text string }

// facts is the board for a file or a pipe: a line for everything worth telling.
func (b board) facts(now time.Time) []fact {
	var out []fact
	for _, t := range sortTasks(b.tasks) {
		state := taskState(t)
		if state == "running" && t.Status.Health != pancake.HealthUnknown {
			state += ", " + healthWord(t)
		}
		text := fmt.Sprintf("%s %s on %s", label(b.service, t.Instance), state, t.Hostname)
		if p := ports(t.Ports); p != "" {
			text += ", " + p
		}
		if note := b.taskNote(t); note != "" {
			text += ": " + note
		}
		out = append(out, fact{t.ID, text})
	}
	for _, u := range b.unplaced {
		why := whyUnplaced(u, now)
		if u.NotBefore.After(now) {
			why = "restarts at " + u.NotBefore.Format(time.TimeOnly) + ", after failing" // the seconds left would be told one by one
		}
		out = append(out, fact{fmt.Sprint("unplaced ", u.Instance), label(b.service, u.Instance) + " waits: " + why})
	}
	if b.note != "" {
		out = append(out, fact{"note", b.note})
	}
	return out
}
