package catalog

import (
	"cmp"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
)

// Snapshot is the catalogue at one moment. It and all that it points to never
// change, so any number of goroutines may read it without a lock.
type Snapshot struct {
	Self        string // the host whose catalogue it is
	Cluster     string
	LastChanged time.Time
	Hosts       map[string]*Host
}

// Host is one host and what it announces. It never changes either: a host that
// is the same pointer in two snapshots is the same.
type Host struct {
	Name        string
	Services    map[string]*pancake.Service // by Service.ID, tombstones included
	LastUpdated time.Time                   // Updated of the record that came last
	LastChanged time.Time                   // Updated of the last record that changed a status
}

// Snapshot returns the catalogue as it is now. Only the hosts that changed
// since the last call are copied.
func (c *Catalog) Snapshot() *Snapshot {
	s := &Snapshot{Self: c.self, Cluster: c.cluster, LastChanged: c.lastChanged, Hosts: make(map[string]*Host, len(c.hosts))}
	for name, h := range c.hosts {
		if h.view == nil {
			h.view = &Host{Name: name, Services: make(map[string]*pancake.Service, len(h.records)), LastUpdated: h.lastUpdated, LastChanged: h.lastChanged}
			for id, r := range h.records {
				h.view.Services[id] = r.svc
			}
		}
		s.Hosts[name] = h.view
	}
	return s
}

// Len counts the records of the snapshot, tombstones included.
func (s *Snapshot) Len() int {
	n := 0
	for _, h := range s.Hosts {
		n += len(h.Services)
	}
	return n
}

// Services lists all records, ordered by name, host and id. They are shared:
// treat them as read-only.
func (s *Snapshot) Services() []*pancake.Service {
	all := make([]*pancake.Service, 0, s.Len())
	for _, h := range s.Hosts {
		for _, svc := range h.Services {
			all = append(all, svc)
		}
	}
	slices.SortFunc(all, func(a, b *pancake.Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// ByService groups all records by the service's name, each group ordered by
// host and id. It is Sidecar's default view.
func (s *Snapshot) ByService() map[string][]*pancake.Service {
	groups := map[string][]*pancake.Service{}
	for _, svc := range s.Services() {
		groups[svc.Name] = append(groups[svc.Name], svc)
	}
	return groups
}
