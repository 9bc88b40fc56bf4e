package dns

import "slices"

// Edits are the steps of a Change, member by member.
type Edits struct {
	Create []Member
	Remove []Member // as they were; never foreign ones
	Switch []Member // as they should be; never foreign ones
	Mark   []Member // as they should be: only their owner is new
}

// Edits finds the steps from Before to After.
func (c Change) Edits() Edits {
	var e Edits
	for _, want := range c.After.Members {
		have, exists := c.Before.Find(want.Value)
		switch {
		case !exists:
			e.Create = append(e.Create, want)
			continue
		case want.Owner != "" && want.Owner != have.Owner:
			e.Mark = append(e.Mark, want)
		}
		if want.On != have.On && want.Owner != "" {
			e.Switch = append(e.Switch, want)
		}
	}
	for _, have := range c.Before.Members {
		if _, stays := c.After.Find(have.Value); !stays && have.Owner != "" {
			e.Remove = append(e.Remove, have)
		}
	}
	return e
}

// None says that there is nothing to do.
func (e Edits) None() bool {
	return len(e.Create) == 0 && len(e.Remove) == 0 && len(e.Switch) == 0 && len(e.Mark) == 0
}

// Result is the set that a provider has to write who writes whole sets: After, but
// with the foreign members of Before, and with what exists left as it is.
func (c Change) Result() Set {
	out := c.Before.Clone()
	e := c.Edits()
	out.Members = slices.DeleteFunc(out.Members, func(m Member) bool {
		return slices.ContainsFunc(e.Remove, func(r Member) bool { return r.Value == m.Value })
	})
	out.Members = append(out.Members, e.Create...)
	for i, m := range out.Members {
		if want, ok := c.After.Find(m.Value); ok && want.Owner != "" {
			out.Members[i].Owner, out.Members[i].On = want.Owner, want.On
		}
	}
	if len(c.Before.Members) == 0 {
		out.Key, out.TTL, out.Policy = c.After.Key, c.After.TTL, c.After.Policy
	}
	return out
}

// Owner returns who may change the set, of a provider that marks whole sets:
// the first owner among the members.
func (s *Set) Owner() string {
	for _, m := range s.Members {
		if m.Owner != "" {
			return m.Owner
		}
	}
	return ""
}
