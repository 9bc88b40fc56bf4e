package gossip

import (
	"sync"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// class says how urgent a record is. Lower goes first.
type class int

const (
	// urgent records take a service out of traffic.
	urgent class = iota
	// news are all other changes.
	news
	classes
)

func classOf(c catalog.Change) class {
	if s := c.Service.Status; s == pancake.Tombstone || s == pancake.Draining {
		return urgent
	}
	return news
}

// key names a service in the queue.
type key struct{ host, id string }

// item is one record on its way out.
type item struct {
	svc   *pancake.Service
	class class
	sent  int
	gone  bool // replaced by a newer record, or not to be sent any more; skipped when met
}

// queue holds the records that peers have still to be told, one per service,
// the newest. It packs as many as fit into each packet: the urgent first, then
// those that were sent least often.
type queue struct {
	mu    sync.Mutex
	items map[key]*item
	lanes [classes][][]*item // by class, then by how often sent; each first in, first out
	// times returns how often a record of a class is sent in all.
	times func(class) int
	// large are the hosts that have a record which fits no packet.
	large map[string]bool
}

func newQueue(times func(class) int) *queue {
	return &queue{items: map[key]*item{}, times: times, large: map[string]bool{}}
}

// add queues a record in place of an older one of the same service.
func (q *queue) add(c class, svc *pancake.Service) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := key{svc.Hostname, svc.ID}
	if old := q.items[k]; old != nil {
		old.gone = true
		if old.sent == 0 {
			c = min(c, old.class) // what follows it does not slow it down
		}
	}
	it := &item{svc: svc, class: c}
	q.items[k] = it
	q.push(it)
}

func (q *queue) push(it *item) {
	lane := &q.lanes[it.class]
	for len(*lane) <= it.sent {
		*lane = append(*lane, nil)
	}
	(*lane)[it.sent] = append((*lane)[it.sent], it)
}

// take packs a message of at most limit bytes, nil if there is nothing for it,
// and counts its records as sent to that many peers. With unsent it takes only
// what was never sent. A record that does not fit even an empty packet is set
// aside: see takeLarge.
func (q *queue) take(limit, peers int, unsent bool) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return nil
	}
	e := newEncoder(kindRecords)
	var taken []*item
	for c := range classes {
		for sent := range q.lanes[c] {
			if unsent && sent > 0 {
				break
			}
			lane := q.lanes[c][sent]
			for len(lane) > 0 && (lane[0].gone || q.fits(e, lane[0], limit)) {
				if !lane[0].gone {
					taken = append(taken, lane[0])
				}
				lane[0] = nil
				lane = lane[1:]
			}
			if len(lane) == 0 {
				lane = nil // and what is behind it
			}
			q.lanes[c][sent] = lane
		}
	}
	for _, it := range taken {
		if it.sent += peers; it.sent < q.times(it.class) {
			q.push(it)
		} else {
			q.drop(it)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return e.b
}

// fits adds the record to the packet, if it has room. One that has none in any
// packet is taken out.
func (q *queue) fits(e *encoder, it *item, limit int) bool {
	if e.add(it.svc, limit) {
		return true
	}
	if limit < packetSize-overhead || len(e.b) > headerLen {
		return false
	}
	q.large[it.svc.Hostname] = true
	q.drop(it)
	return true // there is nothing left of it to be in the way
}

func (q *queue) drop(it *item) {
	it.gone = true
	delete(q.items, key{it.svc.Hostname, it.svc.ID})
}

// takeLarge returns the hosts that have news for which packets are no good: a
// record that fits none, or, if all, whatever was not sent yet. Those records leave the queue.
func (q *queue) takeLarge(all bool) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if all {
		for c := range classes {
			if len(q.lanes[c]) == 0 {
				continue
			}
			for _, it := range q.lanes[c][0] {
				if !it.gone {
					q.large[it.svc.Hostname] = true
					q.drop(it)
				}
			}
			q.lanes[c][0] = nil
		}
	}
	if len(q.large) == 0 {
		return nil
	}
	hosts := make([]string, 0, len(q.large))
	for h := range q.large {
		hosts = append(hosts, h)
	}
	q.large = map[string]bool{}
	return hosts
}

func (q *queue) hasLarge() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.large) > 0
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
