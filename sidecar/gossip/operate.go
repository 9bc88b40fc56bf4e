package gossip

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// ForceLeave declares a host gone for good, here and on all members: its services
// end, it is not tried again. It fails with Conflict for a member that is alive, which
// has to be stopped, and with Unavailable while Run does not work.
func (g *Gossip) ForceLeave(_ context.Context, name string) error {
	g.runMu.Lock()
	defer g.runMu.Unlock()
	if g.list == nil {
		return pancake.Errorf(pancake.Unavailable, "gossip does not run")
	}
	if name == "" || len(name) > maxName {
		return pancake.Errorf(pancake.Invalid, "%q is no host's name", name)
	}
	if !g.peers.forget(name) {
		return pancake.Errorf(pancake.Conflict, "host %s is alive; stop its Sidecar first", name)
	}
	for range 2 { // packets may be lost
		g.burst(g.list, g.peers.random(g.peers.alive()), named(kindForget, name))
	}
	return nil
}

// Fingerprints names the keys in use, the one that encrypts first: the first 8
// bytes of SHA-256, in hexadecimal digits. None without encryption.
func (g *Gossip) Fingerprints() []string {
	if g.keys == nil {
		return nil
	}
	var out []string
	for _, k := range g.keys.GetKeys() {
		sum := sha256.Sum256(k)
		out = append(out, hex.EncodeToString(sum[:8]))
	}
	return out
}

// Debug is what gossip knows of itself, to be shown to people.
type Debug struct {
	Name, Address, Cluster string
	Keys                   []string // fingerprints
	Members                []client.Member
	Digest, OwnDigest      string // of the catalogue and of this host's records
	MembersDigest          uint32
	DigestFor              time.Duration // for how long they have been so
	Queue                  int           // records that peers have still to be told
	Streams, Doubts        int           // messages under way, and members that are doubted
	HealthScore            int           // memberlist's: 0 is well, 7 is the worst
	Starved                bool          // timers were late in the last seconds
	IdleBytes              float64       // bytes a second that this node should send at rest
	Noticed                time.Duration // until a dead node should be noticed
}

// Debug returns what gossip knows of itself.
func (g *Gossip) Debug() Debug {
	now := time.Now()
	s := g.standing(now)
	d := Debug{
		Name: g.cfg.Name, Address: g.peers.selfAddress(), Cluster: g.cfg.Cluster, Keys: g.Fingerprints(), Members: g.Members(),
		Digest: hex64(s.whole), OwnDigest: hex64(s.own), MembersDigest: s.members, DigestFor: s.wholeFor,
		Queue: g.queue.len(), Streams: len(g.streams), Doubts: len(g.doubts), Starved: g.pulse.starved(now),
		IdleBytes: IdleBytes(g.peers.alive()+1, g.keys != nil), Noticed: Noticed(g.peers.alive() + 1),
	}
	g.runMu.Lock()
	defer g.runMu.Unlock()
	if g.list != nil {
		d.HealthScore = g.list.GetHealthScore()
	}
	return d
}

func hex64(n uint64) string {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return hex.EncodeToString(b)
}
