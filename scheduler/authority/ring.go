package authority

import (
	"time"

	"github.com/pancake-stack/pancake"
)

// ring is something that is replaced without a moment at which anybody lacks it:
// the next one is introduced to all, then used, then the previous one forgotten.
type ring[T any] struct {
	Current  T        `json:"current"`
	Next     *T       `json:"next,omitempty"`     // while Introduced
	Previous *T       `json:"previous,omitempty"` // while Switched
	Rotation Rotation `json:"rotation"`
}

func newRing[T any](first T, now time.Time) ring[T] {
	return ring[T]{Current: first, Rotation: Rotation{Phase: Stable, Since: now}}
}

// all is what is taken, the current one first.
func (r ring[T]) all() []T {
	out := []T{r.Current}
	for _, other := range []*T{r.Next, r.Previous} {
		if other != nil {
			out = append(out, *other)
		}
	}
	return out
}

// begin introduces the next one. It fails with Conflict while a replacement is
// under way.
func (r ring[T]) begin(next T, overlap time.Duration, now time.Time) (ring[T], error) {
	if r.Rotation.Phase != Stable {
		return r, pancake.Errorf(pancake.Conflict, "a replacement is under way, in phase %q since %s; let it finish, or advance it",
			r.Rotation.Phase, r.Rotation.Since.UTC().Format(time.RFC3339))
	}
	r.Next, r.Rotation = &next, Rotation{Phase: Introduced, Since: now, Overlap: overlap}
	return r, nil
}

// advance goes to the phase after from. It fails with Conflict when from is not
// the phase it is in, as when somebody else advanced it.
func (r ring[T]) advance(from Phase, now time.Time) (ring[T], error) {
	switch {
	case from != r.Rotation.Phase:
		return r, pancake.Errorf(pancake.Conflict, "the replacement is in phase %q, not %q", r.Rotation.Phase, from)
	case from == Introduced && r.Next != nil:
		previous := r.Current
		r.Current, r.Next, r.Previous, r.Rotation.Phase = *r.Next, nil, &previous, Switched
	case from == Switched:
		r.Previous, r.Rotation.Phase = nil, Stable
	default:
		return r, pancake.Errorf(pancake.Conflict, "no replacement is under way")
	}
	r.Rotation.Since = now
	return r, nil
}

// due reports whether the phase has lasted as long as it was to.
func (r Rotation) due(now time.Time) bool {
	return r.Phase != Stable && !now.Before(r.Since.Add(r.Overlap))
}
