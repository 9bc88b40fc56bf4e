package pancake

import (
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is, so that callers can react
// without reading its text: the HTTP layer picks a status, the CLI an exit code.
type Kind string

// The kinds. An error without one counts as Internal.
const (
	Invalid     Kind = "invalid"     // the input is wrong; the same call will fail again
	NotFound    Kind = "not_found"   // the thing named does not exist
	Conflict    Kind = "conflict"    // the state does not allow it now: it exists, a deploy is pending, …
	NoRoom      Kind = "no_room"     // valid, but no agent has what it needs
	Unavailable Kind = "unavailable" // a part that is needed does not answer; worth a retry
	Failed      Kind = "failed"      // it was tried and did not work out, for example a deploy
	Internal    Kind = "internal"    // a defect of ours

	Unauthenticated Kind = "unauthenticated" // nobody can tell who asks: no credential, or one that is not good
	Forbidden       Kind = "forbidden"       // it is known who asks, and the answer is no
)

// Error is a failure with a kind and a text that says what is wrong and what
// to do. Err, if set, is the cause and is reachable through errors.Is and As.
type Error struct {
	Kind    Kind
	Message string
	Err     error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of the given kind. Operands behind %w become its cause.
func Errorf(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Err: errors.Unwrap(err)}
}

// KindOf returns the kind of the first Error in err's chain, Internal if there
// is none, and "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
