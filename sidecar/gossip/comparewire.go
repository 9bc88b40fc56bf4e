package gossip

import (
	"encoding/binary"
	"slices"
)

// A message of a comparison has the sender, the step, and then one section up to
// its end: all that a step says takes as many messages as it has sections and chunks.
const (
	sectionSome    = 1 // digests of the hosts in question
	sectionWhole   = 2 // digests of all hosts
	sectionLists   = 3
	sectionWants   = 4
	sectionRecords = 5
)

// encode makes the messages. Digests stay together, and so does a list: what it
// does not name is missing at its sender.
func (c *comparison) encode() (out [][]byte) {
	section := func(kind byte, items int, add func(e *encoder, i int)) {
		for i := 0; i < items || i == 0 && kind == sectionWhole; {
			e := c.header(kind)
			for ; i < items && (len(e.b) < chunk || kind <= sectionWhole); i++ {
				add(e, i)
			}
			out = append(out, pack(e.b))
			if items == 0 {
				break
			}
		}
	}
	digests := byte(sectionSome)
	if c.whole {
		digests = sectionWhole
	}
	section(digests, len(c.digests), func(e *encoder, i int) {
		e.b = binary.LittleEndian.AppendUint64(e.text(e.b, c.digests[i].host), c.digests[i].digest)
	})
	section(sectionLists, len(c.lists), func(e *encoder, i int) { e.list(c.lists[i]) })
	section(sectionWants, len(c.wants), func(e *encoder, i int) { e.wants(c.wants[i]) })
	section(sectionRecords, len(c.records), func(e *encoder, i int) { e.add(&c.records[i], 0) })
	return out
}

// packets makes messages of at most limit bytes of the digests, for a bridge.
func (c *comparison) packets(limit int) (out [][]byte) {
	e := c.header(sectionSome)
	empty := len(e.b)
	for _, d := range c.digests {
		if len(e.b) > empty && len(e.b)+len(d.host)+12 > limit {
			out = append(out, e.b)
			e = c.header(sectionSome)
		}
		e.b = binary.LittleEndian.AppendUint64(e.text(e.b, d.host), d.digest)
	}
	if len(e.b) > empty {
		out = append(out, e.b)
	}
	for _, b := range out {
		b[headerLen-1] = kindMirror
	}
	return out
}

func (c *comparison) header(section byte) *encoder {
	e := newEncoder(kindCompare)
	e.b = append(e.text(e.b, c.from), byte(c.step), section)
	return e
}

func (e *encoder) list(l hostList) {
	e.b = e.text(e.b, l.host)
	e.b = binary.AppendUvarint(e.b, uint64(len(l.entries)))
	for _, x := range l.entries {
		e.b = e.once(e.b, x.id)
		e.b = e.time(e.b, x.updated)
		e.b = binary.LittleEndian.AppendUint64(e.b, x.hash)
	}
}

func (e *encoder) wants(w hostWants) {
	e.b = e.text(e.b, w.host)
	e.b = binary.AppendUvarint(e.b, uint64(len(w.ids)))
	for _, id := range w.ids {
		e.b = e.once(e.b, id)
	}
}

// readComparison reads one message.
func readComparison(body []byte) (c comparison, err error) {
	d := newDecoder(body)
	c = comparison{from: d.text(maxName), step: int(d.byte())}
	section := d.byte()
	if d.err == nil && (c.from == "" || c.step < stepDigests || c.step > stepRest) {
		d.fail("step %d of %q", c.step, c.from)
	}
	c.whole = section == sectionWhole
	for len(d.b) > 0 {
		switch section {
		case sectionSome, sectionWhole:
			c.digests = append(c.digests, hostDigest{d.text(maxName), d.fixed64()})
		case sectionLists:
			c.lists = append(c.lists, hostList{d.text(maxName), repeat(d, func() entry { return entry{d.text(maxName), d.time(), d.fixed64()} })})
		case sectionWants:
			c.wants = append(c.wants, hostWants{d.text(maxName), repeat(d, func() string { return d.text(maxName) })})
		case sectionRecords:
			c.records = append(c.records, d.service())
		default:
			d.fail("section %d", section)
		}
	}
	if d.err != nil {
		return comparison{}, d.err
	}
	return c, nil
}

// repeat reads a number, and then as many values: each takes a byte at least.
func repeat[T any](d *decoder, read func() T) (out []T) {
	n := d.count(len(d.b))
	out = slices.Grow(out, min(n, 1024))
	for range n {
		if d.err != nil {
			return nil
		}
		out = append(out, read())
	}
	return out
}
