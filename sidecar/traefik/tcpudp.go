package traefik

import (
	"maps"
	"slices"
)

// buildTCP completes what labels say about TCP, as buildHTTP does for HTTP.
// There is no default router: a rule is needed.
func (g *instances) buildTCP(c *TCPConfiguration, n *notes) {
	if len(c.Services) == 0 && !n.bad["tcp.services"] {
		c.Services = map[string]*TCPService{g.id: {LoadBalancer: &TCPServersLoadBalancer{}}}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		label := "traefik.tcp.services." + name
		s := c.Services[name]
		if s == nil || s.LoadBalancer == nil {
			n.add(label, "only loadbalancer services can be made by label; the service is left out")
			delete(c.Services, name)
			n.spoil("tcp.services")
			continue
		}
		var like TCPServer
		if len(s.LoadBalancer.Servers) > 0 {
			like = s.LoadBalancer.Servers[0]
			s.LoadBalancer.Servers = nil
		}
		addresses, err := g.addresses("tcp", like.Port)
		if err != nil {
			n.add(label, "%v", err)
		}
		for _, like.Address = range addresses {
			s.LoadBalancer.Servers = append(s.LoadBalancer.Servers, like)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Routers)) {
		r := c.Routers[name]
		if r.Rule == "" {
			n.add("traefik.tcp.routers."+name+".rule", "is missing; write for example HostSNI(`*`); the router is left out")
			delete(c.Routers, name)
			continue
		}
		if r.Service == "" && !onlyService(&r.Service, c.Services, n, "tcp", name) {
			delete(c.Routers, name)
		}
	}
}

// buildUDP completes what labels say about UDP.
func (g *instances) buildUDP(c *UDPConfiguration, n *notes) {
	if len(c.Services) == 0 && !n.bad["udp.services"] {
		c.Services = map[string]*UDPService{g.id: {LoadBalancer: &UDPServersLoadBalancer{}}}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		label := "traefik.udp.services." + name
		s := c.Services[name]
		if s == nil || s.LoadBalancer == nil {
			n.add(label, "only loadbalancer services can be made by label; the service is left out")
			delete(c.Services, name)
			n.spoil("udp.services")
			continue
		}
		var like UDPServer
		if len(s.LoadBalancer.Servers) > 0 {
			like = s.LoadBalancer.Servers[0]
			s.LoadBalancer.Servers = nil
		}
		addresses, err := g.addresses("udp", like.Port)
		if err != nil {
			n.add(label, "%v", err)
		}
		for _, like.Address = range addresses {
			s.LoadBalancer.Servers = append(s.LoadBalancer.Servers, like)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Routers)) {
		r := c.Routers[name]
		if r.Service == "" && !onlyService(&r.Service, c.Services, n, "udp", name) {
			delete(c.Routers, name)
		}
	}
}
