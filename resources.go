package pancake

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MilliCPU counts thousandths of a CPU, the precision that Mesos keeps. In JSON
// and text it is a decimal number of CPUs, such as 0.1.
type MilliCPU int64

// CPUs turns a number of CPUs into MilliCPU, rounding to the nearest thousandth.
func CPUs(n float64) MilliCPU { return MilliCPU(math.Round(n * 1000)) }

func (c MilliCPU) String() string {
	return strconv.FormatFloat(float64(c)/1000, 'f', -1, 64)
}

// MarshalJSON writes a decimal number of CPUs.
func (c MilliCPU) MarshalJSON() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalJSON reads a decimal number of CPUs.
func (c *MilliCPU) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > 1e6 {
		return fmt.Errorf("cpus: %q is not a number of CPUs", b)
	}
	*c = CPUs(n)
	return nil
}

// Resources are what an agent has or a task takes.
type Resources struct {
	CPUs     MilliCPU `json:"cpus"`
	MemoryMB int64    `json:"memoryMb"`        // mebibytes, as Mesos' "mem"
	Ports    PortSet  `json:"ports,omitempty"` // of an agent: what may be handed out; of a task: what it holds
}

// Add returns the sum of CPU and memory; the ports are r's.
func (r Resources) Add(o Resources) Resources {
	return Resources{CPUs: r.CPUs + o.CPUs, MemoryMB: r.MemoryMB + o.MemoryMB, Ports: r.Ports}
}

// Sub returns the difference of CPU and memory; the ports are r's.
func (r Resources) Sub(o Resources) Resources {
	return Resources{CPUs: r.CPUs - o.CPUs, MemoryMB: r.MemoryMB - o.MemoryMB, Ports: r.Ports}
}

// String prints resources as Mesos does: "cpus:2;mem:1024;ports:[31000-32000]".
func (r Resources) String() string {
	s := fmt.Sprintf("cpus:%s;mem:%d", r.CPUs, r.MemoryMB)
	if len(r.Ports) > 0 {
		s += ";ports:[" + r.Ports.String() + "]"
	}
	return s
}

// ParseResources reads Mesos' text form, "cpus:2;mem:1024;ports:[31000-32000]".
// A resource that is not named keeps its value in defaults.
func ParseResources(text string, defaults Resources) (Resources, error) {
	r := defaults
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, ":")
		if !ok {
			return r, fmt.Errorf("resources: %q has no value; write name:value, for example cpus:2;mem:1024;ports:[31000-32000]", part)
		}
		switch name = strings.TrimSpace(name); name {
		case "cpus":
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(n > 0) || n > 1e6 {
				return r, fmt.Errorf("resources: cpus: %q is not a positive number", value)
			}
			r.CPUs = CPUs(n)
		case "mem":
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil || n <= 0 {
				return r, fmt.Errorf("resources: mem: %q is not a positive number of mebibytes", value)
			}
			r.MemoryMB = n
		case "ports":
			ports, err := ParsePortSet(strings.Trim(strings.TrimSpace(value), "[]"))
			if err != nil {
				return r, fmt.Errorf("resources: ports: %w", err)
			}
			r.Ports = ports
		default:
			return r, fmt.Errorf("resources: unknown resource %q; known are cpus, mem, ports", name)
		}
	}
	return r, nil
}

// ParseAttributes reads Mesos' text form, "rack:r1;zone:eu-west-1a".
func ParseAttributes(text string) (map[string]string, error) {
	attrs := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("attributes: %q is not name:value; write for example rack:r1;zone:eu-west-1a", part)
		}
		attrs[name] = strings.TrimSpace(value)
	}
	return attrs, nil
}

// PortRange is the ports from First to Last, both included.
type PortRange struct {
	First, Last uint16
}

// PortSet is a set of ports: sorted ranges that do not touch. In JSON and text
// it reads "31000-31999,33000". Its methods never change the receiver's ranges.
type PortSet []PortRange

// ParsePortSet reads "31000-31999,33000"; blanks are allowed around the parts.
func ParsePortSet(text string) (PortSet, error) {
	var set PortSet
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		a, b, isRange := strings.Cut(part, "-")
		if !isRange {
			b = a
		}
		first, err1 := strconv.ParseUint(strings.TrimSpace(a), 10, 16)
		last, err2 := strconv.ParseUint(strings.TrimSpace(b), 10, 16)
		if err1 != nil || err2 != nil || first == 0 || last < first {
			return nil, fmt.Errorf("%q is not a port or a range of ports from 1 to 65535", part)
		}
		set = set.Union(PortSet{{uint16(first), uint16(last)}})
	}
	return set, nil
}

func (s PortSet) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		if parts[i] = strconv.Itoa(int(r.First)); r.Last != r.First {
			parts[i] += "-" + strconv.Itoa(int(r.Last))
		}
	}
	return strings.Join(parts, ",")
}

// MarshalText writes the form that ParsePortSet reads.
func (s PortSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *PortSet) UnmarshalText(b []byte) error {
	if len(b) > 1<<20 {
		return errors.New("port set longer than 1 MiB")
	}
	set, err := ParsePortSet(string(b))
	*s = set
	return err
}

// Len is the number of ports in the set.
func (s PortSet) Len() int {
	n := 0
	for _, r := range s {
		n += int(r.Last) - int(r.First) + 1
	}
	return n
}

// Contains reports whether port is in the set.
func (s PortSet) Contains(port int) bool {
	_, ok := s.find(port)
	return ok
}

func (s PortSet) find(port int) (int, bool) {
	return slices.BinarySearchFunc(s, port, func(r PortRange, p int) int {
		switch {
		case int(r.Last) < p:
			return -1
		case int(r.First) > p:
			return 1
		}
		return 0
	})
}

// Next returns the smallest port of the set that is at least from; behind the
// last one it starts again at the first. It is false for an empty set only.
func (s PortSet) Next(from int) (int, bool) {
	if len(s) == 0 {
		return 0, false
	}
	i, ok := s.find(from)
	switch {
	case ok:
		return from, true
	case i < len(s):
		return int(s[i].First), true
	}
	return int(s[0].First), true
}

// Without returns the set less one port.
func (s PortSet) Without(port int) PortSet {
	i, ok := s.find(port)
	if !ok {
		return s
	}
	r, p := s[i], uint16(port)
	out := make(PortSet, 0, len(s)+1)
	out = append(out, s[:i]...)
	if r.First < p {
		out = append(out, PortRange{r.First, p - 1})
	}
	if p < r.Last {
		out = append(out, PortRange{p + 1, r.Last})
	}
	return append(out, s[i+1:]...)
}

// Union returns the ports that are in either set.
func (s PortSet) Union(o PortSet) PortSet {
	all := append(slices.Clone(s), o...)
	slices.SortFunc(all, func(a, b PortRange) int { return int(a.First) - int(b.First) })
	out := all[:0]
	for _, r := range all {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}
