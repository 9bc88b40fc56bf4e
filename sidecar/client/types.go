package client

import (
	"maps"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
)

// State is what one Sidecar knows: GET /api/state.json, and each document of
// GET /api/watch?by_service=false.
type State struct {
	Servers     map[string]*Server
	LastChanged time.Time
	ClusterName string
	Hostname    string // of the Sidecar that answers
}

// Server is one host and the services that it announces.
type Server struct {
	Name        string
	Services    map[string]*pancake.Service // by Service.ID
	LastUpdated time.Time
	LastChanged time.Time
}

// Clone returns a copy that shares nothing with the original.
func (s *State) Clone() *State {
	if s == nil {
		return nil
	}
	out := *s
	out.Servers = make(map[string]*Server, len(s.Servers))
	for name, host := range s.Servers {
		if host == nil {
			continue // "null" in somebody's JSON
		}
		h := *host
		h.Services = make(map[string]*pancake.Service, len(host.Services))
		for id, svc := range host.Services {
			if svc != nil {
				h.Services[id] = cloneService(svc)
			}
		}
		out.Servers[name] = &h
	}
	return &out
}

func cloneService(s *pancake.Service) *pancake.Service {
	out := *s
	out.Ports = slices.Clone(s.Ports)
	out.Labels = maps.Clone(s.Labels)
	return &out
}

// ChangeEvent is one change of a service.
type ChangeEvent struct {
	Service        pancake.Service
	PreviousStatus pancake.ServiceStatus // Unknown for a service that is new
	Time           time.Time
}

// StateChangedEvent is what a Sidecar posts to its listeners: the change and the
// state after it.
type StateChangedEvent struct {
	State       *State
	ChangeEvent ChangeEvent
}

// Event is one event of GET /v1/events.
type Event struct {
	// ID is where to go on after this event.
	ID string
	// Reset is set when the changes behind the ID that was asked for are not known
	// any more. Fetch the state anew; the changes that follow are complete again.
	Reset *Reset
	// Change is the change, unless Reset is set.
	Change ChangeEvent
}

// Reset says why changes are missing, and what the reader does about it.
type Reset struct {
	Reason string
	Action string
}

// Member is one Sidecar of the gossip cluster: an entry of GET /v1/members.
type Member struct {
	Name    string
	Address string // host:port of its gossip
	State   MemberState
	Since   time.Time

	// What the member says of itself; empty if it says nothing.
	Version string `json:",omitempty"` // its release
	HTTP    string `json:",omitempty"` // host:port of its API
	Zone    string `json:",omitempty"`
}

// MemberState says what gossip makes of a member.
type MemberState string

// The member states.
const (
	MemberAlive MemberState = "alive"
	MemberLeft  MemberState = "left" // it said goodbye
	MemberDead  MemberState = "dead" // it stopped answering
)
