package traefik

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// defaultRoutes makes the routes of a service whose labels ask for none.
func (b *Builder) defaultRoutes(g *instances, c *HTTPConfiguration, n *notes) {
	c.Routers, c.Services = map[string]*Router{}, map[string]*Service{}
	for i, port := range proxied(g.lead, "tcp") {
		name, wanted := g.id, ""
		if i > 0 {
			wanted = fmt.Sprint(port.ServicePort)
			name += "-" + wanted
		}
		c.Services[name] = newService()
		c.Routers[name] = &Router{Service: name}
		if err := g.addServers(c.Services[name].LoadBalancer, wanted); err != nil {
			n.add("", "%v", err)
		}
		b.addRule(c, name, name, g, n)
	}
}

// buildHTTP completes what labels say about HTTP as Traefik's Docker provider
// does: a service and a router where there are none, servers, rules, and the
// service of each router that does not name one.
func (b *Builder) buildHTTP(g *instances, c *HTTPConfiguration, n *notes) {
	if len(c.Services) == 0 && !n.bad["http.services"] {
		c.Services = map[string]*Service{g.id: newService()}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		label := "traefik.http.services." + name
		s := c.Services[name]
		if s == nil || s.LoadBalancer == nil {
			n.add(label, "only loadbalancer services can be made by label; the service is left out")
			delete(c.Services, name)
			n.spoil("http.services")
			continue
		}
		if err := g.addServers(s.LoadBalancer, ""); err != nil {
			n.add(label, "%v", err)
		}
	}
	if len(c.Routers) == 0 && !n.bad["http"] && len(c.Services) == 1 {
		c.Routers = map[string]*Router{g.id: {}}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Routers)) {
		r := c.Routers[name]
		if r.Rule == "" {
			b.addRule(c, name, g.id, g, n)
		}
		if r.Service == "" && !onlyService(&r.Service, c.Services, n, "http", name) {
			delete(c.Routers, name)
		}
	}
}

func (n *notes) spoil(kind string) {
	if n.bad == nil {
		n.bad = make(map[string]bool)
	}
	n.bad[kind] = true
}

func newService() *Service {
	s := &Service{LoadBalancer: &ServersLoadBalancer{}}
	s.LoadBalancer.SetDefaults()
	return s
}

// addServers puts the alive instances into a load balancer. Labels describe a
// server at most once: its settings are those of all. The default port is
// wanted, and if that is "" each instance's first.
func (g *instances) addServers(lb *ServersLoadBalancer, wanted string) error {
	var like Server
	if len(lb.Servers) > 0 {
		like = lb.Servers[0]
		lb.Servers = nil
	}
	if like.URL != "" {
		if like.Scheme != "" || like.Port != "" {
			return errors.New("server.url excludes server.scheme and server.port; the service has no servers")
		}
		if len(g.alive) > 0 {
			lb.Servers = []Server{like}
		}
		return nil
	}
	if like.Port != "" {
		wanted = like.Port
	}
	addresses, err := g.addresses("tcp", wanted)
	if err != nil {
		return err
	}
	scheme := "http"
	if like.Scheme != "" {
		scheme = like.Scheme
	}
	for _, address := range addresses {
		like.URL = scheme + "://" + address
		lb.Servers = append(lb.Servers, like)
	}
	return nil
}

// addRule gives a router the default rule, or removes it if that fails.
func (b *Builder) addRule(c *HTTPConfiguration, router, name string, g *instances, n *notes) {
	rule, err := b.defaultRule(name, g.lead.Labels)
	if err == nil && rule == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		n.add("", "default rule of router %s: %v; the router is left out", router, err)
		delete(c.Routers, router)
		return
	}
	c.Routers[router].Rule = rule
}

// onlyService sets the service of a router that names none. It reports false
// if there is more or less than one to choose from.
func onlyService[S any](service *string, services map[string]S, n *notes, protocol, router string) bool {
	if len(services) != 1 || n.bad[protocol+".services"] {
		n.add("traefik."+protocol+".routers."+router+".service", "is missing, and there is not exactly one service to take; the router is left out")
		return false
	}
	for name := range services {
		*service = name
	}
	return true
}
