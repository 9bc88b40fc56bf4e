package pancake

import "time"

// AgentState is what the scheduler makes of an agent.
type AgentState string

// The agent states. Only an active agent gets new tasks.
const (
	AgentActive          AgentState = "ACTIVE"
	AgentFrozen          AgentState = "FROZEN"          // keeps its tasks
	AgentDecommissioning AgentState = "DECOMMISSIONING" // its tasks are replaced on other agents
	AgentDecommissioned  AgentState = "DECOMMISSIONED"  // it has none left
	AgentUnreachable     AgentState = "UNREACHABLE"
	AgentDead            AgentState = "DEAD"
)

// Agent is a node that offers resources.
// The agent itself says who it is and what it has; the scheduler alone writes State.
type Agent struct {
	// ID is made once and kept in the agent's data directory: it survives restarts.
	ID       string `json:"id"`
	Hostname string `json:"hostname"` // the name that its Sidecar announces
	// Address is where the ports of its tasks are reached.
	Address    string            `json:"address"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Resources  Resources         `json:"resources"` // all it has, used or not
	Version    string            `json:"version,omitempty"`

	State AgentState `json:"state"`
	// Wanted is what an operator wants of it: AgentFrozen, AgentDecommissioning or,
	// "", that it is active. It outlives restarts of the agent, and its absence.
	Wanted AgentState `json:"wantedState,omitempty"`
	// Parallel is how many of its tasks are replaced at a time while it is decommissioned.
	Parallel int       `json:"drainParallel,omitempty"`
	LastSeen time.Time `json:"lastSeen,omitzero"` // when State last changed or the agent registered
}

// Rack is the agent's failure domain: its attribute "rack", else "zone".
func (a *Agent) Rack() string {
	if r := a.Attributes["rack"]; r != "" {
		return r
	}
	return a.Attributes["zone"]
}

// Offer is what an agent has left.
type Offer struct {
	AgentID    string
	Hostname   string
	Rack       string
	State      AgentState // only an active agent gets tasks
	Attributes map[string]string
	Free       Resources
	// Ports are the host ports that no task holds.
	Ports PortSet
}
