package gossip

import (
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// steps of a comparison, see the package comment.
const (
	stepDigests = 1
	stepLists   = 2
	stepRecords = 3
	stepRest    = 4
)

// maxName bounds the name of a host, maxHosts how many a message may name, in
// bytes and in number.
const (
	maxName  = catalog.MaxText
	maxHosts = 100_000
)

// comparison is one message of a comparison between two nodes.
type comparison struct {
	from  string // the node that sends it
	step  int
	whole bool // the digests are of all hosts
	// mirror says that the digests are those of hosts for which the sender speaks.
	mirror  bool
	digests []hostDigest
	lists   []hostList
	wants   []hostWants
	records []pancake.Service
}

type hostDigest struct {
	host   string
	digest uint64
}

type hostList struct {
	host    string
	entries []entry
}

// entry names one record as it is at the sender.
type entry struct {
	id      string
	updated time.Time
	hash    uint64
}

type hostWants struct {
	host string
	ids  []string
}

func (c *comparison) empty() bool {
	return len(c.digests) == 0 && len(c.lists) == 0 && len(c.wants) == 0 && len(c.records) == 0 && !c.whole
}

// begin makes the first message: of the named hosts, or of all if there is none.
func begin(snap *catalog.Snapshot, hosts ...string) comparison {
	c := comparison{from: snap.Self, step: stepDigests, whole: len(hosts) == 0}
	for _, name := range hosts {
		if h := snap.Hosts[name]; h == nil || !h.Gone {
			c.digests = append(c.digests, hostDigest{name, digestOf(h)})
		}
	}
	if c.whole {
		for name, h := range snap.Hosts {
			if h.Digest != 0 {
				c.digests = append(c.digests, hostDigest{name, h.Digest})
			}
		}
	}
	return c
}

func digestOf(h *catalog.Host) uint64 {
	if h == nil {
		return 0
	}
	return h.Digest
}

// answer takes a message: it returns what to say in return, empty if nothing,
// and the records to merge.
func answer(snap *catalog.Snapshot, m comparison) (reply comparison, merge []pancake.Service) {
	reply = comparison{from: snap.Self, step: m.step + 1}
	switch m.step {
	case stepDigests:
		reply.lists = differing(snap, m)
	case stepLists:
		for _, l := range m.lists {
			merge = append(merge, reply.settle(snap, l)...)
		}
	case stepRecords, stepRest:
		merge = m.records
		if m.step == stepRest {
			return comparison{}, merge
		}
		for _, w := range m.wants {
			h := snap.Hosts[w.host]
			for _, id := range w.ids {
				if s := h.Written(id); s != nil && !h.Gone {
					reply.records = append(reply.records, *s)
				}
			}
		}
		for i := range m.records {
			r := &m.records[i]
			h := snap.Hosts[r.Hostname]
			if mine := h.Written(r.ID); mine != nil && mayTell(h, r.ID) && catalog.Compare(mine, r) > 0 {
				reply.records = append(reply.records, *mine)
			}
		}
	}
	return reply, merge
}

// differing lists what there is of the hosts whose digests are different here.
// Of hosts that are gone here nothing is said.
func differing(snap *catalog.Snapshot, m comparison) (lists []hostList) {
	seen := make(map[string]bool, len(m.digests))
	for _, d := range m.digests {
		seen[d.host] = true
		if h := snap.Hosts[d.host]; digestOf(h) != d.digest && (h == nil || !h.Gone) {
			lists = append(lists, list(d.host, h))
		}
	}
	if m.whole {
		for name, h := range snap.Hosts {
			if h.Digest != 0 && !seen[name] {
				lists = append(lists, list(name, h))
			}
		}
	}
	return lists
}

func list(name string, h *catalog.Host) hostList {
	l := hostList{host: name}
	for s := range h.Live() {
		l.entries = append(l.entries, entry{s.ID, s.Updated, catalog.Hash(s)})
	}
	return l
}

// settle compares a list with what is known here: the reply gets what the sender
// lacks and what is lacked here. What had ended here, and the sender vouches for, is returned.
func (c *comparison) settle(snap *catalog.Snapshot, l hostList) (vouched []pancake.Service) {
	h := snap.Hosts[l.host]
	if h != nil && h.Gone {
		return nil
	}
	listed := make(map[string]bool, len(l.entries))
	wants := hostWants{host: l.host}
	for _, e := range l.entries {
		listed[e.id] = true
		mine := h.Written(e.id)
		switch {
		case mine == nil:
			wants.ids = append(wants.ids, e.id)
		case catalog.Hash(mine) == e.hash:
			if h.Ended[e.id] != nil {
				vouched = append(vouched, *mine)
			}
		default:
			if !mine.Updated.Before(e.updated) && mayTell(h, e.id) {
				c.records = append(c.records, *mine)
			}
			if !mine.Updated.After(e.updated) {
				wants.ids = append(wants.ids, e.id)
			}
		}
	}
	for s := range h.Live() {
		if !listed[s.ID] {
			c.records = append(c.records, *s)
		}
	}
	if len(wants.ids) > 0 {
		c.wants = append(c.wants, wants)
	}
	return vouched
}

// mayTell reports whether a record may be passed on: not one that has expired,
// or two nodes would keep it alive for each other.
func mayTell(h *catalog.Host, id string) bool {
	return !h.Gone && (h.Ended[id] == nil || h.Living)
}
