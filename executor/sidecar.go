package executor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// membersEvery is how often Sidecar is asked who it calls dead.
const membersEvery = 2 * time.Second

// watchSidecar tells tasks what Sidecar says of their health, for as long as ctx lasts.
func (n *node) watchSidecar(ctx context.Context) {
	wait := newBackOff(50*time.Millisecond, 2*time.Second)
	for warned := false; ctx.Err() == nil; {
		err := n.sidecar.Watch(ctx, func(s *client.State) error {
			wait.Reset()
			warned = false
			n.hear(s)
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		for _, t := range n.table.all() {
			t.mailbox.put(func(m *mail) bool {
				changed := m.health.heard
				m.health.heard = false
				return changed
			})
		}
		if !warned {
			n.log.WarnContext(ctx, "Sidecar lost; tasks keep the health they have until it is back", "err", err)
			warned = true
		}
		sleep(ctx, wait.NextBackOff())
	}
}

// hear hands what the node's Sidecar says of its own services to their tasks.
func (n *node) hear(s *client.State) {
	local := s.Servers[s.Hostname]
	if local == nil {
		return
	}
	byTask := map[string]*pancake.Service{}
	for _, service := range local.Services {
		if service != nil && service.Task != "" {
			byTask[service.Task] = service
		}
	}
	for id, t := range n.table.all() {
		service := byTask[id]
		if last, _ := t.published(); service == nil && last.ContainerID != "" {
			service = local.Services[serviceID(last.ContainerID)]
		}
		word, ok := healthOf(service)
		t.mailbox.put(func(m *mail) bool {
			if !ok { // not discovered yet, or gone: the last word stays
				word.state, word.note = m.health.state, m.health.note
			}
			word.heard = true
			changed := m.health != word
			m.health = word
			return changed
		})
	}
}

// healthOf translates Sidecar's word. A tombstone says that the container is
// gone, which Docker says better.
func healthOf(s *pancake.Service) (health, bool) {
	if s == nil {
		return health{}, false
	}
	switch s.Status {
	case pancake.Alive:
		return health{state: pancake.Healthy}, true
	case pancake.Sick, pancake.Unknown:
		return health{state: pancake.Unhealthy, note: s.Note}, true
	case pancake.Draining:
		return health{state: pancake.HealthDraining}, true
	}
	return health{}, false
}

// deadHosts are the hosts that gossip calls dead.
type deadHosts struct {
	mu    sync.Mutex
	names []string
}

func (d *deadHosts) get() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names
}

func (d *deadHosts) set(names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = names
}

// watchMembers keeps what heartbeats say of dead hosts fresh. Without a Sidecar
// nobody is called dead: silence proves nothing.
func (n *node) watchMembers(ctx context.Context) {
	for ctx.Err() == nil {
		members, err := n.sidecar.Members(ctx)
		if err != nil {
			members = nil
		}
		var dead []string
		for _, m := range members {
			if m.State == client.MemberDead {
				dead = append(dead, m.Name)
			}
		}
		slices.Sort(dead)
		n.dead.set(dead)
		sleep(ctx, membersEvery)
	}
}
