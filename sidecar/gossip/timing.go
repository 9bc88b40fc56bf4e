package gossip

import (
	"math"
	"time"
)

// Timing is how often what is done, and what follows from it. A function of the
// number of nodes is given where memberlist scales with it.
const (
	// probeEvery is how often each node probes another one. It decides how soon a
	// dead node is noticed (see Noticed), and the traffic at rest (see IdleBytes).
	probeEvery = 300 * time.Millisecond
	// probeTimeout is how long an answer may take before others are asked to probe, too.
	// memberlist hands on what comes with an answer, our digests, only within it: it is
	// above the round trip of a network that delays by 100 ms.
	probeTimeout = 250 * time.Millisecond
	// suspicionMult scales how long a node stays suspect, x log10(nodes) x probeEvery.
	// 3 is the least with which Lifeguard wants a second accuser: without one a
	// suspicion lasts suspicionMaxMult times as long.
	suspicionMult    = 3
	suspicionMaxMult = 3
	// grace is how long an accused may still answer after memberlist's verdict; one
	// that announced a pause has pauseFor.
	grace    = time.Second
	pauseFor = 10 * time.Second
	// gossipEvery is how often news are told again. It costs nothing without news.
	gossipEvery = 100 * time.Millisecond
	gossipNodes = 3
	// pushPullEvery is how often memberlist exchanges its list of members, in a cluster
	// of up to 32; it scales with log2(nodes/32)+1. The list has about memberBytes for
	// each member, and differences are noticed otherwise, so it is rare.
	pushPullEvery = 10 * time.Minute
	// mirrorEvery is how often a bridge repeats what it speaks for. The others forget
	// it after catalog.AliveFor: five may be lost.
	mirrorEvery = 15 * time.Second
	// lostEvery is the time between two attempts to reach a member that was lost, in
	// all; lostSlow that for one which has been lost for longer than lostFresh.
	lostEvery = time.Second
	lostSlow  = 30 * time.Second
	lostFresh = 10 * time.Minute
)

// Sizes on the wire, in bytes, without encryption: as measured for node names of
// 12 characters, in a cluster named "default". See TestIdleBytes.
const (
	pingBytes   = 94
	ackBytes    = 56
	memberBytes = 150
	// ipHeaders are those of IPv4 and UDP; encryptionBytes are a nonce, a tag and a version.
	ipHeaders       = 28
	encryptionBytes = 29
)

// IdleBytes is what each of n nodes sends in a second at rest, headers of IP
// included: probes and their answers, and memberlist's exchanges of the list of members.
func IdleBytes(n int, encrypted bool) float64 {
	packet := ipHeaders
	if encrypted {
		packet += encryptionBytes
	}
	probes := float64(pingBytes+ackBytes+2*packet) / probeEvery.Seconds()
	scale := 1.0
	if n > 32 {
		scale = math.Ceil(math.Log2(float64(n))-5) + 1
	}
	// Each begins one exchange in a period, and answers one.
	lists := 2 * float64(n) * memberBytes / (pushPullEvery.Seconds() * scale)
	return probes + lists
}

// Noticed is after how long a node that died has no services any more, on all of
// n nodes, on average, in a network without loss: until the first of n probes meets
// it, that probe's end, the suspicion, and the doubt.
func Noticed(n int) time.Duration {
	met := probeEvery.Seconds() / (1 - math.Exp(-1))
	suspect := suspicionMult * math.Max(1, math.Log10(float64(n))) * probeEvery.Seconds()
	return time.Duration((met+probeEvery.Seconds()+suspect)*float64(time.Second)) + grace
}

// times is how often a record is sent by each of n nodes that learns of it: enough
// for an epidemic to reach all but a few though packets are lost; those find out by
// comparing. What takes a service out of traffic is sent more often.
func times(c class, n int) int {
	log := int(math.Ceil(math.Log10(float64(n + 2))))
	if c == urgent {
		return 4 * log
	}
	return 3 * log
}
