// Package dns is the contract between goavail and those who hold the records:
// what a set of records is, how it is read and changed, and how it fails.
//
// Two sorts of sets exist. Of a record set (A, AAAA, CNAME) a member that is out
// of service is simply not there. Of a switched set (a load balancer's pool, health
// checks that can be inverted) all members are always there, and each is on or off.
// Both are read and changed in the same way.
package dns

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// The types of sets. Pool and Check are switched.
const (
	A     = "A"
	AAAA  = "AAAA"
	CNAME = "CNAME"
	Pool  = "POOL"  // Name is the pool's name, members are its origins by address
	Check = "CHECK" // Name is any name, members are health checks by id
)

// Key names one set.
type Key struct {
	// Name is a domain name in lower case without the last dot; for a switched set
	// whatever the provider knows it by.
	Name string
	Type string
	// Set tells apart the sets of one name and type that a provider picks from by
	// policy: Route 53's set identifier. "" for a set that is alone.
	Set string
}

// String is how messages and logs call the set.
func (k Key) String() string {
	s := k.Name + " " + k.Type
	if k.Set != "" {
		s += " " + k.Set
	}
	return s
}

// Switched says that members of the set are switched on and off rather than added and removed.
func (k Key) Switched() bool { return k.Type == Pool || k.Type == Check }

// Compare orders keys by name, type and set.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Name, o.Name), cmp.Compare(k.Type, o.Type), cmp.Compare(k.Set, o.Set))
}

// Clean brings a domain name into the form that Key has.
func Clean(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Policy is how a provider picks among the sets of one name: Route 53's routing.
// The zero value is a set that is alone.
type Policy struct {
	Kind      string // "", weighted, latency, failover, geo or multivalue
	Weight    int64  // weighted: 0 to 255
	Region    string // latency: an AWS region
	Failover  string // failover: PRIMARY or SECONDARY
	Continent string // geo: a code, or
	Country   string // geo: a code, "*" for all others
	State     string // geo: the subdivision of a country
	CheckID   string // the health check that guards the set, if any
}

// Set is one set with its members.
type Set struct {
	Key
	TTL     int // in seconds; 0 leaves it to the provider (Cloudflare's automatic TTL is 1 there)
	Policy  Policy
	Members []Member // by value, each value once
	// Version is what the provider needs to tell whether somebody has changed the set
	// since it was read. It is opaque, and "" if the provider has none.
	Version string
}

// Member is one value of a set.
type Member struct {
	Value string // an address, a domain name in the form of Key.Name, or a check's id
	On    bool   // always true in a record set
	// Owner is who may change the member, as its mark says: "" for nobody, so that it is
	// foreign. Providers that mark whole sets give every member of a marked set the owner.
	Owner string
	// Proxied is Cloudflare's: traffic goes through it.
	Proxied bool
	// ID is the provider's own name for the record. It is opaque.
	ID string
}

// Find returns the member with a value.
func (s *Set) Find(value string) (Member, bool) {
	i := slices.IndexFunc(s.Members, func(m Member) bool { return m.Value == value })
	if i < 0 {
		return Member{}, false
	}
	return s.Members[i], true
}

// Values lists what is on, sorted.
func (s *Set) Values() []string {
	var out []string
	for _, m := range s.Members {
		if m.On {
			out = append(out, m.Value)
		}
	}
	slices.Sort(out)
	return out
}

// Clone copies the set, so that its members can be changed.
func (s Set) Clone() Set {
	s.Members = slices.Clone(s.Members)
	return s
}

// Change is one set as it was read and as it should be. The provider finds the
// smallest way from one to the other:
//
//   - A member that is only in After is created, and marked with its Owner.
//   - A member that is only in Before is removed. Foreign members never are.
//   - A member whose On differs is switched.
//   - A member whose Owner differs is adopted: only its mark is written.
//   - Everything else of a member, and of the set, is left as it is where it exists:
//     TTL, proxied flag, comment, tags, policy. TTL, Policy and Proxied of After are for
//     what is created.
//
// What is created comes before what is removed, unless the type allows only one member
// (CNAME), which is replaced in place. An After without members removes the set; it
// comes only for sets that others of the same name stand in for.
type Change struct {
	Before, After Set
}

// Provider holds the records. Its methods are bounded by ctx and safe for concurrent use.
type Provider interface {
	// Read returns the sets with these keys as they are now, in the order of the keys,
	// without a cache in between; a set that does not exist comes without members. It
	// reads all of them or fails.
	Read(ctx context.Context, keys []Key) ([]Set, error)
	// Apply makes the changes, all at once where the provider can. After an error some of
	// them may have been made: the caller reads again. A set that is not what Before says
	// is not changed and gives Conflict, as far as the provider can tell.
	Apply(ctx context.Context, changes []Change) error
	// Check finds out, without changing anything, whether the credentials are good for
	// reading and writing the sets, and whether their zones or pools exist. The error
	// says all that is wrong and what to do.
	Check(ctx context.Context, keys []Key) error
	// Capabilities say what the provider can do. They never change.
	Capabilities() Capabilities
}

// Capabilities say what a provider can do.
type Capabilities struct {
	Name     string   // for messages: cloudflare, route53, rfc2136
	Types    []string // the types of sets that it has
	Sets     bool     // several sets of one name and type, picked by Policy
	PerValue bool     // marks single members rather than whole sets
	Atomic   bool     // makes the changes of one Apply all or none
	Compares bool     // notices on its own that a set is not what Before says
}
