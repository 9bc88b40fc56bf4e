package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// palette prints in colours when it is true.
type palette bool

// The colours, as ANSI numbers them. All have two digits, so that coloured cells
// of one column grow by the same number of characters and stay aligned.
const (
	plain  = 39
	red    = 31
	green  = 32
	yellow = 33
)

func (p palette) paint(colour int, text string) string {
	if !p {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, text)
}

// state paints the state of a task, deploy, request or agent, or a health.
func (p palette) state(text string) string { return p.stateIn(0, text) }

// stateIn is state, filled up to a width: a column of it does not change its
// width when a state does.
func (p palette) stateIn(width int, text string) string {
	colour := plain
	switch text {
	case "running", "healthy", "succeeded", "active":
		colour = green
	case "failed", "error", "lost", "unhealthy", "overdue", "dead", "unreachable", "system_cooldown":
		colour = red
	case "staging", "starting", "waiting", "killing", "draining", "deleting", "paused", "frozen", "decommissioning", "decommissioned":
		colour = yellow
	}
	return p.paint(colour, fmt.Sprintf("%-*s", width, text))
}

// table aligns rows of cells into lines. Columns that are empty in every row are left out.
func table(header []string, rows [][]string) []string {
	used := slices.DeleteFunc(numbers(len(header)), func(i int) bool {
		return len(rows) > 0 && !slices.ContainsFunc(rows, func(r []string) bool { return r[i] != "" })
	})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(used))
		for i, column := range used {
			if cells[i] = oneLine(row[column]); cells[i] == "" && i < len(used)-1 {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // a strings.Builder takes everything
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

func numbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// oneLine keeps a text that comes from elsewhere from breaking a table or the
// terminal: control characters, line breaks included, become blanks. Colours stay.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\x1b' {
			return ' '
		}
		return r
	}, text)
}

// clean is oneLine for a text that has no colours of ours.
func clean(text string) string {
	return strings.ReplaceAll(oneLine(text), "\x1b", " ")
}

// age prints how long ago since was, in the largest unit that says enough: 12s, 3m, 5h, 2d.
func age(now, since time.Time) string {
	if since.IsZero() {
		return ""
	}
	switch d := max(now.Sub(since), 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// ports prints "31000->8080, 31001->53/udp".
func ports(list []pancake.PortMapping) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = fmt.Sprintf("%d->%d", p.HostPort, p.ContainerPort)
		if p.Protocol != "" && p.Protocol != "tcp" {
			parts[i] += "/" + p.Protocol
		}
	}
	return strings.Join(parts, ", ")
}

// attributes prints "rack=r1, zone=a", by name.
func attributes(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ", ")
}

// word turns TASK_RUNNING, HEALTHY or ACTIVE into running, healthy or active.
func word[S ~string](state S) string {
	return strings.ToLower(strings.TrimPrefix(string(state), "TASK_"))
}

// plural prints "1 task", "2 tasks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// label names an instance for people: hello.1.
func label(service string, instance int) string { return fmt.Sprintf("%s.%d", service, instance) }

// serviceName is what the instances of a request are called after.
func serviceName(r pancake.Request) string { return cmp.Or(r.Service, r.ID) }

// healthy reports whether a task does what it is there for.
func healthy(t pancake.Task, now time.Time) bool {
	if t.Desired == pancake.DesiredKill || t.Status.State != pancake.TaskRunning {
		return false
	}
	switch t.Status.Health {
	case pancake.Healthy:
		return true
	case pancake.HealthUnwatched:
		return now.Sub(t.Status.Started) >= pancake.ConsiderHealthyAfter
	}
	return false
}

// whyUnplaced says in one line why an instance has no agent.
func whyUnplaced(u client.Unplaced, now time.Time) string {
	if u.NotBefore.After(now) {
		return fmt.Sprintf("restarts in %ds, after failing", int(u.NotBefore.Sub(now).Seconds())+1)
	}
	if len(u.Reasons) == 0 {
		return "waits for an agent"
	}
	parts := make([]string, len(u.Reasons))
	for i, r := range u.Reasons {
		parts[i] = fmt.Sprintf("%s: %s (%s)", r.Constraint, clean(r.Message), plural(r.Agents, "agent"))
	}
	return "no agent has room: " + strings.Join(parts, "; ")
}

// sortTasks orders tasks by instance, the oldest of an instance first.
func sortTasks(tasks []pancake.Task) []pancake.Task {
	return slices.SortedFunc(slices.Values(tasks), func(a, b pancake.Task) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
}
