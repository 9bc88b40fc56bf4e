package jobspec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Limits of a file.
const (
	// MaxSize bounds the text, in bytes. Whoever reads a file may stop one byte behind it.
	MaxSize         = 1 << 20
	maxDepth        = 32 // lists and mappings inside of each other; the schema needs 6
	maxEnvironments = 100
)

// File is a job file: one service in several environments.
type File struct {
	name         string
	service      string
	environments []*environment // in the order of the file
	listed       place          // of the key environments
	top          *report        // the problems that all environments share
}

// environment is one environment, merged with common and read.
type environment struct {
	name string
	at   place // of its name
	spec *Spec
	out  *report
}

// Parse reads the text of a job file. The file's name is for messages, and its
// last part without ".yml" is the name of the service.
//
// It reports all problems of all environments, and returns a File in any case,
// with the environments that could be made out. nmesos refuses a file when any
// of its environments is wrong; whoever wants that looks at these Diagnostics,
// whoever wants one environment only at those of [File.Environment].
func Parse(file string, text []byte) (*File, Diagnostics) {
	f := &File{name: file, service: serviceName(file), top: newReport(file)}
	if f.service == "" {
		f.top.errorf(place{}, "the file has no name to call the service by; name it for example hello.yml")
	}
	if root := load(f.top, text); root != nil {
		f.read(root, textHash(text))
	}
	all := newReport(file)
	all.merge(f.top)
	for _, e := range f.environments {
		all.merge(e.out)
	}
	if all.errors == 0 {
		sameKeys(all, f.environments)
	}
	return f, all.sorted()
}

// Service is the name of the service.
func (f *File) Service() string { return f.service }

// Environments returns the names of the environments in the order of the file.
func (f *File) Environments() []string {
	names := make([]string, len(f.environments))
	for i, e := range f.environments {
		names[i] = e.name
	}
	return names
}

// Environment returns what the file says about one environment: its own values
// merged over those of common, where mappings are merged key by key, lists are
// joined, the environment's elements first, and else the environment wins.
//
// The Diagnostics are those of the environment and of the file's head. If one
// of them is an error the Spec is nil.
func (f *File) Environment(name string) (*Spec, Diagnostics) {
	out := newReport(f.name)
	out.merge(f.top)
	i := slices.IndexFunc(f.environments, func(e *environment) bool { return e.name == name })
	if i < 0 {
		if len(f.environments) > 0 || out.errors == 0 {
			names := f.Environments()
			hint := nearest(name, names)
			if hint == "" {
				hint = "choose one of them or add it"
			}
			out.errorf(f.listed, "there is no environment %s; there are: %s; %s", quoted(name), show(names), hint)
		}
		return nil, out.sorted()
	}
	e := f.environments[i]
	out.merge(e.out)
	if out.errors > 0 {
		return nil, out.sorted()
	}
	return e.spec, out.sorted()
}

