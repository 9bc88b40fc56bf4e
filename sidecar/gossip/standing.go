package gossip

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// standing is what a node says of its catalogue with each answer to a probe.
type standing struct {
	own, whole       uint64        // digests, of its own records and of all
	ownFor, wholeFor time.Duration // for how long they have been so; long ones are cut
	members          uint32        // digest of the names of those it believes alive
}

const (
	standingVersion = 1
	standingLen     = 1 + 8 + 1 + 8 + 1 + 4
	ageUnit         = 100 * time.Millisecond
)

func (s standing) encode() []byte {
	b := append(make([]byte, 0, standingLen), standingVersion)
	b = append(binary.LittleEndian.AppendUint64(b, s.own), age(s.ownFor))
	b = append(binary.LittleEndian.AppendUint64(b, s.whole), age(s.wholeFor))
	return binary.LittleEndian.AppendUint32(b, s.members)
}

func age(d time.Duration) byte { return byte(min(max(d/ageUnit, 0), 255)) }

// readStanding ignores what a later release has appended.
func readStanding(b []byte) (s standing, err error) {
	if len(b) < standingLen || b[0] != standingVersion {
		return s, pancake.Errorf(pancake.Invalid, "an answer to a probe of %d bytes that says nothing: run the same release on all nodes", len(b))
	}
	return standing{
		own: binary.LittleEndian.Uint64(b[1:]), ownFor: time.Duration(b[9]) * ageUnit,
		whole: binary.LittleEndian.Uint64(b[10:]), wholeFor: time.Duration(b[18]) * ageUnit,
		members: binary.LittleEndian.Uint32(b[19:]),
	}, nil
}

const (
	// ownSettled is how old a change of a node's own records must be until we wonder
	// that we have not heard of it; wholeSettled the same of anybody's, there and here.
	ownSettled, wholeSettled = 1500 * time.Millisecond, 2 * time.Second
	// ownGap and wholeGap are the least times between two comparisons that we begin;
	// busyGap is that while something changes all the time, and the second may not settle.
	ownGap, wholeGap, busyGap = 250 * time.Millisecond, time.Second, 30 * time.Second
	// manyWithin is the time within which a second node whose own records differ makes it
	// likely that those of many do, as after a partition: they are compared all at once.
	manyWithin = 2 * time.Second
	// againAfter is how long the same difference to the same node is not tried again.
	againAfter = 15 * time.Second
	// membersSettled is how old our list of members must be until a difference is more
	// than news under way; membersGap is the least time between two exchanges of it.
	membersSettled, membersGap = 8 * time.Second, 30 * time.Second
)

// judge decides when to compare with a node. It is used by one goroutine.
type judge struct {
	random                          func(time.Duration) time.Duration // below that; nil for rand.N
	lastOwn, lastWhole, lastMembers time.Time
	differed                        string             // the node of lastOwn
	tried                           map[string]attempt // by node
}

type attempt struct {
	own, mine, theirs uint64
	at                time.Time
}

func (j *judge) below(d time.Duration) time.Duration {
	if j.random != nil {
		return j.random(d)
	}
	return rand.N(d)
}

// verdict says what to compare: the records of the node itself, those of all
// hosts, and the list of members.
type verdict struct{ own, whole, members bool }

// judge looks at the standing of a node against ours.
func (j *judge) judge(now time.Time, snap *catalog.Snapshot, mine standing, membersFor time.Duration, node string, theirs standing) (v verdict) {
	h := snap.Hosts[node]
	again := attempt{own: theirs.own ^ digestOf(h), mine: mine.whole, theirs: theirs.whole, at: now}
	last := j.tried[node]
	fresh := now.Sub(last.at) > againAfter
	if digestOf(h) != theirs.own && (h == nil || !h.Gone) && theirs.ownFor >= ownSettled && now.Sub(j.lastOwn) >= ownGap &&
		(fresh || last.own != again.own) {
		many := node != j.differed && now.Sub(j.lastOwn) < manyWithin && now.Sub(j.lastWhole) >= wholeGap
		v.own, j.lastOwn, j.differed = !many, now, node
		if many {
			v.whole, j.lastWhole = true, now
		}
	}
	settled := mine.wholeFor >= wholeSettled && theirs.wholeFor >= wholeSettled && now.Sub(j.lastWhole) >= wholeGap+j.below(wholeGap)
	if mine.whole != theirs.whole && !v.own && !v.whole && (settled || now.Sub(j.lastWhole) >= busyGap+j.below(busyGap)) &&
		(fresh || last.mine != again.mine || last.theirs != again.theirs) {
		v.whole, j.lastWhole = true, now
	}
	if v.own || v.whole {
		if j.tried == nil || len(j.tried) > maxLost {
			j.tried = map[string]attempt{}
		}
		j.tried[node] = again
	}
	if mine.members != theirs.members && membersFor >= membersSettled && now.Sub(j.lastMembers) >= membersGap+j.below(membersGap) {
		v.members, j.lastMembers = true, now
	}
	return v
}
