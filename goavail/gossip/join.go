package gossip

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// join calls the peers that are not members, now and for ever: agents start while
// others are down, and find each other after a partition of any length.
func (g *Gossip) join(ctx context.Context, list *memberlist.Memberlist) error {
	every := cmp.Or(g.cfg.Rejoin, 5*time.Second)
	wait, told := every/10, false
	for {
		for _, p := range g.cfg.Peers {
			for _, address := range []string{p.Address, g.cfg.Known[p.Place]} {
				if !g.members.missing(p.Place, address) {
					continue
				}
				if err := g.call(ctx, list, address); err != nil && !told {
					g.log.InfoContext(ctx, "a place does not answer; it is tried again and again", "place", p.Place, "address", address, "err", err)
				}
			}
		}
		told = told || wait >= every // the rest is the same
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait + rand.N(wait/5+1)):
		}
		wait = min(wait*2, every)
	}
}

// call joins one address. An attempt cannot be cancelled; when ctx ends it is left
// behind, and tcpTimeout ends it.
func (g *Gossip) call(ctx context.Context, list *memberlist.Memberlist, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	lookup, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(lookup, host)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := list.Join([]string{net.JoinHostPort(ips[0], port)})
		done <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		return err
	}
}

// delegate is what memberlist calls. None of it may wait.
type delegate struct{ g *Gossip }

// NodeMeta publishes the key that this agent signs with.
func (d delegate) NodeMeta(limit int) []byte {
	if key, ok := d.g.cfg.Private.Public().(ed25519.PublicKey); ok && len(key) <= limit {
		return key
	}
	return nil
}

func (d delegate) NotifyMsg(b []byte)              { d.g.take(bytes.Clone(b)) }
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is everything this agent has to say, in envelopes with their lengths.
func (d delegate) LocalState(bool) []byte {
	var out []byte
	for _, b := range d.g.cfg.State() {
		e := d.g.envelope(b.Kind, b.Body)
		out = append(binary.AppendUvarint(out, uint64(len(e))), e...)
	}
	return out
}

func (d delegate) MergeRemoteState(b []byte, _ bool) {
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			d.g.refused.WithLabelValues("broken").Inc()
			return
		}
		d.g.take(b[size : size+int(n)])
		b = b[size+int(n):]
	}
}

// bridge passes memberlist's log lines on. Its errors are about single packets and
// peers, and it goes on: they are for those who look closely.
func bridge(to *slog.Logger) *log.Logger { return log.New(bridgeWriter{to}, "", 0) }

type bridgeWriter struct{ log *slog.Logger }

func (w bridgeWriter) Write(b []byte) (int, error) {
	w.log.Debug("memberlist", "text", string(bytes.TrimSpace(b)))
	return len(b), nil
}
