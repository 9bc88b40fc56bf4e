package traefik

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// merger puts the configurations of services together. A name belongs to the
// service that is called so, else to the first that uses it.
type merger struct {
	out      *Configuration
	services map[string]string // names of services by id
	owners   map[string]string // service ids by kind and name of an element
	problems []Problem
}

func newMerger(groups []*instances) *merger {
	m := &merger{
		out:      newConfiguration(),
		services: make(map[string]string, len(groups)),
		owners:   make(map[string]string, 2*len(groups)),
	}
	for _, g := range groups {
		m.services[g.id] = g.lead.Name
	}
	// Never nil, even when empty: Traefik ignores a configuration in which all
	// maps are nil, so the last route would stay for ever.
	m.out.HTTP.Routers = make(map[string]*Router, len(groups))
	m.out.HTTP.Services = make(map[string]*Service, len(groups))
	return m
}

// add puts one service's configuration into the whole. A router that would use
// another service's middleware or servers under the name of its own is left out.
func (m *merger) add(id string, c *Configuration) {
	http, tcp, udp := m.out.HTTP, m.out.TCP, m.out.UDP
	served := claim(m, id, "http.services", &http.Services, c.HTTP.Services)
	if claim(m, id, "http.middlewares", &http.Middlewares, c.HTTP.Middlewares) && served {
		claim(m, id, "http.routers", &http.Routers, c.HTTP.Routers)
	}
	served = claim(m, id, "tcp.services", &tcp.Services, c.TCP.Services)
	if claim(m, id, "tcp.middlewares", &tcp.Middlewares, c.TCP.Middlewares) && served {
		claim(m, id, "tcp.routers", &tcp.Routers, c.TCP.Routers)
	}
	if claim(m, id, "udp.services", &udp.Services, c.UDP.Services) {
		claim(m, id, "udp.routers", &udp.Routers, c.UDP.Routers)
	}
	claim(m, id, "tls.stores", &m.out.TLS.Stores, c.TLS.Stores)
}

// finish returns the whole, without the protocols that nobody uses.
func (m *merger) finish() *Configuration {
	m.checkReferences()
	if tcp := m.out.TCP; len(tcp.Routers)+len(tcp.Services)+len(tcp.Middlewares) == 0 {
		m.out.TCP = nil
	}
	if udp := m.out.UDP; len(udp.Routers)+len(udp.Services) == 0 {
		m.out.UDP = nil
	}
	if len(m.out.TLS.Stores) == 0 {
		m.out.TLS = nil
	}
	return m.out
}

// claim copies what the service id has of one kind. It reports false if a name
// belongs to another service. Middlewares and stores that are equal may be
// shared: teams often label several services with the same one.
func claim[T any](m *merger, id, kind string, to *map[string]T, from map[string]T) bool {
	all := true
	for _, name := range slices.Sorted(maps.Keys(from)) {
		key := kind + "." + name
		owner, taken := m.owners[key]
		if kind != "http.middlewares" && kind != "tcp.middlewares" && kind != "tls.stores" {
			if _, called := m.services[name]; called && name != id {
				owner, taken = name, true
			}
		} else if taken && reflect.DeepEqual((*to)[name], from[name]) {
			continue
		}
		if taken {
			all = false
			m.problems = append(m.problems, Problem{
				Service: m.services[id],
				Label:   "traefik." + key,
				Message: fmt.Sprintf("service %s has this name already; choose another; %s", m.services[owner], consequence(kind)),
			})
			continue
		}
		if *to == nil {
			*to = make(map[string]T)
		}
		m.owners[key] = id
		(*to)[name] = from[name]
	}
	return all
}

func consequence(kind string) string {
	switch kind {
	case "http.routers", "tcp.routers", "udp.routers":
		return "the router is left out"
	case "tls.stores":
		return "the store is left out"
	}
	return "all routers of that protocol are left out"
}
