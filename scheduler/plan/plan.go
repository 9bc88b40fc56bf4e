// Package plan decides which agent runs which task. It is pure: equal inputs
// give an equal plan, nothing is mutated, and what does not fit is data.
package plan

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pancake-stack/pancake"
)

// Want is one instance that needs an agent.
type Want struct {
	RequestID string
	DeployID  string
	Instance  int
	Resources pancake.Resources // of which CPUs and MemoryMB count
	Ports     []pancake.PortMapping
	// Attributes must each equal the agent's.
	Attributes map[string]string
}

// Group names the tasks among which a want is spread: those of one deploy. The
// tasks of the deploy that it replaces are on their way out and do not count.
type Group struct{ RequestID, DeployID string }

// Input is what Place decides on.
type Input struct {
	Wants  []Want
	Offers []pancake.Offer
	// Running counts, per group and agent id, the tasks that are already there.
	Running map[Group]map[string]int
	// Cursor is, per agent id, where the search for a free port begins, so that
	// one which was just freed, or just failed, is not handed out again at once.
	Cursor map[string]int
}

// Placement puts one want on one agent.
type Placement struct {
	Want    Want
	AgentID string
	// Ports are the want's mappings with every HostPort filled in.
	Ports []pancake.PortMapping
	// Cursor is where the agent's next search for a port begins.
	Cursor int
}

// Unplaced is a want that fits on no agent.
type Unplaced struct {
	Want    Want
	Reasons []Reason
}

// Reason is one constraint that ruled agents out.
type Reason struct {
	Constraint string // "agents", "state", "attribute <name>", "cpus", "mem", "ports"
	Agents     int    // how many it ruled out
	Message    string // the nearest miss, in words
}

// Place finds an agent for each want. Among the agents that fit it takes the
// one with the fewest tasks of the want's group, then in the rack with the
// fewest, then with the most room left, then with the smallest id. The order of
// Wants and Offers does not matter: instances are placed by request, deploy and number.
func Place(in Input) ([]Placement, []Unplaced) {
	wants := slices.Clone(in.Wants)
	slices.SortStableFunc(wants, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.RequestID, b.RequestID), cmp.Compare(a.DeployID, b.DeployID), cmp.Compare(a.Instance, b.Instance))
	})
	p := newPlanner(in)
	placed := make([]Placement, 0, len(wants))
	var unplaced []Unplaced
	for i, w := range wants {
		// What did not fit a moment ago does not fit now: room only shrinks.
		if n := len(unplaced); n > 0 && i > 0 && sameShape(w, wants[i-1]) && sameShape(w, unplaced[n-1].Want) {
			unplaced = append(unplaced, Unplaced{Want: w, Reasons: unplaced[n-1].Reasons})
			continue
		}
		a := p.pick(w)
		if a == nil {
			unplaced = append(unplaced, Unplaced{Want: w, Reasons: p.explain(w)})
			continue
		}
		placed = append(placed, p.take(a, w))
	}
	return placed, unplaced
}

func sameShape(a, b Want) bool {
	return a.RequestID == b.RequestID && a.DeployID == b.DeployID &&
		a.Resources.CPUs == b.Resources.CPUs && a.Resources.MemoryMB == b.Resources.MemoryMB &&
		slices.Equal(a.Ports, b.Ports) && maps.Equal(a.Attributes, b.Attributes)
}
