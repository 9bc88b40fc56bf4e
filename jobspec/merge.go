package jobspec

import "slices"

// merge lays an environment over common, as nmesos does:
//   - what only one of them has is taken, and so is common's null replaced;
//   - two mappings are merged key by key;
//   - two lists become one: the environment's elements, then those of common
//     that it does not have yet, each once;
//   - any other value of the environment replaces common's, null included.
//
// A mapping or list that meets a value of another shape is an error; the
// environment's is taken.
func merge(out *report, common, env *node) *node {
	switch {
	case common == nil || common.kind == null || env.kind == null || env.kind == scalar:
		return env
	case common.kind != env.kind:
		out.errorf(env.place, "is %s, but line %d has %s for it under common; give both the same shape",
			shape[env.kind], common.line, shape[common.kind])
		return env
	case env.kind == list:
		merged := *env
		merged.items = union(env.items, common.items)
		return &merged
	}
	merged := *env
	merged.fields = slices.Clone(env.fields)
	index := make(map[string]int, len(env.fields))
	for i, f := range env.fields {
		index[f.key] = i
	}
	for _, f := range common.fields {
		if i, both := index[f.key]; both {
			merged.fields[i].value = merge(out, f.value, merged.fields[i].value)
		} else {
			merged.fields = append(merged.fields, f)
		}
	}
	return &merged
}

// union returns the elements of both lists in order. Scalars with the same
// text count as the same: 8080 and "8080" are one port.
func union(first, second []*node) []*node {
	var out []*node
	seen := map[string]bool{}
	for _, n := range slices.Concat(first, second) {
		if n.kind == scalar {
			if seen[n.text] {
				continue
			}
			seen[n.text] = true
		}
		out = append(out, n)
	}
	return out
}
