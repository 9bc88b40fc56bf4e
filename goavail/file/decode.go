package file

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/suggest"
)

// Bounds of a file, so that none can fill the memory.
const (
	maxFile     = 4 << 20 // bytes
	maxDepth    = 16
	maxProblems = 50 // that are told at once
)

// place is where something stands in the file. Lines count from 1; 0 is nowhere.
type place struct{ line, column int }

// report collects problems.
type report struct {
	name     string
	places   map[string]place // by path, such as records[0].name
	problems []error
}

// at finds the closest place that is known for a path: of a key that is missing,
// where it would stand.
func (r *report) at(path string) place {
	for {
		if p, ok := r.places[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return place{}
		}
		path = path[:i]
	}
}

// fail reads "goavail.yml:3:5: records[0].name: …".
func (r *report) fail(path, format string, args ...any) { r.failAt(r.at(path), path, format, args...) }

func (r *report) failAt(p place, path, format string, args ...any) {
	where := r.name
	if p.line > 0 {
		where = fmt.Sprintf("%s:%d:%d", r.name, p.line, p.column)
	}
	if path != "" {
		where += ": " + path
	}
	r.problems = append(r.problems, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
}

func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	shown := r.problems
	if len(shown) > maxProblems {
		shown = append(slices.Clone(shown[:maxProblems]), fmt.Errorf("%s: there are %d more problems; mend these first", r.name, len(r.problems)-maxProblems))
	}
	return pancake.Errorf(pancake.Invalid, "%w", errors.Join(shown...))
}

// decoder fills Settings from YAML.
type decoder struct {
	*report
	made int
}

// maxValues bounds the values of a file after its aliases are expanded.
const maxValues = 200_000

// parseYAML reads Settings from text.
func parseYAML(name string, text []byte) (Settings, *report) {
	var s Settings
	d := decoder{report: &report{name: name, places: map[string]place{}}}
	var documents []yaml.Node
	err := yaml.Load(text, &documents, yaml.WithAllDocuments(), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	switch e, ok := errors.AsType[*yaml.LoadError](err); {
	case ok:
		d.failAt(place{e.Mark.Line, e.Mark.Column}, "", "not valid YAML: %s", e.Message)
	case err != nil:
		d.failAt(place{}, "", "not valid YAML: %w", err)
	case len(documents) == 0:
		d.failAt(place{}, "", "is empty; see examples/goavail/goavail.yml for what goes in")
	case len(documents) > 1:
		d.failAt(place{documents[1].Line, documents[1].Column}, "", "a second document begins here; all goes into one")
	default:
		d.value(documents[0].Content[0], reflect.ValueOf(&s).Elem(), "")
	}
	return s, d.report
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if d.made++; d.made > maxValues {
		if d.made == maxValues+1 {
			d.failAt(place{n.Line, n.Column}, path, "the file holds more than %d values once its aliases are expanded", maxValues)
		}
		return
	}
	if _, known := d.places[path]; !known {
		d.places[path] = place{n.Line, n.Column}
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return // as if it were not there
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.texts(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// field is a key of a mapping.
type field struct {
	name  string
	value reflect.Value
}

// fields lists the keys of a struct, those of inlined ones included.
func fields(v reflect.Value) []field {
	var out []field
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if strings.Contains(options, "inline") {
			out = append(out, fields(v.Field(i))...)
			continue
		}
		out = append(out, field{name, v.Field(i)})
	}
	return out
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if t, ok := reflect.TypeAssert[interface{ setText(string) }](v.Addr()); ok && n.Kind == yaml.ScalarNode {
		t.setText(n.Value)
		return
	}
	all := fields(v)
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	if n.Kind != yaml.MappingNode {
		d.failAt(place{n.Line, n.Column}, path, "%s where keys and values are needed; known here are %s", describe(n), strings.Join(names, ", "))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].ShortTag() == "!!merge" { // first, so that the mapping's own keys win
			d.merge(n.Content[i+1], v, path)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		below := join(path, key.Value)
		if line, twice := seen[key.Value]; twice {
			d.failAt(place{key.Line, key.Column}, below, "is set twice, first on line %d; remove one of the two", line)
			continue
		}
		seen[key.Value] = key.Line
		at := slices.Index(names, key.Value)
		if key.ShortTag() == "!!merge" {
			continue
		}
		if at < 0 {
			d.failAt(place{key.Line, key.Column}, below, "unknown key; %s", hint(key.Value, names))
			continue
		}
		d.value(value, all[at].value, below)
	}
}

// merge takes over what stands behind "<<".
func (d *decoder) merge(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		d.failAt(place{n.Line, n.Column}, path, "<< takes one mapping; write for example <<: *defaults")
		return
	}
	d.mapping(n, v, path)
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.failAt(place{n.Line, n.Column}, path, "%s where a list is needed; begin each entry with \"- \", or write [a, b]", describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// texts reads a map of texts.
func (d *decoder) texts(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.failAt(place{n.Line, n.Column}, path, "%s where names and values are needed", describe(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		text := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Content[i+1], text, join(path, n.Content[i].Value))
		v.SetMapIndex(reflect.ValueOf(n.Content[i].Value), text)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	wrong := func(need string) {
		d.failAt(place{n.Line, n.Column}, path, "%s where %s", describe(n), need)
	}
	if n.Kind != yaml.ScalarNode {
		wrong("a single value is needed")
		return
	}
	if v.Type() == reflect.TypeFor[Duration]() {
		length, err := time.ParseDuration(n.Value)
		if err != nil || length < 0 {
			wrong("a length of time is needed; write for example 500ms, 10s or 5m")
			return
		}
		v.SetInt(int64(length))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		on, err := strconv.ParseBool(strings.ToLower(n.Value))
		if err != nil || n.ShortTag() == "!!int" {
			wrong("true or false is needed")
			return
		}
		v.SetBool(on)
	case reflect.Int:
		whole, err := strconv.Atoi(n.Value)
		if err != nil {
			wrong("a whole number is needed")
			return
		}
		v.SetInt(int64(whole))
	case reflect.Float64:
		number, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || number != number {
			wrong("a number is needed")
			return
		}
		v.SetFloat(number)
	}
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	text := []rune(n.Value)
	if len(text) > 60 {
		text = append(text[:60], '…')
	}
	return strconv.Quote(string(text))
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func hint(word string, known []string) string {
	if near, ok := suggest.Nearest(word, known); ok {
		return "did you mean " + near + "?"
	}
	return "known here are " + strings.Join(known, ", ")
}
