package traefik

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkReferences notes routers that name a service or middleware which does
// not exist. They stay: Traefik refuses just these, and shows why in its API.
func (m *merger) checkReferences() {
	http, tcp, udp := m.out.HTTP, m.out.TCP, m.out.UDP
	for _, name := range slices.Sorted(maps.Keys(http.Routers)) {
		r := http.Routers[name]
		check(m, "http", name, "service", http.Services, r.Service)
		check(m, "http", name, "middlewares", http.Middlewares, r.Middlewares...)
	}
	for _, name := range slices.Sorted(maps.Keys(tcp.Routers)) {
		r := tcp.Routers[name]
		check(m, "tcp", name, "service", tcp.Services, r.Service)
		check(m, "tcp", name, "middlewares", tcp.Middlewares, r.Middlewares...)
	}
	for _, name := range slices.Sorted(maps.Keys(udp.Routers)) {
		check(m, "udp", name, "service", udp.Services, udp.Routers[name].Service)
	}
}

// check looks up what a router's label names. A name with "@" belongs to
// another provider of that Traefik, which is not known here.
func check[T any](m *merger, protocol, router, option string, known map[string]T, names ...string) {
	for _, name := range names {
		if _, ok := known[name]; ok || strings.Contains(name, "@") {
			continue
		}
		m.problems = append(m.problems, Problem{
			Service: m.services[m.owners[protocol+".routers."+router]],
			Label:   fmt.Sprintf("traefik.%s.routers.%s.%s", protocol, router, option),
			Message: fmt.Sprintf("there is no %q; Traefik does not serve the router", name),
		})
	}
}
