package envoy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake/sidecar/envoy/export"
)

const (
	lookupTimeout = 2 * time.Second  // of one name
	lookupFresh   = 30 * time.Second // how long an answer is used, and a failure
	lookups       = 16               // at the same time
)

// names resolves hosts, each now and then. Only one goroutine uses it.
type names struct {
	resolver *net.Resolver
	known    map[string]name
}

// name is what a host resolved to, and when; no address if it did not.
type name struct {
	addr  netip.Addr
	asked time.Time
}

func newNames(r *net.Resolver) *names { return &names{resolver: r, known: map[string]name{}} }

// resolve puts the addresses of the hosts into the endpoints; those of a host that
// does not resolve keep the one that it announces. It returns when to do so again.
// On nil it does nothing, for ever.
func (n *names) resolve(ctx context.Context, clusters []export.Cluster) <-chan time.Time {
	if n == nil {
		return nil
	}
	now, hosts := time.Now(), map[string]name{}
	for _, c := range clusters {
		for _, e := range c.Endpoints {
			hosts[e.Host] = n.known[e.Host] // those that are gone are forgotten
		}
	}
	var mu sync.Mutex
	fresh := make(map[string]name, len(hosts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	for host, known := range hosts {
		if now.Sub(known.asked) < lookupFresh {
			mu.Lock()
			fresh[host] = known
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
			defer cancel()
			answer := name{addr: known.addr, asked: now}
			if addrs, err := n.resolver.LookupNetIP(ctx, "ip", host); err == nil && len(addrs) > 0 {
				answer.addr = addrs[0].Unmap()
			}
			mu.Lock()
			defer mu.Unlock()
			fresh[host] = answer
			return nil
		})
	}
	_ = group.Wait() // nobody fails: a name that does not resolve has no address
	n.known = fresh
	for _, c := range clusters {
		for i := range c.Endpoints {
			if addr := fresh[c.Endpoints[i].Host].addr; addr.IsValid() {
				c.Endpoints[i].IP = addr.String()
			}
		}
	}
	return time.After(lookupFresh)
}
