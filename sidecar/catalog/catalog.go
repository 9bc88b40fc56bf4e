// Package catalog is what one Sidecar knows: for each host the services that
// it announces. The package decides and computes only; time and records are
// passed in, changes come back as data.
//
// Each record is written by the Sidecar of its host alone, or by the bridge that
// mirrors the host. Two catalogues merge by keeping, for each service, the
// greater record (see Compare): that is commutative, associative and idempotent,
// so all catalogues become equal whatever the network does to the order of messages.
//
// That a host has gone is no record. Each catalogue is told by its own members'
// list (HostJoined, HostGone) and shows the services of a gone host as
// tombstones. It keeps what the host wrote, for when it comes back and says the same.
package catalog

import (
	"time"

	"github.com/pancake-stack/pancake"
)

const (
	// AliveFor is how long a record of a host that is no member lives without being
	// heard of again: NinesStack Sidecar's. It is measured from when it was heard, so
	// clocks do not matter. Records of living members do not expire.
	AliveFor = 80 * time.Second
	// DrainingFor is the same for a service that is being drained.
	DrainingFor = 10 * time.Minute
	// TombstoneFor is how long a tombstone is kept, from when it was made or heard
	// of here, and the age, by Updated, from which records of hosts that are no
	// members are not taken any more: whatever a tombstone kept out stays out.
	TombstoneFor = 3 * time.Hour
	// MaxAhead is how far in the future a record may be. It bounds nonsense only: a
	// host whose clock was wrong goes on behind its own old records.
	MaxAhead = 24 * time.Hour
	// restampAfter is how much newer a mirrored record must be to be taken if nothing
	// else is new: well below TombstoneFor, and far above the refresh of the mirrored.
	restampAfter = time.Hour
	// step is how much newer than the record that it ends a tombstone is shown.
	step = time.Second
	// maxRecords bounds the whole catalogue: 20 times what 1,000 hosts announce.
	maxRecords = 200_000
)

// Change says that a record is different now, and how.
type Change struct {
	Service *pancake.Service      // as it is now; shared, never modified
	Before  pancake.ServiceStatus // Unknown if New
	New     bool                  // the service was not known, or was forgotten
	Refresh bool                  // only Updated is different
	Local   bool                  // nobody else needs to know: only Note is different, or each concludes it by itself
	Removed bool                  // the record was forgotten; Service is what it was
	Refuted bool                  // peers believed something else of a service of this host
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
	RefusedStale   Reason = "stale"   // of no member, and older than TombstoneFor
	RefusedAhead   Reason = "ahead"   // newer than MaxAhead allows: a clock is wrong
	RefusedFull    Reason = "full"    // the catalogue holds as much as it may
	RefusedMember  Reason = "member"  // a bridge speaks for a host that speaks for itself
	RefusedLie     Reason = "refuted" // somebody else wrote a record of this host
)

// Refusal is a record that was not taken.
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
	digest        uint64
	lastChanged   time.Time
	// own are the containers that run on this host; held those that were running
	// before us and wait for the answer of their first check.
	own  map[string]bool
	held map[string]*pancake.Service
	// settled is set once all containers of this host are known. Until then what
	// others know of this host is believed, so that our restart changes nothing.
	settled bool
	// views are the hosts as the last snapshot shows them; never modified. outdated are
	// those that are different since.
	views    map[string]*Host
	outdated []*host
}

type host struct {
	name    string
	records map[string]record
	living  bool      // it is a member
	gone    bool      // it was one
	left    time.Time // when it went
	// mirrored is when this Sidecar last spoke for the host, as a bridge.
	mirrored                 time.Time
	digest                   uint64 // the sum of the hashes of what lives
	dead                     int    // records that are shown as tombstones
	lastUpdated, lastChanged time.Time
	outdated                 bool // it is among Catalog.outdated
}

type record struct {
	svc   *pancake.Service // as its host wrote it; replaced, never modified
	shown *pancake.Service // svc, or the tombstone that is shown of it while its host is gone
	hash  uint64           // of svc
	heard time.Time        // or, of a tombstone, made here
}

func (r record) ended() bool { return r.shown != r.svc }

func (r record) live() bool { return r.shown.Status != pancake.Tombstone }

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

func (c *Catalog) host(name string) *host {
	h := c.hosts[name]
	if h == nil {
		h = &host{name: name, records: map[string]record{}, lastUpdated: time.Unix(0, 0).UTC(), lastChanged: time.Unix(0, 0).UTC()}
		c.hosts[name] = h
	}
	return h
}

func (c *Catalog) outdate(h *host) {
	if !h.outdated {
		h.outdated = true
		c.outdated = append(c.outdated, h)
	}
}

