package source

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	sidecar "github.com/pancake-stack/pancake/sidecar/client"
)

// Sidecar is a service in the catalogue of a sidecar.
type Sidecar struct {
	Client  *sidecar.Client
	Service string
	// ServicePort picks one of the service's ports. 0 is the first.
	ServicePort int
	// Addresses are the public addresses of hosts; who is not among them has that of the catalogue.
	Addresses map[string]string
}

// Watch follows the catalogue.
func (s *Sidecar) Watch(ctx context.Context, fn func([]Node)) error {
	return s.Client.Watch(ctx, func(state *sidecar.State) error {
		fn(s.nodes(state))
		return nil
	})
}

// nodes are the hosts that run the service. One that runs nothing but draining instances
// is drained; a sick one stays, for it is our own probes that decide about it.
func (s *Sidecar) nodes(state *sidecar.State) []Node {
	var out []Node
	for host, server := range state.Servers {
		var best *Node
		for _, svc := range server.Services {
			if svc == nil || svc.Name != s.Service || svc.Status == pancake.Tombstone {
				continue
			}
			n := Node{Name: host, Address: s.Addresses[host], Drain: svc.Status == pancake.Draining}
			i := slices.IndexFunc(svc.Ports, func(p pancake.ServicePort) bool {
				return s.ServicePort == 0 || p.ServicePort == int64(s.ServicePort)
			})
			if i < 0 {
				continue
			}
			n.Port = int(svc.Ports[i].Port)
			if n.Address == "" {
				n.Address = svc.Ports[i].IP
			}
			if usable(n) && (best == nil || best.Drain && !n.Drain || best.Drain == n.Drain && n.Port < best.Port) {
				best = &n
			}
		}
		if best != nil {
			out = append(out, *best)
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func usable(n Node) bool {
	ip, err := netip.ParseAddr(n.Address)
	return err == nil && !ip.IsUnspecified() && n.Port >= 0 && n.Port <= 65535 && len(n.Name) <= 100
}

// Etcd is a prefix with a key per node. Its value is the address, with or without a port,
// or {"address": "…", "port": 443, "drain": true}.
type Etcd struct {
	// Dial connects; the connection is closed when watching ends.
	Dial      func(context.Context) (*clientv3.Client, error)
	Prefix    string
	Addresses map[string]string // public, by name
}

// maxNodes bounds what is read of a prefix.
const maxNodes = 10_000

// Watch follows the prefix.
func (e *Etcd) Watch(ctx context.Context, fn func([]Node)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	c, err := e.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		got, err := c.Get(ctx, e.Prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxNodes))
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Prefix, err)
		}
		var nodes []Node
		for _, kv := range got.Kvs {
			if n, ok := e.node(strings.TrimPrefix(string(kv.Key), e.Prefix), kv.Value); ok {
				nodes = append(nodes, n)
			}
		}
		fn(nodes)
		watch, stop := context.WithCancel(ctx)
		answer, ok := <-c.Watch(watch, e.Prefix, clientv3.WithPrefix(), clientv3.WithRev(got.Header.Revision+1))
		stop()
		if !ok || answer.Err() != nil {
			return fmt.Errorf("watch %s: %w", e.Prefix, cause(ctx, answer.Err()))
		}
	}
}

func cause(ctx context.Context, err error) error {
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = fmt.Errorf("the watch ended")
	}
	return err
}

func (e *Etcd) node(name string, value []byte) (Node, bool) {
	n := Node{}
	text := strings.TrimSpace(string(value))
	if strings.HasPrefix(text, "{") {
		if json.Unmarshal(value, &n) != nil {
			return n, false
		}
	} else if host, port, err := net.SplitHostPort(text); err == nil {
		n.Address = host
		n.Port, _ = strconv.Atoi(port) // 0 if it is none
	} else {
		n.Address = text
	}
	n.Name = strings.Trim(name, "/")
	if public := e.Addresses[n.Name]; public != "" {
		n.Address = public
	}
	return n, n.Name != "" && usable(n)
}
