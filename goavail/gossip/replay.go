package gossip

import "github.com/pancake-stack/pancake/goavail/vote"

// window remembers which messages of one sender have come, so that none counts twice.
// Packets overtake each other, so the last few may come in any order; what is older
// than that, or of an earlier incarnation, is refused.
type window struct {
	last vote.Stamp
	seen [windowSize / 64]uint64 // a ring of bits by sequence number
}

// windowSize is how far packets may overtake each other: ten seconds of an agent
// that votes on a thousand targets.
const windowSize = 512

// take says whether the message is new.
func (w *window) take(s vote.Stamp) bool {
	switch {
	case s.Incarnation < w.last.Incarnation:
		return false
	case s.Incarnation > w.last.Incarnation:
		*w = window{last: s}
	case s.Seq > w.last.Seq:
		if s.Seq-w.last.Seq >= windowSize {
			w.seen = [windowSize / 64]uint64{}
		} else {
			for n := w.last.Seq + 1; n < s.Seq; n++ {
				w.seen[n%windowSize/64] &^= 1 << (n % 64)
			}
		}
		w.last.Seq = s.Seq
	case w.last.Seq-s.Seq >= windowSize || w.seen[s.Seq%windowSize/64]&(1<<(s.Seq%64)) != 0:
		return false
	}
	w.seen[s.Seq%windowSize/64] |= 1 << (s.Seq % 64)
	return true
}
