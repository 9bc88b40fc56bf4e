package catalog

import (
	"time"

	"github.com/pancake-stack/pancake"
)

// HostJoined says that a host is a member. From now on its records need no
// refresh. Those that ended when it went stay ended until they come in once more.
func (c *Catalog) HostJoined(hostname string) {
	h := c.host(hostname)
	h.living, h.gone = true, false
	c.outdate(h)
}

// HostGone ends all services of a host that has left the cluster or is dead.
func (c *Catalog) HostGone(hostname string, now time.Time) []Change {
	h := c.hosts[hostname]
	if hostname == c.self || h == nil {
		return nil
	}
	h.gone = h.living || h.gone
	h.living, h.left = false, now
	c.outdate(h)
	var changes []Change
	for _, r := range h.records {
		if r.live() {
			changes = append(changes, c.end(h, r, now))
		}
	}
	return changes
}

// end shows a record as a tombstone from now on. Nobody is told: all conclude
// the same, and come to the same tombstone.
func (c *Catalog) end(h *host, r record, now time.Time) Change {
	t := *r.svc
	t.Status, t.Updated, t.Note = pancake.Tombstone, r.svc.Updated.Add(step), ""
	r.shown, r.heard = &t, now
	change := c.set(h, r, now)
	change.Local = true
	return change
}

// revive shows a record again that had ended.
func (c *Catalog) revive(h *host, id string, now time.Time) Change {
	r := h.records[id]
	r.shown, r.heard = r.svc, now
	return c.set(h, r, now)
}

// Heard takes the word of the bridge that mirrors a host: that its live records
// have that digest. If it is so here they live on, even if they had ended;
// otherwise ok is false and they have to be compared.
func (c *Catalog) Heard(hostname string, digest uint64, now time.Time) (changes []Change, ok bool) {
	h := c.hosts[hostname]
	if h == nil || h.living || h.gone || hostname == c.self {
		return nil, h != nil
	}
	var sum uint64
	for _, r := range h.records {
		if r.svc.Status != pancake.Tombstone {
			sum += r.hash
		}
	}
	if sum != digest {
		return nil, false
	}
	for id, r := range h.records {
		switch {
		case r.svc.Status == pancake.Tombstone:
		case r.ended():
			changes = append(changes, c.revive(h, id, now))
		default:
			r.heard = now
			h.records[id] = r
		}
	}
	return changes, true
}

// Mirror takes the records of hosts of another cluster for which this Sidecar
// speaks, as a bridge. It is Merge, but a mere refresh is not passed on: the
// digest of the host is repeated instead (Host.Mirrored).
func (c *Catalog) Mirror(records []pancake.Service, now time.Time) (changes []Change, refused []Refusal) {
	for i := range records {
		r := &records[i]
		if reason := c.refuse(r, now); reason != "" {
			refused = append(refused, Refusal{r.Hostname, r.ID, reason})
			continue
		}
		h := c.host(r.Hostname)
		if r.Hostname == c.self || h.living {
			refused = append(refused, Refusal{r.Hostname, r.ID, RefusedMember})
			continue
		}
		h.gone = false
		if h.mirrored.IsZero() {
			c.outdate(h)
		}
		h.mirrored = now
		old, known := h.records[r.ID]
		same := known && old.svc.Status == r.Status && compareContent(old.svc, r) == 0
		if !same || r.Updated.Sub(old.svc.Updated) > restampAfter {
			merged, not := c.Merge(records[i:i+1], now)
			changes, refused = append(changes, merged...), append(refused, not...)
			continue
		}
		if r.Updated.Before(old.svc.Updated) || r.Status == pancake.Tombstone {
			continue
		}
		if old.ended() {
			changes = append(changes, c.revive(h, r.ID, now))
			continue
		}
		old.heard = now
		h.records[r.ID] = old
	}
	return changes, refused
}

// Sweep does what is due: it ends what has not been heard of for too long and
// forgets old tombstones. Call it every second or two.
func (c *Catalog) Sweep(now time.Time) []Change {
	var changes []Change
	for name, h := range c.hosts {
		if h.living && h.dead == 0 {
			continue
		}
		if !h.mirrored.IsZero() && now.Sub(h.mirrored) > AliveFor {
			h.mirrored = time.Time{}
			c.outdate(h)
		}
		for id, r := range h.records {
			switch {
			case !r.live():
				// By Updated, too: what it keeps out is refused as stale by then, even of a host whose clock is ahead.
				if now.Sub(later(r.heard, r.shown.Updated)) > TombstoneFor {
					changes = append(changes, c.forget(h, id))
				}
			case h.living, name == c.self && c.own[id], now.Sub(r.heard) <= lifespan(r.svc.Status):
			case name == c.self: // nobody else may say so
				changes = append(changes, c.Remove(id, now)...)
			default:
				changes = append(changes, c.end(h, r, now))
			}
		}
		if len(h.records) == 0 && !h.living && (!h.gone || now.Sub(h.left) > TombstoneFor) {
			delete(c.hosts, name)
			c.outdate(h)
		}
	}
	return changes
}

func (c *Catalog) forget(h *host, id string) Change {
	r := h.records[id]
	c.tally(h, r, -1)
	delete(h.records, id)
	c.outdate(h)
	return Change{Service: r.shown, Before: r.shown.Status, Removed: true}
}

func lifespan(s pancake.ServiceStatus) time.Duration {
	if s == pancake.Draining {
		return DrainingFor
	}
	return AliveFor
}
