package traefik

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
)

// instances are what the catalogue holds of one service, without tombstones.
type instances struct {
	id    string           // the name, normalised: it names the router and stands in its rule
	lead  *pancake.Service // whose labels and ports speak for all
	alive []*pancake.Service
}

// normalize makes a DNS label of a name, as Traefik's function of that name
// does, but for ASCII only and in lower case: host names know no other.
func normalize(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}), "-")
}

// group sorts instances into services, ordered by name.
func group(services []pancake.Service) ([]*instances, []Problem) {
	byName := make(map[string]*instances)
	for i := range services {
		s := &services[i]
		if s.Status == pancake.Tombstone {
			continue
		}
		g := byName[s.Name]
		if g == nil {
			g = &instances{id: normalize(s.Name), lead: s}
			byName[s.Name] = g
		}
		if speaksBefore(s, g.lead) {
			g.lead = s
		}
		if s.Status == pancake.Alive {
			g.alive = append(g.alive, s)
		}
	}
	groups := make([]*instances, 0, len(byName))
	for _, g := range byName {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *instances) int { return strings.Compare(a.lead.Name, b.lead.Name) })
	return distinct(groups)
}

// speaksBefore orders instances: alive before others, then newer before older.
// ID and Hostname make the order total.
func speaksBefore(a, b *pancake.Service) bool {
	alive := func(s *pancake.Service) int {
		if s.Status == pancake.Alive {
			return 1
		}
		return 0
	}
	return cmp.Or(
		alive(a)-alive(b),
		a.Created.Compare(b.Created),
		strings.Compare(a.ID, b.ID),
		strings.Compare(a.Hostname, b.Hostname)) > 0
}

// distinct leaves out services that would get the host name of one before them.
func distinct(groups []*instances) ([]*instances, []Problem) {
	var problems []Problem
	owner := make(map[string]string)
	kept := groups[:0]
	for _, g := range groups {
		name := g.lead.Name
		first, taken := owner[g.id]
		switch {
		case g.id == "":
			problems = append(problems, Problem{Service: name, Message: "the name has no letter or digit to make a host name of; rename the service"})
		case taken:
			problems = append(problems, Problem{Service: name, Message: fmt.Sprintf(
				"its host name would be that of service %s, which keeps it; rename one of the two", first)})
		default:
			owner[g.id] = name
			kept = append(kept, g)
		}
	}
	return kept, problems
}

// proxied lists the ports of an instance that clients may reach, lowest
// ServicePort first. The protocol is "tcp" or "udp".
func proxied(s *pancake.Service, protocol string) []pancake.ServicePort {
	var ports []pancake.ServicePort
	for _, p := range s.Ports {
		if p.ServicePort != 0 && usable(p, protocol) {
			ports = append(ports, p)
		}
	}
	slices.SortFunc(ports, func(a, b pancake.ServicePort) int {
		return cmp.Or(cmp.Compare(a.ServicePort, b.ServicePort), cmp.Compare(a.Port, b.Port), strings.Compare(a.IP, b.IP))
	})
	return slices.CompactFunc(ports, func(a, b pancake.ServicePort) bool { return a.ServicePort == b.ServicePort })
}

func usable(p pancake.ServicePort, protocol string) bool {
	return strings.EqualFold(cmp.Or(p.Type, "tcp"), protocol) && p.Port > 0 && p.Port <= 65535
}

// pick chooses a port of an instance: the one called wanted, or without a wish
// the first proxied one.
func pick(s *pancake.Service, protocol, wanted string) (pancake.ServicePort, bool) {
	if wanted == "" {
		if ports := proxied(s, protocol); len(ports) > 0 {
			return ports[0], true
		}
		return pancake.ServicePort{}, false
	}
	number, err := strconv.ParseInt(wanted, 10, 64)
	if err != nil {
		return pancake.ServicePort{}, false
	}
	for _, called := range []func(pancake.ServicePort) int64{
		func(p pancake.ServicePort) int64 { return p.ContainerPort },
		func(p pancake.ServicePort) int64 { return p.ServicePort },
		func(p pancake.ServicePort) int64 { return p.Port },
	} {
		for _, p := range s.Ports {
			if number != 0 && called(p) == number && usable(p, protocol) {
				return p, true
			}
		}
	}
	return pancake.ServicePort{}, false
}

// addresses lists host:port of the alive instances, sorted. An error says that
// the instance that speaks for all has no such port; others may lack it.
func (g *instances) addresses(protocol, wanted string) ([]string, error) {
	if _, ok := pick(g.lead, protocol, wanted); !ok {
		if wanted == "" {
			return nil, fmt.Errorf("the service has no proxied %s port; label its container %s<container port>=<port>", protocol, pancake.LabelServicePort)
		}
		return nil, fmt.Errorf("the service has no %s port %q; it has %s", protocol, wanted, portNames(g.lead))
	}
	var all []string
	for _, s := range g.alive {
		if p, ok := pick(s, protocol, wanted); ok {
			all = append(all, hostPort(cmp.Or(p.IP, s.Hostname), p.Port))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func portNames(s *pancake.Service) string {
	var names []string
	for _, p := range s.Ports {
		names = append(names, strconv.FormatInt(cmp.Or(p.ContainerPort, p.ServicePort, p.Port), 10)+"/"+cmp.Or(p.Type, "tcp"))
	}
	if len(names) == 0 {
		return "none that is published"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// hostPort joins as net.JoinHostPort does.
func hostPort(host string, port int64) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatInt(port, 10)
}
