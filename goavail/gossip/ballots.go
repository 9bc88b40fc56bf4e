package gossip

import (
	"encoding/binary"

	"github.com/pancake-stack/pancake/goavail/vote"
)

// Table is what a place says of targets, and under which configuration.
type Table struct {
	Config uint64 // a hash of the sender's configuration, so that differences show
	Lines  []Line
}

// Line is a place's ballot on one target.
type Line struct {
	// Target is a hash of the target's name and of how it is checked: places that check
	// differently do not vote on the same thing.
	Target uint64
	vote.Ballot
}

const (
	// maxWhy bounds the reason of a ballot, in bytes.
	maxWhy = 120
	// packetSize is what memberlist puts into one UDP packet, in bytes: it passes any
	// Ethernet. overhead is taken off for memberlist's headers, encryption, and our own.
	packetSize = 1400
	overhead   = 250
)

// Tables encodes a table as bodies of messages that each fit a packet.
func Tables(t Table) [][]byte {
	var out [][]byte
	begin := func() []byte {
		return binary.BigEndian.AppendUint64(make([]byte, 0, packetSize-overhead), t.Config)
	}
	body := begin()
	for _, l := range t.Lines {
		why := l.Why[:min(len(l.Why), maxWhy)]
		if len(body)+8+1+binary.MaxVarintLen16+len(why) > packetSize-overhead {
			out = append(out, body)
			body = begin()
		}
		body = append(binary.BigEndian.AppendUint64(body, l.Target), byte(l.Verdict))
		body = appendString(body, why)
	}
	return append(out, body)
}

// ReadTable decodes what Tables made.
func ReadTable(b []byte) (Table, error) {
	d := decoder{b: b}
	t := Table{Config: d.uint64()}
	for len(d.b) > 0 {
		l := Line{Target: d.uint64()}
		l.Verdict = vote.Verdict(d.byte())
		l.Why = d.string(maxWhy)
		if l.Verdict > vote.Down {
			d.fail("a verdict has no meaning")
		}
		if d.err != nil {
			return Table{}, d.err
		}
		t.Lines = append(t.Lines, l)
	}
	return t, d.err
}
