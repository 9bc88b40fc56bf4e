// Package catalog is what one Sidecar knows: for each host the services that
// it announces. The package decides and computes only; time and records are
// passed in, changes come back as data.
//
// Each record is written by the Sidecar of its host alone. Others may only
// tombstone it, and its own Sidecar answers when they are wrong. Two catalogues
// merge by keeping, for each service, the greater record (see Compare): that is
// commutative, associative and idempotent, so all catalogues become equal
// whatever the network does to the order of messages.
package catalog

import (
	"time"

	"github.com/pancake-stack/pancake"
)

// The lifespans are NinesStack Sidecar's, so that both can share a cluster.
const (
	// AliveFor is how long a record lives without being heard of again. It is
	// measured from when it was heard, so a host whose clock is slow survives.
	AliveFor = 80 * time.Second
	// DrainingFor is the same for a service that is being drained.
	DrainingFor = 10 * time.Minute
	// RefreshEvery is how often a host repeats what it announces.
	RefreshEvery = time.Minute
	// TombstoneFor is the age, by Updated, from which records are not taken any more.
	TombstoneFor = 3 * time.Hour
	// forgetAfter is the age at which a tombstone is forgotten. It is more than
	// TombstoneFor, so that whatever the tombstone kept out is too old to come
	// back even where a clock is a minute off.
	forgetAfter = TombstoneFor + time.Minute
	// MaxAhead is how far in the future a record may be. One beyond it could not
	// be replaced by its own host once that has set its clock right.
	MaxAhead = 10 * time.Minute
	// step is how much newer a tombstone is than the record it ends when its own
	// host does not write it: all who do so write the same tombstone.
	step = time.Second
	// maxRecords bounds the whole catalogue: 20 times what 1,000 hosts announce.
	maxRecords = 200_000
)

// Change says that a record is different now, and how.
type Change struct {
	Service *pancake.Service      // as it is now; shared, never modified
	Before  pancake.ServiceStatus // Unknown if New
	New     bool                  // the service was not known, or was forgotten
	Refresh bool                  // a repetition: only Updated is different
	Local   bool                  // only Note is different, which stays on this host
	Removed bool                  // the record was forgotten; Service is what it was
}

// Status reports whether the change concerns the status of the service.
func (c Change) Status() bool {
	return c.New || !c.Removed && c.Before != c.Service.Status
}

// Reason says why a record was not taken.
type Reason string

// The reasons.
const (
	RefusedInvalid Reason = "invalid" // not a record that could exist
	RefusedStale   Reason = "stale"   // older than TombstoneFor
	RefusedAhead   Reason = "ahead"   // newer than MaxAhead allows: the clock of its host is wrong
	RefusedFull    Reason = "full"    // the catalogue holds as much as it may
)

// Refusal is a record that Merge did not take.
type Refusal struct {
	Host, ID string
	Reason   Reason
}

// Catalog holds the records of all hosts. It is not safe for concurrent use:
// one goroutine owns it and hands out snapshots.
type Catalog struct {
	self, cluster string
	hosts         map[string]*host
	count         int
	lastChanged   time.Time
	// own are the containers that run on this host; held those that were running
	// before us and wait for the answer of their first check.
	own  map[string]bool
	held map[string]*pancake.Service
	// settled is set once all containers of this host are known. Until then what
	// others know of this host is believed, so that our restart changes nothing.
	settled bool
}

type host struct {
	records                  map[string]record
	lastUpdated, lastChanged time.Time
	view                     *Host // what the last snapshot shows; nil if that is outdated
}

type record struct {
	svc   *pancake.Service // replaced, never modified
	heard time.Time
}

// New makes an empty catalogue for the host self.
func New(self, cluster string) *Catalog {
	return &Catalog{
		self: self, cluster: cluster, hosts: map[string]*host{}, lastChanged: time.Unix(0, 0).UTC(),
		own: map[string]bool{}, held: map[string]*pancake.Service{},
	}
}

// get returns the record of a service, nil if there is none.
func (c *Catalog) get(hostname, id string) *pancake.Service {
	if h := c.hosts[hostname]; h != nil {
		return h.records[id].svc
	}
	return nil
}

