package jobspec

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// kind is the shape of a value.
type kind int

const (
	null kind = iota
	scalar
	list
	mapping
)

// node is a value of the file in which aliases and merge keys are resolved.
// Nodes are shared between environments and never changed once built.
type node struct {
	place  // a block mapping or list stands where its key does
	kind   kind
	tag    string  // of a scalar, for example "!!str", as YAML 1.2 resolves it
	text   string  // of a scalar, as written
	items  []*node // of a list
	fields []field // of a mapping, in the order of the file, each key once
	shared bool    // it carries an anchor: others may refer to it
}

// field is one entry of a mapping.
type field struct {
	key   string
	at    place // of the key
	value *node
}

// get returns the value under key, nil when there is none or it is null.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, f := range n.fields {
		if f.key == key {
			if f.value.kind == null {
				return nil
			}
			return f.value
		}
	}
	return nil
}

func (n *node) keys() []string {
	keys := make([]string, len(n.fields))
	for i, f := range n.fields {
		keys[i] = f.key
	}
	return keys
}

// empty reports whether the value says nothing: null, or a list or mapping of
// nothing but that.
func (n *node) empty() bool {
	for _, item := range n.items {
		if !item.empty() {
			return false
		}
	}
	for _, f := range n.fields {
		if !f.value.empty() {
			return false
		}
	}
	return n.kind != scalar || n.text == ""
}

// describe shows the value in a message.
func (n *node) describe() string {
	switch {
	case n.kind != scalar:
		return shape[n.kind]
	case isA[n.tag] != "" && plain.MatchString(n.text):
		return n.text
	}
	return quoted(n.text)
}

// isA names the types that YAML finds in words without quotes.
var isA = map[string]string{"!!int": "a number", "!!float": "a number", "!!bool": "true or false", "!!timestamp": "a date"}

// plain are the texts of such words.
var plain = regexp.MustCompile(`^[0-9A-Za-z_+.:-]{1,60}$`)

// shape names a kind of value.
var shape = map[kind]string{null: "nothing", scalar: "a single value", list: "a list", mapping: "a mapping"}

// maxValues bounds the values of a file after its aliases are expanded, so
// that a few hundred bytes of nested aliases cannot fill the memory. The
// longest nmesos files have some hundred.
const maxValues = 20_000

// builder turns YAML nodes into nodes.
type builder struct {
	*report
	made int
	open map[*yaml.Node]bool // anchored values that are being expanded
}

func (b *builder) value(n *yaml.Node, at place) *node {
	if b.made++; b.made > maxValues {
		if b.made == maxValues+1 {
			b.errorf(at, "the file holds more than %d values once its aliases are expanded; split it up", maxValues)
		}
		return &node{place: at}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return b.alias(n, at)
	case yaml.SequenceNode:
		out := &node{place: at, kind: list, shared: n.Anchor != ""}
		for i, item := range n.Content {
			out.items = append(out.items, b.value(item, place{item.Line, item.Column, fmt.Sprintf("%s[%d]", at.path, i)}))
		}
		return out
	case yaml.MappingNode:
		return b.mapping(n, at)
	}
	out := &node{place: place{n.Line, n.Column, at.path}, kind: scalar, tag: n.ShortTag(), text: n.Value, shared: n.Anchor != ""}
	if out.tag == "!!null" {
		return &node{place: at}
	}
	return out
}

func (b *builder) alias(n *yaml.Node, at place) *node {
	if b.open[n.Alias] {
		b.errorf(place{line: at.line, column: at.column}, "the alias %s stands inside of what it refers to; remove it", quoted("*"+n.Value))
		return &node{place: at}
	}
	b.open[n.Alias] = true
	defer delete(b.open, n.Alias)
	return b.value(n.Alias, place{n.Alias.Line, n.Alias.Column, at.path})
}

func (b *builder) mapping(n *yaml.Node, at place) *node {
	out := &node{place: at, kind: mapping, shared: n.Anchor != ""}
	index := map[string]int{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		keyAt := place{n.Content[i].Line, n.Content[i].Column, at.path}
		if key.Kind != yaml.ScalarNode {
			b.errorf(keyAt, "a key is a list or a mapping; write a word before the colon")
			continue
		}
		keyAt.path = join(at.path, key.Value)
		f := field{key.Value, keyAt, b.value(value, keyAt)}
		if first, twice := index[f.key]; twice {
			b.warnf(keyAt, "the key is here a second time, and what stands on line %d is lost; remove one of the two", out.fields[first].at.line)
			out.fields[first] = f
			continue
		}
		index[f.key] = len(out.fields)
		out.fields = append(out.fields, f)
	}
	for _, m := range merges {
		b.inherit(out, index, m)
	}
	return out
}

// inherit adds the fields behind a merge key ("<<") that out does not have: of
// one mapping, or of several, of which the first one wins.
func (b *builder) inherit(out *node, index map[string]int, from *yaml.Node) {
	sources, target := []*yaml.Node{from}, from
	if from.Kind == yaml.AliasNode {
		target = from.Alias
	}
	if target.Kind == yaml.SequenceNode {
		sources = target.Content
	}
	for _, source := range sources {
		at := place{source.Line, source.Column, out.path}
		s := b.value(source, at)
		if s.kind != mapping {
			b.errorf(at, "<< takes a mapping or a list of mappings; write for example <<: *defaults")
		}
		for _, f := range s.fields {
			if _, has := index[f.key]; !has {
				index[f.key] = len(out.fields)
				out.fields = append(out.fields, f)
			}
		}
	}
}

// bare are the keys that are shown without quotes. Their length is bounded for
// the sake of paths, which every value below a key repeats.
var bare = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,59}$`)

// show joins names for a message.
func show(names []string) string {
	shown := slices.Clone(names)
	for i, name := range shown {
		if !bare.MatchString(name) {
			shown[i] = quoted(name)
		}
	}
	return strings.Join(shown, ", ")
}

// join appends a key to a path.
func join(path, key string) string {
	switch {
	case !bare.MatchString(key):
		return path + "[" + quoted(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}