// Outdated reports whether the last snapshot does not show everything: also what
// is no change to anybody else, such as that a host is a member now.
func (c *Catalog) Outdated() bool { return len(c.outdated) > 0 }

// tally counts a record in (by 1) or out (by -1).
func (c *Catalog) tally(h *host, r record, by int) {
	c.count += by
	switch {
	case !r.live():
		h.dead += by
	case by > 0:
		h.digest += r.hash
		c.digest += r.hash
	default:
		h.digest -= r.hash
		c.digest -= r.hash
	}
}

// set replaces the record of a service and says what changed.
func (c *Catalog) set(h *host, r record, now time.Time) Change {
	change := Change{Service: r.shown, Before: pancake.Unknown, New: true}
	if old, known := h.records[r.svc.ID]; known {
		c.tally(h, old, -1)
		change.New, change.Before = false, old.shown.Status
		same := old.shown.Status == r.shown.Status && compareContent(old.svc, r.svc) == 0
		change.Local = same && old.svc.Updated.Equal(r.svc.Updated)
		change.Refresh = same && !change.Local && old.svc.Note == r.svc.Note
	}
	h.records[r.svc.ID] = r
	c.tally(h, r, 1)
	c.outdate(h)
	h.lastUpdated = later(h.lastUpdated, r.shown.Updated)
	if change.Status() {
		h.lastChanged = later(h.lastChanged, now.Round(0).UTC())
		c.lastChanged = later(c.lastChanged, h.lastChanged)
	}
	return change
}

// put stores svc, which the caller gives away, and says what changed.
func (c *Catalog) put(svc *pancake.Service, now time.Time) Change {
	svc.Updated = svc.Updated.Round(0).UTC() // as it is when it has travelled
	if svc.Ports == nil {
		svc.Ports = []pancake.ServicePort{} // Sidecar's JSON has [], never null
	}
	return c.set(c.host(svc.Hostname), record{svc: svc, shown: svc, hash: Hash(svc), heard: now}, now)
}

// Merge takes records that came from elsewhere. It keeps those that are greater
// than what is known and says what changed and what it refused.
func (c *Catalog) Merge(records []pancake.Service, now time.Time) (changes []Change, refused []Refusal) {
	for i := range records {
		r := &records[i]
		h, newer := c.hosts[r.Hostname], 1
		if h != nil {
			if old := h.records[r.ID].svc; old != nil {
				newer = Compare(r, old)
			}
		}
		if newer == 0 && !h.records[r.ID].ended() {
			continue // it was good when it came first
		}
		if reason := c.refuse(r, now); reason != "" {
			refused = append(refused, Refusal{r.Hostname, r.ID, reason})
			continue
		}
		switch {
		case r.Hostname == c.self:
			if newer > 0 {
				change := c.mergeOwn(r, now)
				changes = append(changes, change)
				if change.Refuted {
					refused = append(refused, Refusal{r.Hostname, r.ID, RefusedLie})
				}
			}
		case h != nil && h.gone: // nobody speaks for it until it is back
		case newer > 0:
			taken := *r
			taken.Note = ""
			changes = append(changes, c.put(&taken, now))
		case newer == 0 && h.living && h.records[r.ID].ended():
			changes = append(changes, c.revive(h, r.ID, now))
		}
	}
	return changes, refused
}

func (c *Catalog) refuse(r *pancake.Service, now time.Time) Reason {
	h := c.hosts[r.Hostname]
	switch {
	case Valid(r) != nil:
		return RefusedInvalid
	case r.Updated.Sub(now) > MaxAhead:
		return RefusedAhead
	case now.Sub(r.Updated) > TombstoneFor && r.Hostname != c.self && (h == nil || !h.living):
		return RefusedStale
	case c.count >= maxRecords && c.get(r.Hostname, r.ID) == nil:
		return RefusedFull
	}
	return ""
}

// mergeOwn takes what others believe of a service of this host, where that is
// greater than what we do. Where they are wrong they are answered with a newer record.
func (c *Catalog) mergeOwn(r *pancake.Service, now time.Time) Change {
	taken := *r
	taken.Note = ""
	if c.own[r.ID] && c.held[r.ID] == nil { // it runs here: ours is right
		answer := *c.get(c.self, r.ID)
		lie := answer.Status != r.Status || compareContent(&answer, r) != 0
		answer.Updated = after(now, r.Updated)
		change := c.put(&answer, now)
		change.Refuted = lie
		return change
	}
	if r.Status != pancake.Tombstone && c.settled && !c.own[r.ID] { // it does not run here
		taken.Status, taken.Updated = pancake.Tombstone, r.Updated.Add(step)
		change := c.put(&taken, now)
		change.Refuted = true
		return change
	}
	return c.put(&taken, now)
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
