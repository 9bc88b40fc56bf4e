package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"

	"github.com/pancake-stack/pancake"
)

// delegate is what memberlist calls. None of it may block for long.
type delegate struct {
	g   *Gossip
	ctx context.Context // Run's: memberlist has none to pass
}

func (d *delegate) NodeMeta(int) []byte { return nil }

// NotifyMsg takes a packet, or a message that fitted none.
func (d *delegate) NotifyMsg(b []byte) {
	if name := leaver(b); name != "" {
		d.g.peers.setLeaving(name)
		return
	}
	records, ok := d.decode(b, maxMessage, "packet")
	if !ok {
		return
	}
	select {
	case d.g.incoming <- records:
	default:
		d.g.m.refused.WithLabelValues("busy").Inc() // the next comparison of states repairs it
	}
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	packet := d.g.queue.take(limit-overhead, 1, false)
	if packet == nil {
		return nil
	}
	d.g.m.sent.WithLabelValues("packet").Inc()
	return [][]byte{packet}
}

func (d *delegate) LocalState(bool) []byte {
	d.g.m.sent.WithLabelValues("state").Inc()
	return Encode(d.g.cfg.Owner.Snapshot().Services())
}

func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	if records, ok := d.decode(b, maxState, "state"); ok {
		d.g.cfg.Owner.Merge(d.ctx, records)
	}
}

func (d *delegate) decode(b []byte, limit int, kind string) ([]pancake.Service, bool) {
	d.g.m.received.WithLabelValues(kind).Inc()
	records, err := Decode(b, limit)
	if err != nil {
		d.g.m.refused.WithLabelValues("broken").Inc()
		d.g.log.Debug("a message of a peer was not taken", "kind", kind, "err", err)
		return nil, false
	}
	return records, true
}

// bridge passes memberlist's log lines on. Its errors are warnings here: they
// are about single packets and peers, and memberlist goes on.
func bridge(to *slog.Logger) *log.Logger {
	return log.New(bridgeWriter{to}, "", 0)
}

type bridgeWriter struct{ log *slog.Logger }

func (w bridgeWriter) Write(b []byte) (int, error) {
	line := bytes.TrimSpace(b)
	level := slog.LevelDebug
	for prefix, l := range map[string]slog.Level{"[WARN] ": slog.LevelInfo, "[ERR] ": slog.LevelWarn, "[INFO] ": slog.LevelDebug, "[DEBUG] ": slog.LevelDebug} {
		if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			line, level = rest, l
			break
		}
	}
	w.log.Log(context.Background(), level, "memberlist", "text", string(bytes.TrimPrefix(line, []byte("memberlist: "))))
	return len(b), nil
}
