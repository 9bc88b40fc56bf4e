package identity

import (
	"slices"

	"github.com/pancake-stack/pancake"
)

// Role is how much of the API somebody may use. Each includes the ones before it.
type Role string

// The roles. The zero Role may do nothing.
const (
	Viewer   Role = "viewer"
	Deployer Role = "deployer"
	Operator Role = "operator"
)

// rank orders the roles; 0 is none.
func (r Role) rank() int { return 1 + slices.Index([]Role{Viewer, Deployer, Operator}, r) }

// ParseRole fails with Invalid for what is not a role.
func ParseRole(text string) (Role, error) {
	r := Role(text)
	if r.rank() == 0 {
		return "", pancake.Errorf(pancake.Invalid, "role %q is not one of %s, %s, %s", clip(text), Viewer, Deployer, Operator)
	}
	return r, nil
}

// AllGroups as a group of a grant stands for every group.
const AllGroups = "*"

// Grant is what somebody was given: a role, and the groups whose requests it is
// for. Operators need no groups.
type Grant struct {
	Role   Role     `json:"role"`
	Groups []string `json:"groups,omitempty"`
}

// Validate fails with Invalid for an unknown role or a group that cannot be one.
func (g Grant) Validate() error {
	if _, err := ParseRole(string(g.Role)); err != nil {
		return err
	}
	for _, name := range g.Groups {
		if name != AllGroups && (len(name) == 0 || len(name) > maxID || !only(name, "._-@:/", true)) {
			return pancake.Errorf(pancake.Invalid, "group %q must be 1 to %d letters, digits, \".\", \"_\", \"-\", \"@\", \":\" or \"/\"", clip(name), maxID)
		}
	}
	return nil
}

// Subject is who asks, and what it was given.
type Subject struct {
	// Name is for the audit log: "token:<id>" or the URI of a certificate.
	Name string
	Grant
}

// Action is something the API does.
type Action string

// The actions.
const (
	ActionRead     Action = "read" // requests, deploys, tasks, agents, events
	ActionLogs     Action = "logs"
	ActionDeploy   Action = "deploy"
	ActionScale    Action = "scale"
	ActionDelete   Action = "delete"
	ActionKill     Action = "kill"
	ActionFreeze   Action = "freeze" // agents; so are the next three
	ActionDrain    Action = "drain"
	ActionActivate Action = "activate"
	ActionForget   Action = "forget"
	ActionTokens   Action = "tokens" // create, list, revoke, both types
	ActionAudit    Action = "audit"  // read the audit log
	ActionCA       Action = "ca"     // issue, rotate, revoke; gossip keys too
)

// rule says what an action asks for.
type rule struct {
	role   Role
	writes bool // of a request: its read-only groups are not enough
}

// rules is the table of who may do what. What is not in it, nobody may.
func rules(a Action) (rule, bool) {
	switch a {
	case ActionRead, ActionLogs:
		return rule{role: Viewer}, true
	case ActionDeploy, ActionScale, ActionDelete, ActionKill:
		return rule{role: Deployer, writes: true}, true
	case ActionFreeze, ActionDrain, ActionActivate, ActionForget, ActionTokens, ActionAudit, ActionCA:
		return rule{role: Operator}, true
	}
	return rule{}, false
}

// Ownership is which groups a request belongs to, with Singularity's meaning:
//
//   - Group and ReadWrite together may read and change it.
//   - ReadOnly may read it.
//   - When Group and ReadWrite are empty, it belongs to nobody and so to all:
//     ReadOnly then keeps nobody out.
type Ownership struct {
	Group     string   // "group"
	ReadWrite []string // "readWriteGroups"
	ReadOnly  []string // "readOnlyGroups"
}

// Authorize decides whether somebody may do something. On names the owners of the
// requests it touches, none when it touches none; a change of a request's groups
// touches the request as it was and as it shall be. The error is Denied, with the
// reason WrongRole or WrongGroup.
func Authorize(s Subject, a Action, on ...Ownership) error {
	r, known := rules(a)
	if !known {
		return Deny(WrongRole, "nobody may %q: there is no such action", clip(string(a)))
	}
	if s.Role.rank() < r.role.rank() {
		if s.Role.rank() == 0 {
			return Deny(WrongRole, "%s has no role; %q needs the role %s", s.Name, a, r.role)
		}
		return Deny(WrongRole, "%s has the role %s; %q needs the role %s", s.Name, s.Role, a, r.role)
	}
	for _, o := range on {
		if !o.admits(s.Grant, r.writes) {
			return Deny(WrongGroup, "%s is in none of the groups that may %q this request", s.Name, a)
		}
	}
	return nil
}

func (o Ownership) admits(g Grant, writes bool) bool {
	if g.Role == Operator || o.Group == "" && len(o.ReadWrite) == 0 {
		return true
	}
	in := func(group string) bool {
		return group != "" && (slices.Contains(g.Groups, group) || slices.Contains(g.Groups, AllGroups))
	}
	return in(o.Group) || slices.ContainsFunc(o.ReadWrite, in) || !writes && slices.ContainsFunc(o.ReadOnly, in)
}
