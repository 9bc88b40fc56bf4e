package identity

import (
	"errors"

	"github.com/pancake-stack/pancake"
)

// Reason says which check a credential or a right failed. There are few, so that
// they can label metrics.
type Reason string

// The reasons.
const (
	NoCertificate Reason = "no_certificate"
	Malformed     Reason = "malformed" // a certificate without an identity, a token that is not one
	WrongCA       Reason = "wrong_ca"  // self-signed certificates too
	WrongCluster  Reason = "wrong_cluster"
	WrongKind     Reason = "wrong_kind"
	WrongPeer     Reason = "wrong_peer"    // the right kind, another id
	NotYetValid   Reason = "not_yet_valid" // as a rule a clock is wrong
	Expired       Reason = "expired"
	Revoked       Reason = "revoked"

	NoToken      Reason = "no_token"
	UnknownToken Reason = "unknown_token" // no such id, or the wrong secret
	UsedToken    Reason = "used_token"    // all its uses are gone

	WrongRole  Reason = "wrong_role"
	WrongGroup Reason = "wrong_group"
	Refused    Reason = "refused" // any other
)

// Denied is the refusal of a credential or a right. Its text is for logs and for
// whoever has shown that the credential is theirs; a TLS peer gets the same alert for every reason.
type Denied struct {
	Reason Reason
	err    error
}

func (d *Denied) Error() string { return d.err.Error() }

func (d *Denied) Unwrap() error { return d.err }

// Clock reports whether a clock that is wrong may be all that is the matter.
func (d *Denied) Clock() bool { return d.Reason == NotYetValid || d.Reason == Expired }

// Deny makes a Denied of kind Forbidden for WrongRole and WrongGroup, and of kind
// Unauthenticated for all other reasons.
func Deny(reason Reason, format string, args ...any) error {
	kind := pancake.Unauthenticated
	if reason == WrongRole || reason == WrongGroup {
		kind = pancake.Forbidden
	}
	return &Denied{Reason: reason, err: pancake.Errorf(kind, format, args...)}
}

// ReasonOf returns the reason of the first Denied in err's chain, "" if there is
// none.
func ReasonOf(err error) Reason {
	if d, ok := errors.AsType[*Denied](err); ok {
		return d.Reason
	}
	return ""
}
