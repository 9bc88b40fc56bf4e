package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
)

// delegate is what memberlist calls. None of it may block for long.
type delegate struct {
	g   *Gossip
	ctx context.Context // Run's: memberlist has none to pass
}

func (d *delegate) NodeMeta(limit int) []byte { return d.g.about.encode(limit) }

// NotifyMsg takes a packet, or a message that fitted none.
func (d *delegate) NotifyMsg(b []byte) {
	kind, body, err := open(b, maxMessage)
	if err == nil {
		err = d.take(kind, body)
	}
	if err != nil {
		d.g.refuse("broken", err)
	}
}

func (d *delegate) take(kind byte, body []byte) error {
	g := d.g
	switch kind {
	case kindRecords:
		g.m.received.WithLabelValues("packet").Inc()
		records, err := readRecords(newDecoder(body))
		if err != nil {
			return err
		}
		select {
		case g.incoming <- records:
		default:
			g.refuse("busy", nil) // the next comparison repairs it
		}
	case kindCompare, kindMirror:
		g.m.received.WithLabelValues("comparison").Inc()
		c, err := readComparison(body)
		if err != nil {
			return err
		}
		c.mirror = kind == kindMirror
		select {
		case g.comparisons <- c:
		default:
			g.refuse("busy", nil)
		}
	case kindGoodbye, kindPause, kindForget:
		name, err := readName(body)
		if err != nil {
			return err
		}
		switch kind {
		case kindGoodbye:
			g.peers.setLeaving(name)
		case kindPause:
			g.peers.setPaused(name)
		case kindForget:
			g.peers.forget(name)
		}
	default:
		return pancake.Errorf(pancake.Invalid, "a message of kind %d: run the same release on all nodes", kind)
	}
	return nil
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	packet := d.g.queue.take(limit-overhead, 1, false)
	if d.g.queue.hasLarge() {
		d.g.wakeUp()
	}
	if packet == nil {
		return nil
	}
	d.g.m.sent.WithLabelValues("packet").Inc()
	return [][]byte{packet}
}

// LocalState is what a peer gets with the list of members: everything if one of
// the two has just come, else digests.
func (d *delegate) LocalState(join bool) []byte {
	d.g.m.sent.WithLabelValues("state").Inc()
	snap := d.g.cfg.Owner.Snapshot()
	if !join || d.g.exchanging.CompareAndSwap(true, false) {
		c := begin(snap)
		return c.encode()[0] // digests are one message
	}
	e := newEncoder(kindRecords)
	for _, h := range snap.Hosts {
		for s := range h.Live() {
			e.add(s, 0)
		}
	}
	return pack(e.b)
}

func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	d.g.m.received.WithLabelValues("state").Inc()
	// What it says of members comes first: records are believed of members only.
	d.g.tellMembers(d.ctx)
	kind, body, err := open(b, maxState)
	if err != nil {
		d.g.refuse("broken", err)
		return
	}
	if kind == kindRecords {
		records, err := readRecords(newDecoder(body))
		if err != nil {
			d.g.refuse("broken", err)
			return
		}
		d.g.cfg.Owner.Merge(d.ctx, "", records)
		return
	}
	if err := d.take(kind, body); err != nil {
		d.g.refuse("broken", err)
	}
}

// AckPayload goes with each answer to a probe.
func (d *delegate) AckPayload() []byte { return d.g.standing(time.Now()).encode() }

// NotifyPingComplete gets it.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, payload []byte) {
	if len(payload) == 0 {
		return // the answer came by another node, which has none
	}
	s, err := readStanding(payload)
	if err != nil {
		d.g.refuse("broken", err)
		return
	}
	select {
	case d.g.sightings <- sighting{n.Name, s}:
	default: // the next probe says it again
	}
}

// refuse counts a message that was not taken, and logs each reason now and then.
func (g *Gossip) refuse(reason string, err error) {
	g.m.refused.WithLabelValues(reason).Inc()
	if g.complaints.first(reason, time.Now()) {
		g.log.Warn("messages of peers are not taken", "reason", reason, "err", err)
	}
}

// complaints says which have been made before, so that each is made once an hour.
type complaints struct {
	mu   sync.Mutex
	made map[string]time.Time
}

const (
	complainEvery = time.Hour
	maxComplaints = 1000 // causes come from the network
)

func (c *complaints) first(cause string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, made := c.made[cause]; made && now.Sub(at) < complainEvery {
		return false
	}
	if c.made == nil || len(c.made) >= maxComplaints {
		c.made = map[string]time.Time{}
	}
	c.made[cause] = now
	return true
}

// bridge passes memberlist's log lines on, and counts those which say that a
// message was not taken: memberlist tells nobody else.
type bridge struct {
	log        *slog.Logger
	refused    *prometheus.CounterVec
	complaints *complaints
}

func (w *bridge) logger() *log.Logger { return log.New(w, "", 0) }

// refusals are what memberlist says of messages that it does not take.
var refusals = []struct{ says, reason string }{
	{"unacceptable label", "wrong cluster"},
	{"Decrypt packet failed", "wrong key"},
	{"failed to receive: ", "wrong key"}, // or cut off: a stream says no more
	{"invalid checksum", "checksum"},
	{"label header", "broken"},
	{"Failed to decode", "broken"},
	{"truncated messages", "broken"},
	{"not supported", "broken"},
	{"missing message type", "broken"},
	{"invalid msgType", "broken"},
	{"Failed to read remote state", "broken"},
	{"Failed to receive user message", "broken"},
	{"exceeds limit", "oversized"},
	{"handler queue full", "busy"},
	{"Too many pending push/pull", "busy"},
	{"for unexpected node", "not for us"},
}

// Write takes one line.
func (w *bridge) Write(b []byte) (int, error) {
	line := strings.TrimPrefix(string(bytes.TrimSpace(b)), "memberlist: ")
	level := slog.LevelDebug
	for prefix, l := range map[string]slog.Level{"[WARN] ": slog.LevelInfo, "[ERR] ": slog.LevelInfo} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			line, level = rest, l
		}
	}
	line = strings.TrimPrefix(line, "memberlist: ")
	for _, r := range refusals {
		if strings.Contains(line, "failed to receive: EOF") {
			level = slog.LevelDebug // somebody knocked, see knock
			break
		}
		if strings.Contains(line, r.says) {
			w.refused.WithLabelValues(r.reason).Inc()
			if level = slog.LevelDebug; w.complaints.first(r.reason, time.Now()) {
				level = slog.LevelWarn
			}
			break
		}
	}
	w.log.Log(context.Background(), level, "memberlist", "text", line)
	return len(b), nil
}
