// Package export decides what a proxy is told of the catalogue: one cluster for
// each service and proxied port, with the instances that are alive. It only
// computes.
package export

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

// Cluster is one service on one proxied port.
type Cluster struct {
	Name      string // <service>:<ServicePort>
	Service   string
	Port      int64  // the ServicePort
	Mode      string // the ProxyMode of the oldest instance: "http", "ws" or "tcp"
	Endpoints []Endpoint
}

// Endpoint is where an instance listens.
type Endpoint struct {
	IP       string
	Port     int64
	Host, ID string
	Image    string
	Updated  time.Time
	Zone     string // where the host is; whoever knows fills it in
}

// Problem says why something is not exported.
type Problem struct {
	Service string
	Port    int64 // the ServicePort
	Message string
}

// Name is the cluster of a service on a port.
func Name(service string, port int64) string { return service + ":" + strconv.FormatInt(port, 10) }

// Split takes the name of a cluster apart.
func Split(name string) (service string, port int64, err error) {
	colon := strings.LastIndexByte(name, ':') // a service that is named after its image has some too
	if colon < 0 {
		return "", 0, pancake.Errorf(pancake.NotFound, "%q is not <service>:<port>", name)
	}
	service, text := name[:colon], name[colon+1:]
	port, err = strconv.ParseInt(text, 10, 64)
	if err != nil {
		return "", 0, pancake.Errorf(pancake.NotFound, "%q is not <service>:<port>: %q is not a number", name, text)
	}
	return service, port, nil
}

// Clusters lists the clusters by name, and what is not exported and why. Only
// services that are alive count, and of their ports those for TCP that have a
// ServicePort. A ServicePort belongs to one service, the one with the oldest
// instance: a proxy can listen on it once.
func Clusters(services []*pancake.Service) ([]Cluster, []Problem) {
	exported := func(yield func(*pancake.Service, pancake.ServicePort) bool) {
		for _, s := range services {
			if s.Status != pancake.Alive || s.Name == "" {
				continue
			}
			for _, p := range s.Ports {
				if p.ServicePort >= 1 && p.ServicePort <= 65535 && cmp.Or(p.Type, "tcp") == "tcp" && !yield(s, p) {
					return
				}
			}
		}
	}
	owners := map[int64]*pancake.Service{}
	for s, p := range exported {
		if o := owners[p.ServicePort]; o == nil || older(s, o) {
			owners[p.ServicePort] = s
		}
	}
	clusters, problems := map[int64]*Cluster{}, map[Problem]bool{}
	for s, p := range exported {
		owner := owners[p.ServicePort]
		if owner.Name != s.Name {
			problems[Problem{s.Name, p.ServicePort, fmt.Sprintf("the port belongs to %s, which is older", owner.Name)}] = true
			continue
		}
		c := clusters[p.ServicePort]
		if c == nil {
			c = &Cluster{Name: Name(s.Name, p.ServicePort), Service: s.Name, Port: p.ServicePort, Mode: owner.ProxyMode}
			clusters[p.ServicePort] = c
		}
		c.Endpoints = append(c.Endpoints, Endpoint{IP: p.IP, Port: p.Port, Host: s.Hostname, ID: s.ID, Image: s.Image, Updated: s.Updated})
	}
	out := make([]Cluster, 0, len(clusters))
	for _, c := range clusters {
		slices.SortFunc(c.Endpoints, func(a, b Endpoint) int {
			return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
		})
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Cluster) int { return cmp.Compare(a.Name, b.Name) })
	return out, slices.SortedFunc(maps.Keys(problems), func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Message, b.Message))
	})
}

// older orders instances of different services by age, and the same everywhere.
func older(a, b *pancake.Service) bool {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID)) < 0
}
