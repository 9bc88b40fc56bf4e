package jobspec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pancake-stack/pancake"
)

// Severity says whether a file with the problem can be released.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // it cannot
	Warning Severity = "warning" // it can, but probably not as meant
)

// Diagnostic is one problem of a job file.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`           // from 1; 0 when the problem has no place in the file
	Column   int      `json:"column"`         // from 1, in characters
	Path     string   `json:"path,omitempty"` // of the key, such as common.container.ports[0]
	Message  string   `json:"message"`        // what is wrong and what to do
}

// String reads "hello.yml:12:7: environments.dev.resources.cpus: …"; before
// the path of a warning stands "warning: ".
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.File)
	if d.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", d.Line, d.Column)
	}
	b.WriteString(": ")
	if d.Severity == Warning {
		b.WriteString("warning: ")
	}
	if d.Path != "" {
		b.WriteString(d.Path + ": ")
	}
	b.WriteString(d.Message)
	return b.String()
}

// Diagnostics are the problems of a file in the order of their places.
type Diagnostics []Diagnostic

// Errors returns the problems that stand in the way of a release.
func (ds Diagnostics) Errors() Diagnostics { return ds.only(Error) }

// Warnings returns the other problems.
func (ds Diagnostics) Warnings() Diagnostics { return ds.only(Warning) }

func (ds Diagnostics) only(s Severity) Diagnostics {
	var out Diagnostics
	for _, d := range ds {
		if d.Severity == s {
			out = append(out, d)
		}
	}
	return out
}

// String has one line for each problem.
func (ds Diagnostics) String() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Err is nil when there are no errors; else its kind is Invalid and its text
// has one line for each error.
func (ds Diagnostics) Err() error {
	if errs := ds.Errors(); len(errs) > 0 {
		return pancake.Errorf(pancake.Invalid, "%s", errs.String())
	}
	return nil
}

// Limits of a report.
const (
	maxDiagnostics = 100  // returned by any function of the package
	maxCollected   = 1000 // of each severity, kept in order to find the first maxDiagnostics
	maxQuoted      = 60   // characters of a value in a message
)

// place is where something stands in the file. It is comparable.
type place struct {
	line, column int
	path         string
}

// report collects problems. The same problem found twice, for instance in what
// two environments have from common, is one problem.
type report struct {
	file string
	list Diagnostics
	seen map[Diagnostic]bool
	// How many were reported, repeated ones included.
	errors, warnings int
}

func newReport(file string) *report { return &report{file: file, seen: map[Diagnostic]bool{}} }

func (r *report) errorf(at place, format string, args ...any) {
	r.add(Error, at, fmt.Sprintf(format, args...))
}

func (r *report) warnf(at place, format string, args ...any) {
	r.add(Warning, at, fmt.Sprintf(format, args...))
}

func (r *report) add(s Severity, at place, message string) {
	count := &r.warnings
	if s == Error {
		count = &r.errors
	}
	*count++
	d := Diagnostic{s, r.file, at.line, at.column, at.path, message}
	if *count > maxCollected || r.seen[d] {
		return
	}
	r.seen[d] = true
	r.list = append(r.list, d)
}

// merge adds the problems of other.
func (r *report) merge(other *report) {
	for _, d := range other.list {
		r.add(d.Severity, place{d.Line, d.Column, d.Path}, d.Message)
	}
}

// sorted returns the first problems of the file. If there are more, the last
// one says so, as an error if there is one among them.
func (r *report) sorted() Diagnostics {
	all := slices.Clone(r.list)
	slices.SortStableFunc(all, func(a, b Diagnostic) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	if len(all) <= maxDiagnostics {
		return all
	}
	shown, rest := all[:maxDiagnostics-1], all[maxDiagnostics-1:]
	more := Diagnostic{Severity: Warning, File: r.file, Message: "there are more problems; mend these first"}
	if len(rest.Errors()) > 0 {
		more.Severity = Error
	}
	return append(shown, more)
}

// quoted shows a text of the file on one short line.
func quoted(text string) string {
	if runes := []rune(text); len(runes) > maxQuoted {
		text = string(runes[:maxQuoted]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
