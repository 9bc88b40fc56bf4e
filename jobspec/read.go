package jobspec

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/suggest"
)

// reader fills a Spec from a merged environment.
type reader struct {
	*report
	spec  *Spec
	read  map[string]*node // the values that are right by themselves, by the key of their row
	wrong map[string]bool  // the keys of the rows whose values are not
}

// readEnvironment reads a merged environment; at is where its name stands.
func readEnvironment(out *report, spec *Spec, env *node, at place) {
	r := &reader{out, spec, map[string]*node{}, map[string]bool{}}
	r.unknownKeys(env, "")
	for _, section := range sections() {
		n := env.get(section)
		if n != nil && n.kind != mapping {
			r.errorf(n.place, "%s is not a mapping; write the keys of %s under it", n.describe(), section)
		} else if n != nil {
			r.unknownKeys(n, section)
		}
		for _, row := range schema {
			switch {
			case row.section() != section:
			case n != nil && n.kind != mapping:
				r.wrong[row.key] = true
			default:
				r.row(row, n, at)
			}
		}
	}
	for _, row := range schema {
		if row.section() == "" {
			r.row(row, env, at)
		}
	}
	r.together(at)
}

// sections returns the sections that are read.
func sections() []string {
	var out []string
	for _, row := range schema {
		if s := row.section(); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// row reads one key from its section, which may be nil; at is the environment's place.
func (r *reader) row(row row, section *node, at place) {
	n := section.get(row.name())
	if n == nil {
		if row.required {
			where := place{at.line, at.column, at.path + "." + row.key}
			hint := "under " + row.section() + ", here or in common"
			if section != nil {
				where.line, where.column = section.line, section.column
				hint = "here or in common"
			}
			r.errorf(where, "is missing; add for example %s %s", row.example, hint)
		}
		return
	}
	if row.into != nil && !r.value(row, n) {
		r.wrong[row.key] = true
		return
	}
	r.read[row.key] = n
	if row.refused != nil && !n.empty() {
		if why := row.refused(n); why != "" {
			r.errorf(n.place, "%s", why)
		}
	}
	if row.unused != "" && !n.empty() {
		r.warnf(n.place, "%s", row.unused)
	}
}

// value converts and checks n; it is false after a problem was reported.
func (r *reader) value(row row, n *node) bool {
	before := r.errors
	target := row.into(r.spec)
	switch t := target.(type) {
	case *string:
		r.text(row, n, t)
	case *bool:
		r.truth(row, n, t)
	case *int:
		r.whole(row, n, t)
	case *float64:
		r.number(row, n, t)
	case *map[string]string:
		r.texts(row, n, t)
	case *[]pancake.PortMapping:
		*t = each(r, row, n, r.port)
	case *[]string:
		*t = each(r, row, n, func(item *node) (string, bool) {
			var name string
			before := r.errors
			if r.text(row, item, &name); r.errors == before {
				group(r.report, row, item, &name)
			}
			return name, r.errors == before
		})
	case *[]pancake.Volume:
		*t = each(r, row, n, r.volume)
	}
	if row.rule != nil && r.errors == before {
		row.rule(r.report, row, n, target)
	}
	return r.errors == before
}

// text reads a string. YAML makes numbers, dates and the like of some unquoted
// words; what the author meant is then unclear, and nmesos refuses them too.
func (r *reader) text(row row, n *node, t *string) {
	switch {
	case n.kind != scalar:
		r.errorf(n.place, "%s where a text is needed; write for example %s", n.describe(), row.example)
	case n.tag == "!!str":
		*t = n.text
	case isA[n.tag] != "":
		r.errorf(n.place, "%s is %s to YAML, and a text is needed; quote it: %s", n.describe(), isA[n.tag], quoted(n.text))
	default:
		r.errorf(n.place, "%s has the type %s, and a text is needed; remove the type and quote the value", quoted(n.text), quoted(n.tag))
	}
}

func (r *reader) truth(row row, n *node, t *bool) {
	// YAML 1.1, which nmesos reads, has more words for the two.
	switch word := strings.ToLower(n.text); {
	case n.kind == scalar && (n.tag == "!!bool" || n.tag == "!!str") && slices.Contains([]string{"true", "yes", "on"}, word):
		*t = true
	case n.kind == scalar && (n.tag == "!!bool" || n.tag == "!!str") && slices.Contains([]string{"false", "no", "off"}, word):
		*t = false
	default:
		r.errorf(n.place, "%s is neither true nor false; write for example %s", n.describe(), row.example)
	}
}

func (r *reader) number(row row, n *node, t *float64) {
	f, err := strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
	if n.kind != scalar || (n.tag != "!!int" && n.tag != "!!float") || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		r.errorf(n.place, "%s is not a number; write for example %s", n.describe(), row.example)
		return
	}
	*t = f
}

// whole reads an integer of 32 bits, as nmesos does: it cuts fractions off.
func (r *reader) whole(row row, n *node, t *int) {
	var f float64
	before := r.errors
	r.number(row, n, &f)
	if r.errors > before {
		return
	}
	if digits := strings.TrimLeft(n.text, "+-"); len(digits) > 1 && digits[0] == '0' && !strings.ContainsAny(digits, ".eExXoObB") {
		r.errorf(n.place, "%s begins with a zero, and YAML readers differ on what that means; remove the zero", n.describe())
		return
	}
	if math.Abs(f) > math.MaxInt32 {
		r.errorf(n.place, "%s is too large; write for example %s", n.describe(), row.example)
		return
	}
	if *t = int(f); float64(*t) != f {
		r.warnf(n.place, "%s counts as %d; write a whole number", n.describe(), *t)
	}
}

func (r *reader) texts(row row, n *node, t *map[string]string) {
	if n.kind != mapping {
		r.errorf(n.place, "%s where names and values are needed; write below it for example %s", n.describe(), row.example)
		return
	}
	*t = make(map[string]string, len(n.fields))
	for _, f := range n.fields {
		var value string
		if f.value.kind == null {
			r.errorf(f.at, "has no value; write \"\" for an empty text")
			continue
		}
		r.text(row, f.value, &value)
		(*t)[f.key] = value
	}
}

// each reads a list with a function for its elements.
func each[T any](r *reader, row row, n *node, one func(*node) (T, bool)) []T {
	if n.kind != list {
		r.errorf(n.place, "%s where a list is needed; write for example %s", n.describe(), row.example)
		return nil
	}
	var out []T
	for _, item := range n.items {
		if item.kind != scalar {
			r.errorf(item.place, "%s in a list of single values; write for example %s", item.describe(), row.example)
			continue
		}
		if v, ok := one(item); ok {
			out = append(out, v)
		}
	}
	return out
}

// unknownKeys warns about the keys of a section that the schema does not have.
func (r *reader) unknownKeys(n *node, section string) {
	names := known(section)
	for _, f := range n.fields {
		if !slices.Contains(names, f.key) {
			hint := cmp.Or(elsewhere(section, f.key), nearest(f.key, names), "it has no effect; known here are "+strings.Join(names, ", "))
			r.warnf(f.at, "unknown key %s; %s", quoted(f.key), hint)
		}
	}
}

// nearest asks whether one of the names was meant, "" if none is like word.
func nearest(word string, names []string) string {
	if near, ok := suggest.Nearest(word, names); ok {
		return "did you mean " + show([]string{near}) + "?"
	}
	return ""
}

// elsewhere asks whether the key of that name in another section was meant.
func elsewhere(section, name string) string {
	for _, row := range schema {
		if row.section() != section && strings.EqualFold(row.name(), name) {
			return "it belongs elsewhere: did you mean " + row.key + "?"
		}
	}
	return ""
}
