package pace

import (
	"cmp"
	"errors"
	"slices"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// Isolate sends things together. If they are refused, or in conflict, it sends them
// by halves, so that a bad one among them does not hold up the others for more than
// a few calls.
func Isolate[T any](things []T, send func([]T) error) error {
	if len(things) == 0 {
		return nil
	}
	err := send(things)
	if reason := dns.ReasonOf(err); len(things) == 1 || reason != dns.Refused && reason != dns.Conflict {
		return err
	}
	half := len(things) / 2
	return Join(Isolate(things[:half], send), Isolate(things[half:], send))
}

// ranks order the reasons by how much a caller has to mind them.
var ranks = []dns.Reason{dns.RateLimited, dns.Unknown, dns.Unavailable, dns.Conflict, dns.Refused}

// Join joins errors with the one first whose reason, and pause, counts for all of them.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	slices.SortStableFunc(errs, func(a, b error) int {
		return cmp.Compare(slices.Index(ranks, dns.ReasonOf(a)), slices.Index(ranks, dns.ReasonOf(b)))
	})
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