// put stores svc, which the caller gives away, and says what changed.
func (c *Catalog) put(svc *pancake.Service, now time.Time) Change {
	svc.Updated = svc.Updated.Round(0).UTC() // as it is when it has travelled
	if svc.Ports == nil {
		svc.Ports = []pancake.ServicePort{} // Sidecar's JSON has [], never null
	}
	h := c.hosts[svc.Hostname]
	if h == nil {
		h = &host{records: map[string]record{}, lastUpdated: time.Unix(0, 0).UTC(), lastChanged: time.Unix(0, 0).UTC()}
		c.hosts[svc.Hostname] = h
	}
	old := h.records[svc.ID].svc
	change := Change{Service: svc, Before: pancake.Unknown, New: old == nil}
	if old == nil {
		c.count++
	} else {
		change.Before = old.Status
		same := old.Status == svc.Status && compareContent(old, svc) == 0
		change.Local = same && old.Updated.Equal(svc.Updated)
		change.Refresh = same && !change.Local && old.Note == svc.Note
	}
	heard := now
	if change.Local {
		heard = h.records[svc.ID].heard // nobody else was told: its repetition stays due
	}
	h.records[svc.ID] = record{svc: svc, heard: heard}
	h.view = nil
	h.lastUpdated = later(h.lastUpdated, svc.Updated)
	if change.Status() {
		h.lastChanged = later(h.lastChanged, svc.Updated)
		c.lastChanged = later(c.lastChanged, svc.Updated)
	}
	return change
}

// Merge takes records that came from elsewhere. It keeps those that are greater
// than what is known and says what changed and what it refused.
func (c *Catalog) Merge(records []pancake.Service, now time.Time) (changes []Change, refused []Refusal) {
	for i := range records {
		r := &records[i]
		if reason := c.refuse(r, now); reason != "" {
			refused = append(refused, Refusal{r.Hostname, r.ID, reason})
			continue
		}
		if old := c.get(r.Hostname, r.ID); old != nil && Compare(r, old) <= 0 {
			continue
		}
		taken := *r
		taken.Note = ""
		if r.Hostname == c.self {
			changes = append(changes, c.mergeOwn(&taken, now))
		} else {
			changes = append(changes, c.put(&taken, now))
		}
	}
	return changes, refused
}

func (c *Catalog) refuse(r *pancake.Service, now time.Time) Reason {
	switch {
	case Valid(r) != nil:
		return RefusedInvalid
	case now.Sub(r.Updated) > TombstoneFor:
		return RefusedStale
	case r.Updated.Sub(now) > MaxAhead:
		return RefusedAhead
	case c.count >= maxRecords && c.get(r.Hostname, r.ID) == nil:
		return RefusedFull
	}
	return ""
}

// mergeOwn takes what others believe of a service of this host, where that is
// greater than what we do. Where they are wrong they are answered with a newer record.
func (c *Catalog) mergeOwn(r *pancake.Service, now time.Time) Change {
	switch {
	case c.own[r.ID] && c.held[r.ID] == nil: // it runs here: ours is right
		answer := *c.get(c.self, r.ID)
		answer.Updated = after(now, r.Updated)
		return c.put(&answer, now)
	case r.Status != pancake.Tombstone && c.settled && !c.own[r.ID]: // it does not run here
		r.Status, r.Updated = pancake.Tombstone, r.Updated.Add(step)
	}
	return c.put(r, now)
}

// HostGone ends all services of a host that has left the cluster or is dead.
func (c *Catalog) HostGone(hostname string, now time.Time) []Change {
	if hostname == c.self || c.hosts[hostname] == nil {
		return nil
	}
	var changes []Change
	for _, r := range c.hosts[hostname].records {
		if r.svc.Status != pancake.Tombstone {
			changes = append(changes, c.end(r.svc, now))
		}
	}
	return changes
}

// end puts the tombstone that everybody but the own host writes for svc.
func (c *Catalog) end(svc *pancake.Service, now time.Time) Change {
	t := *svc
	t.Status, t.Updated, t.Note = pancake.Tombstone, svc.Updated.Add(step), ""
	return c.put(&t, now)
}

// after is now, or just behind t if that is later: a host's own records never
// go back in time, whatever its clock does.
func after(now, t time.Time) time.Time { return later(now.Round(0), t.Add(time.Nanosecond)) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
