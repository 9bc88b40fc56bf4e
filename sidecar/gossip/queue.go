package gossip

import (
	"slices"
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
	// refresh repeats what is known; it waits for a packet that has room.
	refresh
	classes
)

func classOf(c catalog.Change) class {
	switch {
	case c.Refresh:
		return refresh
	case c.Service.Status == pancake.Tombstone || c.Service.Status == pancake.Draining:
		return urgent
	}
	return news
}

// key names a service in the queue.
type key struct{ host, id string }

// item is one record on its way out.
type item struct {
	key   key
	class class
	data  []byte
	sent  int
	gone  bool // replaced by a newer record; skipped when met
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
}

func newQueue(times func(class) int) *queue {
	return &queue{items: map[key]*item{}, times: times}
}

// add queues a record in place of an older one of the same service.
func (q *queue) add(k key, c class, data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if old := q.items[k]; old != nil {
		old.gone = true
		if old.sent == 0 {
			c = min(c, old.class) // a repetition does not slow down the news it repeats
		}
	}
	it := &item{key: k, class: c, data: data}
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

// take packs an envelope of at most limit bytes, nil if there is nothing for
// it, and counts its records as sent to that many peers. With unsent it takes
// only what was never sent and cannot wait.
func (q *queue) take(limit, peers int, unsent bool) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	packet := slices.Clone(header)
	var taken []*item
	for c := range classes {
		if unsent && c == refresh {
			break
		}
		for sent := range q.lanes[c] {
			if unsent && sent > 0 {
				break
			}
			lane := q.lanes[c][sent]
			for len(lane) > 0 && (lane[0].gone || len(packet)+len(lane[0].data) <= limit) {
				if !lane[0].gone {
					packet = append(packet, lane[0].data...)
					taken = append(taken, lane[0])
				}
				lane[0] = nil
				lane = lane[1:]
			}
			q.lanes[c][sent] = lane
		}
	}
	for _, it := range taken {
		if it.sent += peers; it.sent < q.times(it.class) {
			q.push(it)
		} else {
			delete(q.items, it.key)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return packet
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
