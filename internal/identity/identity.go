// Package identity says who is who between the parts of Pancake: the names that
// certificates carry, the certificate authority that signs them, the TLS
// configurations that check them, tokens, and what each role may do.
//
// A peer is known by the URI in its certificate, pancake://<cluster>/<kind>/<id>,
// never by its host name or address.
package identity

import (
	"strings"

	"github.com/pancake-stack/pancake"
)

// Kind is what sort of part, or person, an identity names.
type Kind string

// The kinds.
const (
	Scheduler Kind = "scheduler"
	Agent     Kind = "agent" // a node: executor and sidecar
	User      Kind = "user"  // a person or program that calls the API with a certificate
	Ingress   Kind = "ingress"
	Goavail   Kind = "goavail"
	Proviso   Kind = "proviso"
)

// Kinds are all kinds there are.
func Kinds() []Kind { return []Kind{Scheduler, Agent, User, Ingress, Goavail, Proviso} }

// Valid reports whether k is one of Kinds.
func (k Kind) Valid() bool {
	switch k {
	case Scheduler, Agent, User, Ingress, Goavail, Proviso:
		return true
	}
	return false
}

// Identity names one part of one cluster.
type Identity struct {
	Cluster string // 1 to 63 of a–z, 0–9 and "-", beginning and ending with a letter or digit
	Kind    Kind
	ID      string // 1 to 128 of A–Z, a–z, 0–9 and ".", "_", "-", "@", beginning with a letter or digit
}

// scheme begins the URI of every identity.
const scheme = "pancake://"

// The longest cluster name, as of a DNS label, and the longest id.
const (
	maxCluster = 63
	maxID      = 128
)

// String is the identity's URI, "pancake://<cluster>/<kind>/<id>".
func (i Identity) String() string { return scheme + i.Cluster + "/" + string(i.Kind) + "/" + i.ID }

// Validate fails with Invalid and says which part of the identity is wrong.
func (i Identity) Validate() error {
	if err := ValidCluster(i.Cluster); err != nil {
		return err
	}
	if !i.Kind.Valid() {
		return pancake.Errorf(pancake.Invalid, "identity kind %q is not one of %v", clip(string(i.Kind)), Kinds())
	}
	if len(i.ID) == 0 || len(i.ID) > maxID || !alnum(i.ID[0]) || !only(i.ID, "._-@", true) {
		return pancake.Errorf(pancake.Invalid, "identity id %q must be 1 to %d letters, digits, \".\", \"_\", \"-\" or \"@\", and begin with a letter or digit", clip(i.ID), maxID)
	}
	return nil
}

// ValidCluster fails with Invalid for what cannot name a cluster.
func ValidCluster(name string) error {
	if len(name) == 0 || len(name) > maxCluster || !alnum(name[0]) || !alnum(name[len(name)-1]) || !only(name, "-", false) {
		return pancake.Errorf(pancake.Invalid, "cluster name %q must be 1 to %d of a-z, 0-9 and \"-\", and begin and end with a letter or digit", clip(name), maxCluster)
	}
	return nil
}

// Parse reads an identity from its URI. It fails with Invalid.
func Parse(uri string) (Identity, error) {
	rest, ok := strings.CutPrefix(uri, scheme)
	cluster, rest, ok2 := strings.Cut(rest, "/")
	kind, id, ok3 := strings.Cut(rest, "/")
	if !ok || !ok2 || !ok3 {
		return Identity{}, pancake.Errorf(pancake.Invalid, "%q is not an identity; one looks like %s<cluster>/<kind>/<id>", clip(uri), scheme)
	}
	i := Identity{Cluster: cluster, Kind: Kind(kind), ID: id}
	return i, i.Validate()
}

// only reports whether s has but ASCII letters, digits and the extra characters.
func only(s, extra string, upper bool) bool {
	for k := range len(s) {
		c := s[k]
		if !alnum(c) && strings.IndexByte(extra, c) < 0 || !upper && c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// clip keeps what strangers sent from filling messages and logs.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
