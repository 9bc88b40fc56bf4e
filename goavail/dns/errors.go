package dns

import (
	"errors"
	"time"
)

// Reason says what a failure of a provider means for the caller.
type Reason string

// The reasons. An error without one counts as Unavailable.
const (
	RateLimited Reason = "rate_limited" // not done, and not to be tried again for RetryAfter
	Conflict    Reason = "conflict"     // not done: the set has been changed by somebody else; read again
	Unknown     Reason = "unknown"      // perhaps done: the answer was lost; read again
	Refused     Reason = "refused"      // not done, and will not be: credentials, permissions, or a wrong request
	Unavailable Reason = "unavailable"  // not done: the provider is out of order; worth a retry
)

// Error is why a provider did not do what it was asked to.
type Error struct {
	Reason     Reason
	RetryAfter time.Duration // of RateLimited: at least this long; 0 if the provider did not say
	Err        error         // what happened; never nil
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of the first Error in err's chain, Unavailable if
// there is none, and "" for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return Unavailable
}

// RetryAfter returns how long the provider wants to be left alone, 0 if it did not say.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
