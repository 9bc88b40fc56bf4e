package envoy

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cache "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/pancake-stack/pancake/sidecar/envoy/export"
)

// caches hold the resources that proxies have or get. All proxies get the same,
// whatever they call themselves.
type caches struct {
	clusters, endpoints, listeners *cache.LinearCache
	prefix                         string                    // of all versions
	known                          map[string]export.Cluster // what the resources were made of
}

func newCaches() *caches {
	// Versions start anew with each Sidecar: a proxy that has one of another must
	// not take it for one of ours.
	prefix := rand.Text()[:8] + "-"
	linear := func(kind string) *cache.LinearCache {
		return cache.NewLinearCache(kind, cache.WithVersionPrefix(prefix))
	}
	return &caches{
		clusters: linear(resource.ClusterType), endpoints: linear(resource.EndpointType), listeners: linear(resource.ListenerType),
		prefix: prefix, known: map[string]export.Cluster{},
	}
}

// of is the cache of a type, nil if there is nothing of it.
func (c *caches) of(kind string) *cache.LinearCache {
	switch kind {
	case resource.ClusterType:
		return c.clusters
	case resource.EndpointType:
		return c.endpoints
	case resource.ListenerType:
		return c.listeners
	}
	return nil
}

// CreateWatch is cache.ConfigWatcher's. A proxy that asks for a type that there is
// nothing of waits, and keeps its stream for the others.
func (c *caches) CreateWatch(r *cache.Request, sub cache.Subscription, out chan cache.Response) (func(), error) {
	linear := c.of(r.GetTypeUrl())
	if linear == nil {
		return func() {}, nil
	}
	if r.GetErrorDetail() != nil {
		// One that refuses the first that it gets has no version yet, and would be
		// sent the same again, for ever and at full speed.
		r.VersionInfo = c.prefix
	}
	return linear.CreateWatch(r, sub, out)
}

// CreateDeltaWatch is cache.ConfigWatcher's.
func (c *caches) CreateDeltaWatch(r *cache.DeltaRequest, sub cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	if linear := c.of(r.GetTypeUrl()); linear != nil {
		return linear.CreateDeltaWatch(r, sub, out)
	}
	return func() {}, nil
}

// set makes the resources those of clusters. What is as it was is not touched.
// Proxies hear of what is new from the ground up and of what is gone from the top
// down, so that nothing refers to what is not there.
func (c *caches) set(clusters []export.Cluster, bindIP string, zone func(string) string) ([]export.Problem, error) {
	var problems []export.Problem
	endpoints, added, listeners := map[string]types.Resource{}, map[string]types.Resource{}, map[string]types.Resource{}
	now := make(map[string]export.Cluster, len(clusters))
	var deaf []string // listeners that are gone, of clusters that are not
	for _, cluster := range clusters {
		usable, bad := usable(cluster, zone)
		problems = append(problems, bad...)
		cluster.Endpoints = usable
		before, known := c.known[cluster.Name]
		now[cluster.Name] = cluster
		if !known {
			added[cluster.Name] = clusterOf(cluster)
		}
		if !known || !slices.EqualFunc(before.Endpoints, usable, sameEndpoint) {
			endpoints[cluster.Name] = assignmentOf(cluster)
		}
		listener, err := listenerOf(cluster, bindIP)
		switch {
		case err != nil:
			problems = append(problems, export.Problem{Service: cluster.Service, Port: cluster.Port, Message: err.Error()})
			deaf = append(deaf, cluster.Name)
		case !known || before.Mode != cluster.Mode:
			listeners[cluster.Name] = listener
		}
	}
	var gone []string
	for name := range c.known {
		if _, ok := now[name]; !ok {
			gone = append(gone, name)
		}
	}
	c.known = now
	for _, step := range []struct {
		cache  *cache.LinearCache
		update map[string]types.Resource
		remove []string
	}{
		{c.clusters, added, nil},
		{c.endpoints, endpoints, nil},
		{c.listeners, listeners, append(deaf, gone...)},
		{c.clusters, nil, gone},
		{c.endpoints, nil, gone},
	} {
		if len(step.update)+len(step.remove) == 0 {
			continue
		}
		if err := step.cache.UpdateResources(step.update, step.remove); err != nil {
			return nil, fmt.Errorf("envoy: update the resources: %w", err)
		}
	}
	return problems, nil
}

// usable are the endpoints of a cluster that a proxy takes, and where they are. For one that
// is no address it would refuse the others as well.
func usable(c export.Cluster, zone func(string) string) (out []export.Endpoint, problems []export.Problem) {
	for _, e := range c.Endpoints {
		if _, err := netip.ParseAddr(e.IP); err != nil || e.Port < 1 || e.Port > 65535 {
			problems = append(problems, export.Problem{Service: c.Service, Port: c.Port, Message: fmt.Sprintf("%s:%d on host %s is no address", e.IP, e.Port, e.Host)})
			continue
		}
		if zone != nil {
			e.Zone = zone(e.Host)
		}
		out = append(out, e)
	}
	return out, problems
}

// sameEndpoint reports whether a proxy is told the same of two endpoints.
func sameEndpoint(a, b export.Endpoint) bool {
	return a.IP == b.IP && a.Port == b.Port && a.Host == b.Host && a.ID == b.ID && a.Image == b.Image && a.Zone == b.Zone
}
