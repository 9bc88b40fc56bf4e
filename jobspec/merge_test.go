package jobspec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// render writes a node without its places.
func render(n *node) string {
	var parts []string
	switch {
	case n == nil || n.kind == null:
		return "null"
	case n.kind == scalar:
		return n.text
	case n.kind == list:
		for _, item := range n.items {
			parts = append(parts, render(item))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	for _, f := range n.fields {
		parts = append(parts, f.key+":"+render(f.value))
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ",") + "}"
}

// values draws trees as they may stand in a file. The first letter of a key
// says which shape is under it, so that two trees have the same shapes.
func values(depth int) *rapid.Generator[*node] {
	return rapid.Custom(func(t *rapid.T) *node {
		keys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"s1", "s2", "l1", "l2", "m1", "m2"}), 0, 4, rapid.ID).Draw(t, "keys")
		out := &node{kind: mapping}
		for _, key := range keys {
			value := &node{kind: scalar, text: rapid.StringMatching(`[a-c]`).Draw(t, "text")}
			switch {
			case rapid.IntRange(0, 5).Draw(t, "null") == 0:
				value = &node{}
			case key[0] == 'l':
				value = &node{kind: list}
				for _, text := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-d]`), 0, 4, rapid.ID).Draw(t, "items") {
					value.items = append(value.items, &node{kind: scalar, text: text})
				}
			case key[0] == 'm' && depth > 0:
				value = values(depth-1).Draw(t, key)
			case key[0] == 'm':
				value = &node{kind: mapping}
			}
			out.fields = append(out.fields, field{key: key, value: value})
		}
		return out
	})
}

func TestMergeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		common, env := values(2).Draw(t, "common"), values(2).Draw(t, "env")
		commonBefore, envBefore := render(common), render(env)
		out := newReport("")
		merged := merge(out, common, env)
		if len(out.list) > 0 {
			t.Fatalf("problems: %v", out.list)
		}
		if render(common) != commonBefore || render(env) != envBefore {
			t.Fatal("the merged trees were changed")
		}
		checkMerged(t, common, env, merged)
		if again := merge(out, common, merged); render(again) != render(merged) {
			t.Fatalf("merging once more changes %s to %s", render(merged), render(again))
		}
		if got := render(merge(out, nil, env)); got != envBefore {
			t.Fatalf("without common: %s", got)
		}
		if got := render(merge(out, common, &node{kind: mapping})); got != commonBefore {
			t.Fatalf("an empty environment: %s", got)
		}
	})
}

// checkMerged compares with the rules as they are written down, key by key.
func checkMerged(t *rapid.T, common, env, merged *node) {
	all := slices.Concat(common.keys(), env.keys())
	for _, key := range merged.keys() {
		if !slices.Contains(all, key) {
			t.Fatalf("%s comes from nowhere", key)
		}
	}
	for _, key := range all {
		c, e, m := raw(common, key), raw(env, key), raw(merged, key)
		switch {
		case m == nil:
			t.Fatalf("%s is lost", key)
		case e == nil:
			same(t, key, m, c)
		case c == nil || c.kind == null || e.kind == null || e.kind == scalar:
			same(t, key, m, e)
		case e.kind == mapping:
			checkMerged(t, c, e, m)
		default:
			var want []string
			for _, item := range slices.Concat(e.items, c.items) {
				if !slices.Contains(want, item.text) {
					want = append(want, item.text)
				}
			}
			if got, want := render(m), "["+strings.Join(want, ",")+"]"; got != want {
				t.Fatalf("%s: got %s, want %s", key, got, want)
			}
		}
	}
}

// raw is get, but tells null from nothing.
func raw(n *node, key string) *node {
	for _, f := range n.fields {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

func same(t *rapid.T, key string, got, want *node) {
	if render(got) != render(want) {
		t.Fatalf("%s: got %s, want %s", key, render(got), render(want))
	}
}

func TestMergeOfDifferentShapes(t *testing.T) {
	shapes := map[string]string{"a text": "x", "a list": "[x]", "a mapping": "{x: y}"}
	for commonShape, common := range shapes {
		for envShape, env := range shapes {
			text := fmt.Sprintf("nmesos_version: '3.0.7'\ncommon: {s: %s}\nenvironments: {dev: {s: %s}}\n", common, env)
			_, diagnostics := Parse("hello.yml", []byte(text))
			got := strings.Contains(diagnostics.String(), "give both the same shape")
			if want := commonShape != envShape && envShape != "a text"; got != want {
				t.Errorf("%s over %s: %v", envShape, commonShape, diagnostics)
			}
		}
	}
}
