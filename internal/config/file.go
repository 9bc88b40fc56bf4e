package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/pancake-stack/pancake/internal/suggest"
)

// maxDepth bounds how deep mappings and lists of the file may nest.
const maxDepth = 16

// setting is a key of the file that a flag of the command is set from.
type setting struct {
	flag  *pflag.Flag
	path  string
	value *yaml.Node
}

// file reads the settings of one command from the settings file.
type file struct {
	name     string
	cmd      *cobra.Command
	problems []error
	settings map[string]setting // by the name of the flag
}

func applyFile(cmd *cobra.Command, name string, text []byte) []error {
	f := &file{name: name, cmd: cmd, settings: map[string]setting{}}
	var documents []yaml.Node
	err := yaml.Load(text, &documents, yaml.WithAllDocuments(), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	switch e, ok := errors.AsType[*yaml.LoadError](err); {
	case ok:
		return []error{f.problem(&yaml.Node{Line: e.Mark.Line, Column: e.Mark.Column}, "", "not valid YAML: %s", e.Message)}
	case err != nil:
		return []error{f.problem(&yaml.Node{}, "", "not valid YAML: %v", err)}
	case len(documents) == 0:
		return nil // empty, or all of it is commented out
	case len(documents) > 1:
		return []error{f.problem(&documents[1], "", "a second document begins here; all settings go into one")}
	}
	f.section(cmd.Root(), resolve(documents[0].Content[0]), "")
	for _, flagName := range slices.Sorted(maps.Keys(f.settings)) {
		f.set(f.settings[flagName])
	}
	return f.problems
}

// section reads the mapping of one command. What is deeper overrides what is
// above it, so the keys of a section come before the sections below it.
func (f *file) section(c *cobra.Command, n *yaml.Node, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		f.fail(n, path, "settings must be a mapping; write for example data-dir: /var/lib/pancake")
		return
	}
	type below struct {
		c    *cobra.Command
		n    *yaml.Node
		path string
	}
	var sections []below
	seen := map[string]int{}
	mine := c == f.cmd || slices.Contains(parents(f.cmd), c)
	known := flagNames(c)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		keyPath := strings.TrimPrefix(path+"."+key.Value, ".")
		if line, twice := seen[key.Value]; twice {
			f.fail(key, keyPath, "is set twice, first on line %d; remove one of the two", line)
			continue
		}
		seen[key.Value] = key.Line
		child := childOf(c, key.Value)
		switch {
		case child != nil && (value.Kind == yaml.MappingNode || isNull(value)):
			sections = append(sections, below{child, value, keyPath})
		case !slices.Contains(known, key.Value):
			f.fail(key, keyPath, "unknown key; %s", hint(c, key.Value, known))
		case mine:
			if flag := f.cmd.Flags().Lookup(key.Value); flag != nil {
				f.settings[flag.Name] = setting{flag, keyPath, value}
			}
		}
	}
	for _, s := range sections {
		f.section(s.c, s.n, s.path)
	}
}

// set sets one flag, unless it has been set already.
func (f *file) set(s setting) {
	if s.flag.Changed {
		return
	}
	var change func() error
	text := s.value.Value
	list, isList := s.flag.Value.(pflag.SliceValue)
	switch {
	case isNull(s.value):
		f.fail(s.value, s.path, "has no value; write one or remove the key")
		return
	case s.value.Kind == yaml.ScalarNode:
		change = func() error { return s.flag.Value.Set(text) }
	case s.value.Kind == yaml.SequenceNode && isList:
		var items []string
		for _, item := range s.value.Content {
			if item = resolve(item); item.Kind != yaml.ScalarNode {
				f.fail(item, s.path, "takes a list of single values")
				return
			}
			items = append(items, item.Value)
		}
		text = strings.Join(items, ",")
		change = func() error { return list.Replace(items) }
	default:
		f.fail(s.value, s.path, "takes one value of the type %s, not a list or a mapping", s.flag.Value.Type())
		return
	}
	origin := fmt.Sprintf("file %s:%d:%d", f.name, s.value.Line, s.value.Column)
	if err := set(f.cmd.Flags(), s.flag, origin, change); err != nil {
		f.fail(s.value, s.path, "%s", reason(s.flag, text, err))
	}
}

func (f *file) fail(at *yaml.Node, path, format string, args ...any) {
	f.problems = append(f.problems, f.problem(at, path, format, args...))
}

// problem reads "pancake.yml:3:5: agent.attributes: …".
func (f *file) problem(at *yaml.Node, path, format string, args ...any) error {
	place := f.name
	if at.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", f.name, at.Line, at.Column)
	}
	if path != "" {
		place += ": " + path
	}
	return fmt.Errorf("%s: %s", place, fmt.Sprintf(format, args...))
}

// resolve returns what an alias stands for. An alias never stands for another.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// parents are the commands above c.
func parents(c *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for p := c.Parent(); p != nil; p = p.Parent() {
		out = append(out, p)
	}
	return out
}

func childOf(c *cobra.Command, name string) *cobra.Command {
	for _, child := range c.Commands() {
		if child.Name() == name {
			return child
		}
	}
	return nil
}

// flagNames are the settings of c and of the commands below it, what they
// have from the commands above them included.
func flagNames(c *cobra.Command) []string {
	names := map[string]bool{}
	add := func(f *pflag.Flag) { names[f.Name] = true }
	visit(c.LocalFlags(), add)
	visit(c.InheritedFlags(), add)
	for _, child := range c.Commands() {
		for _, name := range flagNames(child) {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// hint says what may have been meant by an unknown key.
func hint(c *cobra.Command, key string, known []string) string {
	var commands []string
	for _, child := range c.Commands() {
		commands = append(commands, child.Name())
	}
	if slices.Contains(commands, key) {
		return "the settings of the command " + key + " are a mapping below it"
	}
	if near, ok := suggest.Nearest(key, slices.Concat(known, commands)); ok {
		return "did you mean " + near + "?"
	}
	where := cmp.Or(strings.TrimSpace(strings.TrimPrefix(c.CommandPath(), c.Root().Name())), "the top")
	return "known at " + where + " are " + strings.Join(known, ", ")
}
