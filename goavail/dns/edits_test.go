package dns

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func members(t *rapid.T, name string, owners ...string) []Member {
	values := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), func(s string) string { return s }).Draw(t, name)
	var out []Member
	for _, v := range values {
		out = append(out, Member{Value: v, On: rapid.Bool().Draw(t, name+"on"), Owner: rapid.SampledFrom(owners).Draw(t, name+"owner")})
	}
	return out
}

// Whatever a change says, foreign members stay as they are, and the steps lead to the result.
func TestEdits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Change{Before: Set{Members: members(t, "before", "", "us", "them")}, After: Set{Members: members(t, "after", "", "us")}}
		edits, result := c.Edits(), c.Result()
		for _, m := range edits.Remove {
			if m.Owner == "" {
				t.Fatalf("removes the foreign %s", m.Value)
			}
		}
		for _, m := range slices.Concat(edits.Switch, edits.Mark) {
			if m.Owner == "" {
				t.Fatalf("changes the foreign %s", m.Value)
			}
		}
		if want := len(c.Before.Members) - len(edits.Remove) + len(edits.Create); len(result.Members) != want {
			t.Fatalf("%d members, want %d", len(result.Members), want)
		}
		for _, have := range c.Before.Members {
			now, stays := result.Find(have.Value)
			_, wanted := c.After.Find(have.Value)
			if have.Owner == "" && !stays {
				t.Fatalf("the foreign %s is gone", have.Value)
			}
			if !wanted && have.Owner == "" && now != have {
				t.Fatalf("the foreign %s changed: %+v", have.Value, now)
			}
			if stays && have.Owner != "" && !wanted {
				t.Fatalf("%s is still there", have.Value)
			}
		}
		again := Change{Before: result, After: c.After}.Edits()
		if !again.None() {
			t.Fatalf("a second time there is something to do: %+v", again)
		}
	})
}
