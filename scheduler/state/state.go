// Package state is what the scheduler knows, and how it changes: the requests,
// deploys, tasks and agents of a cluster, changed by one decision at a time.
package state

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/pancake-stack/pancake"
)

// ErrDeposed says that a write was refused because another scheduler leads now.
var ErrDeposed = errors.New("another scheduler leads now")

// How much history is kept per request.
const (
	maxEnded   = 50 // finished tasks, or two per instance if that is more
	maxDeploys = 20
)

// State is everything that must survive the scheduler. What its maps point to
// is never written again: a change puts a new value in the place of the old.
type State struct {
	Requests map[string]*pancake.Request
	Deploys  map[string]map[string]*pancake.Deploy // by request and id
	Tasks    map[string]*pancake.Task              // live ones
	Ended    map[string][]*pancake.Task            // by request, the latest last
	Agents   map[string]*pancake.Agent

	byRequest, byAgent map[string]map[string]*pancake.Task
}

// New returns an empty State.
func New() *State {
	return &State{
		Requests:  map[string]*pancake.Request{},
		Deploys:   map[string]map[string]*pancake.Deploy{},
		Tasks:     map[string]*pancake.Task{},
		Ended:     map[string][]*pancake.Task{},
		Agents:    map[string]*pancake.Agent{},
		byRequest: map[string]map[string]*pancake.Task{},
		byAgent:   map[string]map[string]*pancake.Task{},
	}
}

// Clone returns a State that changes independently of s.
func (s *State) Clone() *State {
	c := New()
	c.Apply(Change{Agents: slices.Collect(maps.Values(s.Agents)), Requests: slices.Collect(maps.Values(s.Requests)), Tasks: slices.Collect(maps.Values(s.Tasks))})
	for id, deploys := range s.Deploys {
		c.Deploys[id] = maps.Clone(deploys)
	}
	for id, ended := range s.Ended {
		c.Ended[id] = slices.Clone(ended)
	}
	return c
}

// Change is one decision: all of it is stored, or none.
type Change struct {
	Requests []*pancake.Request
	Deploys  []*pancake.Deploy
	Agents   []*pancake.Agent
	Tasks    []*pancake.Task // live ones, new or changed
	Ended    []*pancake.Task // no longer live: they become history

	// What is forgotten: old history, old deploys, a request with all that is its own, and an agent.
	ForgetEnded   []*pancake.Task
	ForgetDeploys []*pancake.Deploy
	ForgetRequest string
	ForgetAgent   string // which has no live task
}

// Apply makes a change.
func (s *State) Apply(c Change) {
	for _, r := range c.Requests {
		s.Requests[r.ID] = r
	}
	for _, d := range c.Deploys {
		put(s.Deploys, d.RequestID, d.ID, d)
	}
	for _, a := range c.Agents {
		s.Agents[a.ID] = a
	}
	for _, t := range c.Tasks {
		s.Tasks[t.ID] = t
		put(s.byRequest, t.RequestID, t.ID, t)
		put(s.byAgent, t.AgentID, t.ID, t)
	}
	for _, t := range c.Ended {
		delete(s.Tasks, t.ID)
		drop(s.byRequest, t.RequestID, t.ID)
		drop(s.byAgent, t.AgentID, t.ID)
		s.Ended[t.RequestID] = append(s.Ended[t.RequestID], t)
	}
	for _, t := range c.ForgetEnded {
		s.Ended[t.RequestID] = slices.DeleteFunc(slices.Clone(s.Ended[t.RequestID]), func(o *pancake.Task) bool { return o.ID == t.ID })
	}
	for _, d := range c.ForgetDeploys {
		drop(s.Deploys, d.RequestID, d.ID)
	}
	if id := c.ForgetRequest; id != "" {
		delete(s.Requests, id)
		delete(s.Deploys, id)
		delete(s.Ended, id)
	}
	delete(s.Agents, c.ForgetAgent)
}

func put[V any](m map[string]map[string]V, a, b string, v V) {
	if m[a] == nil {
		m[a] = map[string]V{}
	}
	m[a][b] = v
}

func drop[V any](m map[string]map[string]V, a, b string) {
	delete(m[a], b)
	if len(m[a]) == 0 {
		delete(m, a)
	}
}

// Deploy returns a deploy of a request, nil if there is none of this id.
func (s *State) Deploy(request, id string) *pancake.Deploy { return s.Deploys[request][id] }

// TasksOf returns the live tasks of a request, oldest first.
func (s *State) TasksOf(request string) []*pancake.Task { return sorted(s.byRequest[request]) }

// TasksOn returns the live tasks on an agent, oldest first.
func (s *State) TasksOn(agent string) []*pancake.Task { return sorted(s.byAgent[agent]) }

// CountOn is how many live tasks an agent has.
func (s *State) CountOn(agent string) int { return len(s.byAgent[agent]) }

func sorted(tasks map[string]*pancake.Task) []*pancake.Task {
	return slices.SortedFunc(maps.Values(tasks), ByAge)
}

// ByAge orders tasks: oldest first, then by instance and id.
func ByAge(a, b *pancake.Task) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.ID, b.ID))
}

// Task returns a task, live or ended, nil if there is none of this id.
func (s *State) Task(id string) *pancake.Task {
	if t := s.Tasks[id]; t != nil {
		return t
	}
	for _, ended := range s.Ended {
		for _, t := range ended {
			if t.ID == id {
				return t
			}
		}
	}
	return nil
}

// DeploysOf returns the deploys of a request, newest first.
func (s *State) DeploysOf(request string) []*pancake.Deploy {
	return slices.SortedFunc(maps.Values(s.Deploys[request]), func(a, b *pancake.Deploy) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
}

// End makes the change that ends a task, and forgets the oldest history.
func (s *State) End(t *pancake.Task) Change {
	c := Change{Ended: []*pancake.Task{t}}
	limit := maxEnded
	if r := s.Requests[t.RequestID]; r != nil {
		limit = max(limit, 2*r.Instances, 2*r.As(s.Deploy(r.ID, r.PendingDeploy)).Instances)
	}
	if ended := s.Ended[t.RequestID]; len(ended) >= limit {
		// Few at a time: the change must stay small enough for one transaction.
		c.ForgetEnded = slices.Clone(ended[:min(len(ended)-limit+1, 50)])
	}
	return c
}

// Submit makes the change that stores a request with a new deploy, and forgets
// the oldest deploys that are over.
func (s *State) Submit(r *pancake.Request, d *pancake.Deploy) Change {
	c := Change{Requests: []*pancake.Request{r}, Deploys: []*pancake.Deploy{d}}
	old := s.DeploysOf(r.ID)
	for i := len(old) - 1; i >= 0 && len(old)-len(c.ForgetDeploys) >= maxDeploys; i-- {
		if o := old[i]; o.State.Final() && o.ID != r.ActiveDeploy {
			c.ForgetDeploys = append(c.ForgetDeploys, o)
		}
	}
	return c
}

// Leader is who leads, as it announces itself in the store.
type Leader struct {
	ID   string `json:"id"`
	HTTP string `json:"http"` // host:port of its API
	GRPC string `json:"grpc"` // host:port for agents
}

// Term is one scheduler's time of leading. Every write names it, and is
// refused once it is over.
type Term struct {
	Key      string // where the leader announces itself
	Revision int64  // at which it began; it grows from term to term
	// Lost is closed when the store may have given the lead to another.
	Lost <-chan struct{}
}
