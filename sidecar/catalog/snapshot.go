package catalog

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
)

// Snapshot is the catalogue at one moment. It and all that it points to never
// change, so any number of goroutines may read it without a lock.
type Snapshot struct {
	Self        string // the host whose catalogue it is
	Cluster     string
	LastChanged time.Time        // when a status last changed here, by our clock
	Hosts       map[string]*Host // those of which there are records
	Digest      uint64           // the sum of the hashes of all records that live
}

// Host is one host and what it announces. It never changes either: a host that
// is the same pointer in two snapshots is the same.
type Host struct {
	Name        string
	Services    map[string]*pancake.Service // by Service.ID, tombstones included
	LastUpdated time.Time                   // Updated of the record that came last
	LastChanged time.Time                   // when a status last changed here, by our clock

	// Ended are the records, as the host wrote them, of which Services shows the
	// tombstones that we made; nil if there are none.
	Ended    map[string]*pancake.Service
	Digest   uint64 // the sum of the hashes of the records that live
	Living   bool   // it is a member
	Gone     bool   // it was one
	Mirrored bool   // this Sidecar speaks for it, as a bridge
}

// Written returns the record of a service as its host wrote it, nil if it is not
// known.
func (h *Host) Written(id string) *pancake.Service {
	if h == nil {
		return nil
	}
	if s := h.Ended[id]; s != nil {
		return s
	}
	return h.Services[id]
}

// Live returns the records of the host that are no tombstones.
func (h *Host) Live() iter.Seq[*pancake.Service] {
	return func(yield func(*pancake.Service) bool) {
		if h == nil {
			return
		}
		for _, s := range h.Services {
			if s.Status != pancake.Tombstone && !yield(s) {
				return
			}
		}
	}
}

// Snapshot returns the catalogue as it is now. Only the hosts that changed
// since the last call are copied.
func (c *Catalog) Snapshot() *Snapshot {
	if len(c.outdated) > 0 || c.views == nil {
		views := maps.Clone(c.views) // copies memory, which is much less than to insert each
		if views == nil {
			views = map[string]*Host{}
		}
		for _, h := range c.outdated {
			h.outdated = false
			if c.hosts[h.name] != h || len(h.records) == 0 {
				delete(views, h.name)
			} else {
				views[h.name] = h.show()
			}
		}
		c.views, c.outdated = views, nil
	}
	return &Snapshot{Self: c.self, Cluster: c.cluster, LastChanged: c.lastChanged, Hosts: c.views, Digest: c.digest}
}

func (h *host) show() *Host {
	v := &Host{
		Name: h.name, Services: make(map[string]*pancake.Service, len(h.records)), LastUpdated: h.lastUpdated, LastChanged: h.lastChanged,
		Digest: h.digest, Living: h.living, Gone: h.gone, Mirrored: !h.mirrored.IsZero(),
	}
	for id, r := range h.records {
		v.Services[id] = r.shown
		if r.ended() {
			if v.Ended == nil {
				v.Ended = map[string]*pancake.Service{}
			}
			v.Ended[id] = r.svc
		}
	}
	return v
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
