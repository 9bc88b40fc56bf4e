// Package traefik turns Sidecar's catalogue into Traefik's complete dynamic
// configuration. It is pure: equal catalogues give equal bytes, whatever their
// order. It needs no Traefik; types_gen.go repeats Traefik's own types.
//
// Each service that has a proxied port (ServicePort not 0) gets a router with
// the default rule, Host(`<service>.<domain>`). Of several proxied ports the
// one with the lowest ServicePort answers there, each other one at
// <service>-<ServicePort>.<domain>. Entry points are left to Traefik's own
// defaults. A service with ProxyMode "tcp" is routed only where labels say so.
//
// Labels work as with Traefik's Docker provider, and so does every option of
// the Traefik that types_gen.go was made from: traefik.enable, traefik.http,
// traefik.tcp, traefik.udp and traefik.tls.stores.default. The differences:
//
//   - The labels of one instance speak for all: the newest alive one, or if
//     none is alive the newest, by Created and then ID.
//   - loadbalancer.server.port may name a port as the container, as Sidecar's
//     ServicePort or as the host knows it; the first that fits counts.
//   - A service whose instances are all out of traffic keeps its routers, with
//     no servers: Traefik answers 503, not 404.
//   - One bad label does not cost the service all its routes, see Problem.
package traefik

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/pancake-stack/pancake"
)

// Config says how routes are made. The zero Config is that of one machine.
type Config struct {
	// Domain is what the default rule puts behind a service's name. Default "localhost".
	Domain string
	// DefaultRule is the rule of a router that has none, a text/template with
	// .Name (of the service, normalised, with "-<port>" for further ports),
	// .Domain, .Labels and the function normalize. Default DefaultRule.
	DefaultRule string
}

// DefaultRule is the rule of routers without one of their own.
const DefaultRule = "Host(`{{ .Name }}.{{ .Domain }}`)"

// Problem is something in a service that could not be routed as asked. What a
// problem takes away is never more than the service's own:
//
//   - a label that Traefik would not understand takes away the router, service
//     or middleware that it belongs to, and nothing is made up in its place;
//   - a name that another service already has stays with that service.
type Problem struct {
	Service string `json:"service"`
	Label   string `json:"label,omitempty"` // "" if no single label is to blame
	Message string `json:"message"`
}

func (p Problem) String() string {
	if p.Label == "" {
		return fmt.Sprintf("service %s: %s", p.Service, p.Message)
	}
	return fmt.Sprintf("service %s: label %s: %s", p.Service, p.Label, p.Message)
}

// Builder makes configurations. It holds no state: its methods may be called
// from several goroutines.
type Builder struct {
	domain string
	rule   *template.Template
}

// validDomain is what may stand in a Host rule.
var validDomain = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// New checks cfg. The error is of kind Invalid.
func New(cfg Config) (*Builder, error) {
	domain := cmp.Or(cfg.Domain, "localhost")
	if !validDomain.MatchString(domain) {
		return nil, pancake.Errorf(pancake.Invalid, "domain %q is not a DNS name", domain)
	}
	rule, err := template.New("default rule").
		Funcs(template.FuncMap{"normalize": normalize}).
		Option("missingkey=zero"). // a label that a container lacks is ""
		Parse(cmp.Or(cfg.DefaultRule, DefaultRule))
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "default rule: %w", err)
	}
	b := &Builder{domain: domain, rule: rule}
	if _, err := b.defaultRule("example", nil); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "default rule: %w", err)
	}
	return b, nil
}

// Build makes the configuration for the instances of a catalogue, tombstones
// included, in any order, and says what it could not do. The configuration is
// never one that Traefik takes for empty and ignores: without any route it
// still says that there are none.
func (b *Builder) Build(services []pancake.Service) (*Configuration, []Problem) {
	groups, problems := group(services)
	m := newMerger(groups)
	for _, g := range groups {
		conf, found := b.service(g)
		problems = append(problems, found...)
		if conf != nil {
			m.add(g.id, conf)
		}
	}
	conf := m.finish()
	problems = append(problems, m.problems...)
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Service, b.Service) })
	return conf, problems
}

// service makes what one service adds to the configuration, nil for nothing.
func (b *Builder) service(g *instances) (*Configuration, []Problem) {
	n := &notes{service: g.lead.Name}
	enabled, conf := decodeLabels(g.lead.Labels, n)
	if !enabled {
		return nil, n.problems
	}
	tcp := len(conf.TCP.Routers)+len(conf.TCP.Services) > 0
	udp := len(conf.UDP.Routers)+len(conf.UDP.Services) > 0
	http := len(conf.HTTP.Routers)+len(conf.HTTP.Services)+len(conf.HTTP.Middlewares) > 0
	if tcp {
		g.buildTCP(conf.TCP, n)
	}
	if udp {
		g.buildUDP(conf.UDP, n)
	}
	switch {
	case http:
		b.buildHTTP(g, conf.HTTP, n)
	case tcp || udp || g.lead.ProxyMode == "tcp" || len(n.bad) > 0:
	default:
		b.defaultRoutes(g, conf.HTTP, n)
	}
	return conf, n.problems
}

// notes collects what is wrong with one service.
type notes struct {
	service  string
	problems []Problem
	// bad holds what labels asked for in vain, as "http" and "http.services".
	// Nothing may be made up in its place: it could be open where the labels
	// meant it to be protected.
	bad map[string]bool
}

func (n *notes) add(label, format string, args ...any) {
	n.problems = append(n.problems, Problem{Service: n.service, Label: label, Message: fmt.Sprintf(format, args...)})
}

// defaultRule is the rule of the router called name.
func (b *Builder) defaultRule(name string, labels map[string]string) (string, error) {
	var s strings.Builder
	err := b.rule.Execute(&s, struct {
		Name, Domain string
		Labels       map[string]string
	}{name, b.domain, labels})
	return s.String(), err
}
