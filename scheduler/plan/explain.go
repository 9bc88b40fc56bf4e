package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
)

// miss collects the agents that one constraint ruled out.
type miss struct {
	agents  int
	nearest *pancake.Offer
	short   int64 // by how much the nearest missed
}

func (m *miss) add(o *pancake.Offer, short int64) {
	m.agents++
	if m.nearest == nil || short < m.short || short == m.short && o.AgentID < m.nearest.AgentID {
		m.nearest, m.short = o, short
	}
}

// explain says why w fits nowhere. An agent that is not active, or lacks an
// attribute, is counted there only; of the others every resource that is short counts.
func (p *planner) explain(w Want) []Reason {
	if len(p.agents) == 0 {
		return []Reason{{Constraint: "agents", Message: "no agent has registered; start one with \"pancake agent\""}}
	}
	var state, cpus, mem, ports miss
	attrs := map[string]*miss{}
	for _, r := range p.racks {
		for _, a := range r.agents {
			o := &a.offer
			if o.State != pancake.AgentActive {
				state.add(o, 0)
				continue
			}
			if name, ok := missingAttribute(o, w); ok {
				if attrs[name] == nil {
					attrs[name] = &miss{}
				}
				attrs[name].add(o, 0)
				continue
			}
			if short := w.Resources.CPUs - o.Free.CPUs; short > 0 {
				cpus.add(o, int64(short))
			}
			if short := w.Resources.MemoryMB - o.Free.MemoryMB; short > 0 {
				mem.add(o, short)
			}
			if !hasPorts(o, w) {
				ports.add(o, int64(shortPorts(o, w)))
			}
		}
	}
	var out []Reason
	if state.agents > 0 {
		out = append(out, Reason{"state", state.agents, fmt.Sprintf("%s not active: %s is %s",
			are(state.agents), state.nearest.Hostname, state.nearest.State)})
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		out = append(out, attributeReason(name, w.Attributes[name], attrs[name]))
	}
	if cpus.agents > 0 {
		out = append(out, Reason{"cpus", cpus.agents, tooLittle(cpus, cpus.nearest.Free.CPUs.String(), w.Resources.CPUs.String(),
			pancake.MilliCPU(cpus.short).String(), "")})
	}
	if mem.agents > 0 {
		out = append(out, Reason{"mem", mem.agents, tooLittle(mem, strconv.FormatInt(mem.nearest.Free.MemoryMB, 10),
			strconv.FormatInt(w.Resources.MemoryMB, 10), strconv.FormatInt(mem.short, 10), " MiB")})
	}
	if ports.agents > 0 {
		out = append(out, portReason(w, ports))
	}
	return out
}

func missingAttribute(o *pancake.Offer, w Want) (string, bool) {
	for _, name := range slices.Sorted(maps.Keys(w.Attributes)) {
		if have, ok := o.Attributes[name]; !ok || have != w.Attributes[name] {
			return name, true
		}
	}
	return "", false
}

func attributeReason(name, want string, m *miss) Reason {
	has := "does not have it"
	if v, ok := m.nearest.Attributes[name]; ok {
		has = fmt.Sprintf("has %q", v)
	}
	return Reason{
		"attribute " + name, m.agents,
		fmt.Sprintf("%s without %s=%q; %s %s", are(m.agents), name, want, m.nearest.Hostname, has),
	}
}

func tooLittle(m miss, free, need, short, unit string) string {
	return fmt.Sprintf("%s too little; the nearest, %s, has %s%s free of the %s%s needed: %s%s short",
		have(m.agents), m.nearest.Hostname, free, unit, need, unit, short, unit)
}

// shortPorts is how many of the wanted ports the offer cannot give.
func shortPorts(o *pancake.Offer, w Want) int {
	missing, granted := 0, 0
	for _, port := range fixedPorts(w) {
		if o.Ports.Contains(port) {
			granted++
		} else {
			missing++
		}
	}
	return missing + max(0, dynamicPorts(w)-(o.Ports.Len()-granted))
}

func portReason(w Want, m miss) Reason {
	o := m.nearest
	var taken []string
	for _, port := range fixedPorts(w) {
		if !o.Ports.Contains(port) {
			taken = append(taken, strconv.Itoa(port))
		}
	}
	if len(taken) > 0 {
		return Reason{"ports", m.agents, fmt.Sprintf(
			"%s not the fixed host port free; on the nearest, %s, %s is held by a task or outside the ports it offers",
			have(m.agents), o.Hostname, strings.Join(taken, ", "))}
	}
	free := o.Ports.Len()
	return Reason{"ports", m.agents, tooLittle(m, strconv.Itoa(free), strconv.Itoa(free+int(m.short)),
		strconv.FormatInt(m.short, 10), "")}
}

func are(n int) string {
	if n == 1 {
		return "1 agent is"
	}
	return strconv.Itoa(n) + " agents are"
}

func have(n int) string {
	if n == 1 {
		return "1 agent has"
	}
	return strconv.Itoa(n) + " agents have"
}