// serviceName is the last part of a path without its ending.
func serviceName(file string) string {
	name := file[strings.LastIndexAny(file, `/\`)+1:]
	for _, ending := range []string{".yml", ".yaml"} {
		if cut, ok := strings.CutSuffix(name, ending); ok {
			return cut
		}
	}
	return name
}

// load turns the text into a tree, nil after an error that leaves none.
func load(out *report, text []byte) *node {
	if len(text) > MaxSize {
		out.errorf(place{}, "the file has %d bytes and may have %d; is it a job file?", len(text), MaxSize)
		return nil
	}
	if at, what := badCharacter(text); what != "" {
		out.errorf(at, "%s; save the file as plain text in UTF-8", what)
		return nil
	}
	var documents []yaml.Node
	err := yaml.Load(text, &documents, yaml.WithAllDocuments(), yaml.WithUniqueKeys(false),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		syntaxError(out, text, err)
		return nil
	}
	if len(documents) == 0 || len(documents[0].Content) == 0 {
		out.errorf(place{line: 1, column: 1}, "the file is empty; it begins with for example nmesos_version: '%s'", newest)
		return nil
	}
	if len(documents) > 1 {
		second := documents[1]
		out.errorf(place{line: second.Line, column: second.Column}, "a second document begins here; write each service in a file of its own")
	}
	first := documents[0].Content[0]
	root := (&builder{report: out, open: map[*yaml.Node]bool{}}).value(first, place{line: first.Line, column: first.Column})
	if root.kind != mapping {
		out.errorf(root.place, "the file is %s; it must be a mapping with nmesos_version, common and environments", shape[root.kind])
		return nil
	}
	return root
}

// badCharacter finds what YAML cannot hold; what is "" when there is nothing.
func badCharacter(text []byte) (at place, what string) {
	at.line, at.column = 1, 1
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			return at, "the text is not UTF-8 here"
		case unicode.IsControl(r) && !strings.ContainsRune("\t\n\r\u0085", r):
			return at, "there is a control character here"
		case r == '\n':
			at.line, at.column = at.line+1, 0
		}
		text = text[size:]
		at.column++
	}
	return place{}, ""
}

// syntaxError reports what the YAML reader stopped at.
func syntaxError(out *report, text []byte, err error) {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		out.errorf(place{}, "not valid YAML: %v", err)
		return
	}
	message := "not valid YAML: " + printable(e.Message)
	if e.ContextMsg != "" {
		message += " " + e.ContextMsg
		if line := e.ContextMark.Line; line > 0 && line != e.Mark.Line {
			message += fmt.Sprintf(" that begins on line %d", line)
		}
	}
	switch next := following(text, e.Mark.Line, e.Mark.Column); {
	case next == '\t':
		message += "; indent with blanks, a tab is not allowed"
	case strings.ContainsRune("@`%", next):
		message += "; put quotes around a value that begins with " + string(next)
	case strings.Contains(e.Message, "max depth"):
		message += "; no job file needs that"
	default:
		message += "; look at the indentation, the quotes and the colons here and on the line above"
	}
	out.errorf(place{line: e.Mark.Line, column: e.Mark.Column}, "%s", message)
}

// printable replaces what the YAML reader repeats of a file and a terminal may
// act upon.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

// following returns the character at a line and column, '\n' if there is none.
func following(text []byte, line, column int) rune {
	for l := range bytes.Lines(text) {
		if line--; line != 0 {
			continue
		}
		for _, r := range string(l) {
			if column--; column <= 0 {
				return r
			}
		}
	}
	return '\n'
}

// read reads the top of the file and its environments.
func (f *File) read(root *node, hash string) {
	top := []string{"nmesos_version", "common", "environments"}
	for _, entry := range root.fields {
		// A place to keep anchors is no mistake.
		if !slices.Contains(top, entry.key) && !strings.HasPrefix(entry.key, "x-") && !entry.value.shared {
			f.top.warnf(entry.at, "unknown key %s; %s", quoted(entry.key), cmp.Or(nearest(entry.key, top), "it has no effect; known here are "+strings.Join(top, ", ")))
		}
	}
	checkVersion(f.top, root)
	common := root.get("common")
	if common != nil && common.kind != mapping {
		f.top.errorf(common.place, "%s is not a mapping; write the sections that all environments share under it", common.describe())
		common = nil
	}
	environments := root.get("environments")
	if environments == nil || environments.kind != mapping || len(environments.fields) == 0 {
		at := place{root.line, root.column, "environments"}
		if environments != nil {
			at = environments.place
		}
		f.top.errorf(at, "there must be at least one environment; add for example environments: and under it dev:")
		return
	}
	f.listed = environments.place
	if len(environments.fields) > maxEnvironments {
		f.top.errorf(environments.place, "there are %d environments and may be %d; split the file up", len(environments.fields), maxEnvironments)
		return
	}
	for _, entry := range environments.fields {
		f.environments = append(f.environments, f.environment(entry, common, hash))
	}
}

// environment merges and reads one environment.
func (f *File) environment(entry field, common *node, hash string) *environment {
	e := &environment{entry.key, entry.at, newSpec(f.service, entry.key, hash), newReport(f.name)}
	own := entry.value
	if strings.TrimSpace(e.name) == "" {
		e.out.errorf(entry.at, "an environment needs a name; write for example dev")
	}
	switch own.kind {
	case null: // all of it is in common
		own = &node{place: entry.at, kind: mapping}
	case mapping:
	default:
		e.out.errorf(own.place, "%s is not a mapping; write the sections of the environment under it", own.describe())
		return e
	}
	readEnvironment(e.out, e.spec, merge(e.out, common, own), entry.at)
	return e
}
