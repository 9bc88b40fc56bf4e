package nameserver

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/pancake-stack/pancake"
)

// index is what there is to answer with. It never changes.
type index struct {
	services map[string]*service // by normalised name
	addrs    map[string]netip.Addr
}

// service is one service and its instances that are not gone.
type service struct {
	name   string // as it is announced
	oldest *pancake.Service
	ports  []port
}

// port is one port of one instance.
type port struct {
	addr      netip.Addr
	number    uint16
	proto     string // "tcp" or "udp"
	service   int64  // the ServicePort
	container int64
	alive     bool
	near      bool // in this host's zone
	main      bool // of its instance
}

// Normalise turns the name of a service into the label that stands for it: lower
// case, with one "-" for each run of what is neither letter nor digit, none at its
// ends, and 63 characters at most.
func Normalise(name string) string {
	var out strings.Builder
	gap := false
	for _, c := range strings.ToLower(name) {
		if c < 'a' || c > 'z' {
			if c < '0' || c > '9' {
				gap = true
				continue
			}
		}
		if gap && out.Len() > 0 {
			out.WriteByte('-')
		}
		gap = false
		out.WriteRune(c)
	}
	return strings.TrimRight(out.String()[:min(out.Len(), 63)], "-")
}

// newIndex makes the index of a catalogue. Names that two services share belong to
// the one with the oldest instance.
func newIndex(services []*pancake.Service, self string, zone func(string) string) *index {
	x := &index{services: map[string]*service{}, addrs: map[string]netip.Addr{}}
	if zone == nil {
		zone = func(string) string { return "" }
	}
	here := zone(self)
	for _, s := range services { // who owns which name
		label := Normalise(s.Name)
		if s.Status == pancake.Tombstone || label == "" {
			continue
		}
		if o := x.services[label]; o == nil || older(s, o.oldest) {
			x.services[label] = &service{name: s.Name, oldest: s}
		}
	}
	for _, s := range services {
		owner := x.services[Normalise(s.Name)]
		if s.Status == pancake.Tombstone || owner == nil || owner.name != s.Name {
			continue
		}
		main := mainPort(s.Ports)
		for i, p := range s.Ports {
			addr, err := netip.ParseAddr(p.IP)
			if err != nil || addr.Zone() != "" || addr.IsUnspecified() || p.Port < 1 || p.Port > 65535 {
				continue // nobody could connect to it
			}
			addr = addr.Unmap()
			alive := s.Status == pancake.Alive
			if alive {
				x.addrs[addrLabel(addr)] = addr
			}
			owner.ports = append(owner.ports, port{
				addr: addr, number: uint16(p.Port), proto: cmp.Or(p.Type, "tcp"), service: p.ServicePort, container: p.ContainerPort,
				alive: alive, near: here == "" || zone(s.Hostname) == here, main: i == main,
			})
		}
	}
	return x
}

func older(a, b *pancake.Service) bool {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID)) < 0
}

// mainPort is the port that stands for an instance where a name says none: the
// lowest ServicePort, before those that have none; TCP before UDP.
func mainPort(ports []pancake.ServicePort) int {
	best := -1
	rank := func(p pancake.ServicePort) [3]int64 {
		out := [3]int64{0, p.ServicePort, p.Port}
		if p.Type == "udp" {
			out[0] = 2
		}
		if p.ServicePort == 0 {
			out[0]++
		}
		return out
	}
	for i, p := range ports {
		if best < 0 {
			best = i
			continue
		}
		a, b := rank(p), rank(ports[best])
		if slices.Compare(a[:], b[:]) < 0 {
			best = i
		}
	}
	return best
}

// addrLabel is the label that stands for an address: its bytes in hexadecimal.
func addrLabel(a netip.Addr) string { return hex.EncodeToString(a.AsSlice()) }

// selection says which ports of a service are asked for.
type selection struct {
	number int64  // a ServicePort, or else a container's port; 0 for the main one
	proto  string // "" for any
}

// choose lists the ports that are asked for. It returns false where there is no
// such name: no instance has a port like that, alive or not.
func (s *service) choose(sel selection) ([]port, bool) {
	if sel == (selection{}) {
		return s.alive(func(p port) bool { return p.main }), true
	}
	tests := []func(port) bool{func(p port) bool { return p.main }, func(port) bool { return true }}
	if sel.number != 0 {
		tests = []func(port) bool{
			func(p port) bool { return p.service == sel.number },
			func(p port) bool { return p.container == sel.number },
		}
	}
	for _, test := range tests {
		wanted := func(p port) bool { return test(p) && (sel.proto == "" || sel.proto == p.proto) }
		if slices.ContainsFunc(s.ports, wanted) {
			return s.alive(wanted), true
		}
	}
	return nil, false
}

func (s *service) alive(wanted func(port) bool) []port {
	var out []port
	for _, p := range s.ports {
		if p.alive && wanted(p) {
			out = append(out, p)
		}
	}
	return out
}
