package oldsidecar_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/bridge"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

// ours is a cluster of Pancake Sidecars as its bridges see it: one catalogue,
// which the test changes, and a list of members.
type ours struct {
	mu      sync.Mutex
	catalog *catalog.Catalog
	members map[string]client.MemberState
	state   *feed.Feed[*catalog.Snapshot]
	taken   int // records that came over a bridge
}

func newOurs(t *testing.T, hosts ...string) *ours {
	o := &ours{catalog: catalog.New("p0", "new"), members: map[string]client.MemberState{"p0": client.MemberAlive}}
	o.state = feed.New(o.catalog.Snapshot())
	for _, h := range hosts {
		o.members[h] = client.MemberAlive
		o.catalog.HostJoined(h)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(500 * time.Millisecond)
			o.mu.Lock()
			o.catalog.Sweep(time.Now())
			o.state.Replace(o.catalog.Snapshot())
			o.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return o
}

func (o *ours) local() bridge.Local {
	return bridge.Local{State: o.state, Peers: o.list, Merge: func(_ context.Context, records []pancake.Service) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.taken += len(records)
		o.catalog.Mirror(records, time.Now())
		o.state.Set(o.catalog.Snapshot())
	}}
}

func (o *ours) list() []client.Member {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []client.Member
	for name, state := range o.members {
		out = append(out, client.Member{Name: name, State: state})
	}
	return out
}

func (o *ours) set(host, id string, status pancake.ServiceStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.catalog.Merge([]pancake.Service{{
		ID: id, Name: "new-" + id, Image: "registry/new:1", Created: time.Now(), Hostname: host, Updated: time.Now(), ProxyMode: "http", Status: status,
		Ports:  []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 8080, IP: "127.23.9.9", ContainerPort: 80}},
		Labels: map[string]string{"traefik.enable": "true"}, Task: "task-" + id,
	}}, time.Now())
	o.state.Set(o.catalog.Snapshot())
}

// kill ends a host: its peers notice and end its services.
func (o *ours) kill(host string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.members[host] = client.MemberDead
	o.catalog.HostGone(host, time.Now())
	o.state.Set(o.catalog.Snapshot())
}

func (o *ours) get(host, id string) (pancake.Service, bool) {
	snap, _ := o.state.Get()
	if h := snap.Hosts[host]; h != nil && h.Services[id] != nil {
		return *h.Services[id], true
	}
	return pancake.Service{}, false
}

func (o *ours) is(host, id string, status pancake.ServiceStatus) func() bool {
	return func() bool {
		s, ok := o.get(host, id)
		return ok && s.Status == status
	}
}

func (o *ours) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.taken
}
