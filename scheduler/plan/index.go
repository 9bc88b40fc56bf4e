package plan

import (
	"cmp"
	"slices"

	"github.com/pancake-stack/pancake"
)

// agent is what is left of an offer while the plan is made.
type agent struct {
	offer  pancake.Offer // a copy; its maps and sets are shared and never written
	rack   *rack
	cursor int
	room   int64 // how much is left, comparable between agents
}

// rack holds its agents with the most room first, so that the first one that
// fits is the best and the search ends there.
type rack struct {
	name   string
	agents []*agent
}

// spread counts the tasks of one group.
type spread struct {
	onAgent map[*agent]int
	inRack  map[*rack]int
}

type planner struct {
	in     Input
	agents map[string]*agent
	racks  []*rack
	group  Group // the group that spread is of; wants come sorted by group
	spread spread
	// maxCPUs and maxMem make CPU and memory comparable: an agent's room is the
	// sum of its shares of the largest offer.
	maxCPUs, maxMem int64
}

func newPlanner(in Input) *planner {
	p := &planner{in: in, agents: make(map[string]*agent, len(in.Offers)), maxCPUs: 1, maxMem: 1}
	racks := map[string]*rack{}
	for _, o := range in.Offers {
		p.maxCPUs = max(p.maxCPUs, int64(o.Free.CPUs))
		p.maxMem = max(p.maxMem, o.Free.MemoryMB)
	}
	for _, o := range in.Offers {
		r := racks[o.Rack]
		if r == nil {
			r = &rack{name: o.Rack}
			racks[o.Rack] = r
			p.racks = append(p.racks, r)
		}
		a := &agent{offer: o, rack: r, cursor: in.Cursor[o.AgentID]}
		a.room = p.room(o.Free)
		r.agents = append(r.agents, a)
		p.agents[o.AgentID] = a
	}
	slices.SortFunc(p.racks, func(a, b *rack) int { return cmp.Compare(a.name, b.name) })
	for _, r := range p.racks {
		slices.SortFunc(r.agents, byRoom)
	}
	return p
}

func (p *planner) room(free pancake.Resources) int64 {
	return int64(free.CPUs)*p.maxMem + free.MemoryMB*p.maxCPUs
}

// byRoom orders the agents of a rack: most room first, then by id.
func byRoom(a, b *agent) int {
	return cmp.Or(cmp.Compare(b.room, a.room), cmp.Compare(a.offer.AgentID, b.offer.AgentID))
}

// pick returns the best agent for w, nil if it fits on none.
func (p *planner) pick(w Want) *agent {
	s := p.spreadOf(Group{w.RequestID, w.DeployID})
	var best *agent
	for _, r := range p.racks {
		if c := pickIn(r, w, s); c != nil && (best == nil || better(c, best, s)) {
			best = c
		}
	}
	return best
}

// pickIn returns the best agent of one rack. The first that fits and has no
// task of the group cannot be beaten, as the agents come with the most room first.
func pickIn(r *rack, w Want, s spread) *agent {
	var best *agent
	for _, a := range r.agents {
		n := s.onAgent[a]
		if best != nil && n >= s.onAgent[best] || !fits(&a.offer, w) {
			continue
		}
		if best = a; n == 0 {
			break
		}
	}
	return best
}

func better(a, b *agent, s spread) bool {
	return cmp.Or(
		cmp.Compare(s.onAgent[a], s.onAgent[b]),
		cmp.Compare(s.inRack[a.rack], s.inRack[b.rack]),
		byRoom(a, b),
	) < 0
}

// spreadOf counts the tasks of g: those that run, and those placed so far.
func (p *planner) spreadOf(g Group) spread {
	if p.spread.onAgent != nil && p.group == g {
		return p.spread
	}
	s := spread{onAgent: map[*agent]int{}, inRack: map[*rack]int{}}
	for id, n := range p.in.Running[g] {
		if a := p.agents[id]; a != nil {
			s.onAgent[a] += n
			s.inRack[a.rack] += n
		}
	}
	p.group, p.spread = g, s
	return s
}

// take gives w its place on a.
func (p *planner) take(a *agent, w Want) Placement {
	at, _ := slices.BinarySearchFunc(a.rack.agents, a, byRoom)
	o := &a.offer
	o.Free = o.Free.Sub(w.Resources)
	a.room = p.room(o.Free)
	// It has less room now: move it back to where it belongs.
	behind := a.rack.agents[at+1:]
	to, _ := slices.BinarySearchFunc(behind, a, byRoom)
	copy(a.rack.agents[at:], behind[:to])
	a.rack.agents[at+to] = a
	p.spread.onAgent[a]++
	p.spread.inRack[a.rack]++

	ports := slices.Clone(w.Ports)
	for _, m := range ports {
		if m.HostPort != 0 {
			o.Ports = o.Ports.Without(m.HostPort)
		}
	}
	for i := range ports {
		if ports[i].HostPort != 0 {
			continue
		}
		port, _ := o.Ports.Next(a.cursor) // fits made sure that there is one
		ports[i].HostPort = port
		o.Ports = o.Ports.Without(port)
		a.cursor = port + 1
	}
	return Placement{Want: w, AgentID: o.AgentID, Ports: ports, Cursor: a.cursor}
}

func fits(o *pancake.Offer, w Want) bool {
	return o.Free.CPUs >= w.Resources.CPUs && o.Free.MemoryMB >= w.Resources.MemoryMB &&
		o.State == pancake.AgentActive && hasAttributes(o, w) && hasPorts(o, w)
}

func hasAttributes(o *pancake.Offer, w Want) bool {
	for k, v := range w.Attributes {
		if have, ok := o.Attributes[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// hasPorts reports whether the fixed ports are free and enough others remain.
func hasPorts(o *pancake.Offer, w Want) bool {
	if len(w.Ports) == 0 {
		return true
	}
	fixed := fixedPorts(w)
	for _, port := range fixed {
		if !o.Ports.Contains(port) {
			return false
		}
	}
	return o.Ports.Len()-len(fixed) >= dynamicPorts(w)
}

// fixedPorts returns the host ports that the spec names, each once: tcp and
// udp of one port number are one port of an offer.
func fixedPorts(w Want) []int {
	var fixed []int
	for _, m := range w.Ports {
		if m.HostPort != 0 && !slices.Contains(fixed, m.HostPort) {
			fixed = append(fixed, m.HostPort)
		}
	}
	return fixed
}

func dynamicPorts(w Want) int {
	n := 0
	for _, m := range w.Ports {
		if m.HostPort == 0 {
			n++
		}
	}
	return n
}
