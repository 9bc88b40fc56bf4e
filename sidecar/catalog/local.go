package catalog

import (
	"time"

	"github.com/pancake-stack/pancake"
)

// Discover takes a container that runs on this host. It is announced as Sick
// until its first check has passed. One that ran before we did is held back
// until its first check has answered: peers that believe it alive go on doing so.
func (c *Catalog) Discover(svc pancake.Service, now time.Time) []Change {
	svc.Hostname, svc.Status = c.self, pancake.Sick
	fresh := !c.own[svc.ID]
	c.own[svc.ID] = true
	old := c.get(c.self, svc.ID)
	if fresh && !c.settled || c.held[svc.ID] != nil {
		c.held[svc.ID] = &svc
		return nil
	}
	if !fresh && old != nil {
		svc.Status, svc.Note = old.Status, old.Note // only its description changed
	}
	return c.announce(svc, false, now)
}

// announce puts a record of this host, if anything about it is different or it
// is to be repeated.
func (c *Catalog) announce(svc pancake.Service, repeat bool, now time.Time) []Change {
	old := c.get(c.self, svc.ID)
	if old == nil {
		svc.Updated = now
		return []Change{c.put(&svc, now)}
	}
	if old.Status == pancake.Draining {
		svc.Status = pancake.Draining // until the container is gone, whatever its checks say
	}
	switch {
	case repeat || old.Status != svc.Status || compareContent(old, &svc) != 0:
		svc.Updated = after(now, old.Updated)
	case old.Note != svc.Note:
		svc.Updated = old.Updated
	default:
		return nil
	}
	return []Change{c.put(&svc, now)}
}

// SetStatus takes what a check says of a service of this host: Alive, Sick or
// Unknown, and why. A service that is being drained keeps that status.
func (c *Catalog) SetStatus(id string, status pancake.ServiceStatus, note string, now time.Time) []Change {
	svc, ok := c.running(id)
	if !ok {
		return nil
	}
	first := c.held[id] != nil // peers have waited for it since before we were started
	delete(c.held, id)
	svc.Status, svc.Note = status, note
	return c.announce(svc, first, now)
}

// Drain takes a service of this host out of traffic. Doing so twice does no
// harm. It fails with NotFound if the service does not run here.
func (c *Catalog) Drain(id string, now time.Time) (pancake.Service, []Change, error) {
	svc, ok := c.running(id)
	if !ok {
		return svc, nil, pancake.Errorf(pancake.NotFound, "service with ID %q not found on host %q", id, c.self)
	}
	first := c.held[id] != nil
	delete(c.held, id)
	svc.Status = pancake.Draining
	return svc, c.announce(svc, first, now), nil
}

// running returns a copy of the record of a service that runs on this host.
func (c *Catalog) running(id string) (pancake.Service, bool) {
	if held := c.held[id]; held != nil {
		return *held, true
	}
	if svc := c.get(c.self, id); svc != nil && c.own[id] {
		return *svc, true
	}
	return pancake.Service{}, false
}

// Remove ends a service of this host: its container is gone.
func (c *Catalog) Remove(id string, now time.Time) []Change {
	delete(c.own, id)
	delete(c.held, id)
	old := c.get(c.self, id)
	if old == nil || old.Status == pancake.Tombstone {
		return nil
	}
	t := *old
	t.Status, t.Updated, t.Note = pancake.Tombstone, after(now, old.Updated), ""
	return []Change{c.put(&t, now)}
}

// Settle says that all containers of this host have been discovered. What
// others still believe to run here, and does not, is ended.
func (c *Catalog) Settle(now time.Time) []Change {
	if c.settled {
		return nil
	}
	c.settled = true
	h := c.hosts[c.self]
	if h == nil {
		return nil
	}
	var changes []Change
	for id := range h.records {
		if !c.own[id] {
			changes = append(changes, c.Remove(id, now)...)
		}
	}
	return changes
}

// Complete reports whether all containers of this host are known and none waits
// for its first check any more.
func (c *Catalog) Complete() bool { return c.settled && len(c.held) == 0 }
