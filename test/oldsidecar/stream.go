package oldsidecar

import (
	"bufio"
	"bytes"
	"compress/lzw"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// tcpFor bounds each connection.
const tcpFor = 10 * time.Second

func (p *Peer) accept(ctx context.Context) error {
	for {
		c, err := p.tcp.Accept()
		if err != nil {
			return quiet(ctx, err)
		}
		p.runs.Go(func() error {
			defer c.Close()
			if err := p.serve(c); err != nil {
				p.refuse(err)
			}
			return nil
		})
	}
}

// serve answers one connection.
func (p *Peer) serve(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(tcpFor)) // only of a closed connection
	kind, r, err := begin(c)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	switch kind {
	case tPing:
		m, err := unpack(r)
		if err != nil {
			return err
		}
		return writeStream(c, pack([]byte{tAck}, entry{"SeqNo", m.num("SeqNo")}, entry{"Payload", nil}))
	case tPushPull:
		nodes, state, err := p.readState(r)
		if err != nil {
			return err // and close without an answer
		}
		if err := writeStream(c, p.localState(false)); err != nil {
			return err
		}
		return p.mergeState(nodes, state)
	case tUser:
		m, err := unpack(r)
		if err != nil {
			return err
		}
		b := make([]byte, m.num("UserMsgLen"))
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		return p.heardService(b)
	}
	return fmt.Errorf("%w: type %d", errMsgpack, kind)
}

// begin reads the type of what comes, uncompressed.
func begin(c io.Reader) (byte, *bufio.Reader, error) {
	r := bufio.NewReader(c)
	kind, err := r.ReadByte()
	if err != nil || kind != tCompress {
		return kind, r, err
	}
	m, err := unpack(r)
	if err != nil {
		return 0, nil, err
	}
	r = bufio.NewReader(lzw.NewReader(strings.NewReader(m.str("Buf")), lzw.LSB, 8))
	kind, err = r.ReadByte()
	return kind, r, err
}

// writeStream compresses whatever goes over a connection, as memberlist does.
func writeStream(c net.Conn, msg []byte) error {
	_, err := c.Write(compress(msg))
	return err
}

// localState is a whole push or pull: the members and the services.
func (p *Peer) localState(join bool) []byte {
	services := p.stateJSON()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := pack([]byte{tPushPull}, entry{"Nodes", len(p.members)}, entry{"ClusterName", p.cfg.Cluster}, entry{"UserStateLen", len(services)}, entry{"Join", join})
	for _, m := range p.members {
		out = pack(out, entry{"Name", m.name}, entry{"Addr", []byte(m.addr)}, entry{"Port", m.port}, entry{"Meta", m.meta},
			entry{"Incarnation", m.inc}, entry{"State", m.state}, entry{"Vsn", m.vsn})
	}
	return append(out, services...)
}

// readState reads what localState writes.
func (p *Peer) readState(r *bufio.Reader) (nodes []message, state []byte, err error) {
	header, err := unpack(r)
	if err != nil {
		return nil, nil, err
	}
	if header.str("ClusterName") != p.cfg.Cluster {
		return nil, nil, errCluster
	}
	for range header.num("Nodes") {
		node, err := unpack(r)
		if err != nil {
			return nil, nil, err
		}
		nodes = append(nodes, node)
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, int64(header.num("UserStateLen"))); err != nil {
		return nil, nil, err
	}
	return nodes, buf.Bytes(), nil
}

func (p *Peer) mergeState(nodes []message, state []byte) error {
	p.mu.Lock()
	for _, n := range nodes {
		name, inc := n.str("Name"), n.num("Incarnation")
		switch n.num("State") {
		case Alive:
			p.alive(&member{name: name, addr: net.IP(n.str("Addr")), port: n.num("Port"), meta: []byte(n.str("Meta")), inc: inc, vsn: []byte(n.str("Vsn"))})
		case Left:
			p.dead(name, inc, name)
		default: // also the dead: they get the chance to contradict
			p.suspect(name, inc, p.cfg.Name)
		}
	}
	p.mu.Unlock()
	return p.heardState(state)
}

// exchange sends the state to a peer and takes its.
func (p *Peer) exchange(ctx context.Context, address string, join bool) error {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(tcpFor)) // only of a closed connection
	if err := writeStream(c, p.localState(join)); err != nil {
		return err
	}
	kind, r, err := begin(c)
	if err != nil {
		return err
	}
	if kind != tPushPull {
		return fmt.Errorf("%w: type %d", errMsgpack, kind)
	}
	nodes, state, err := p.readState(r)
	if err != nil {
		return err
	}
	return p.mergeState(nodes, state)
}

func (p *Peer) exchangeWithOne(ctx context.Context) {
	p.mu.Lock()
	targets := p.some(1, func(m *member) bool { return m.state == Alive })
	var address string
	if len(targets) > 0 {
		address = targets[0].address()
	}
	p.mu.Unlock()
	if address == "" {
		return
	}
	if err := p.exchange(ctx, address, false); err != nil {
		p.cfg.Log.Info("exchange failed", "peer", address, "err", err)
	}
}

// pingTCP asks a member that does not answer packets.
func (p *Peer) pingTCP(m member) bool {
	c, err := net.DialTimeout("tcp", m.address(), p.cfg.ProbeTimeout)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(p.cfg.ProbeTimeout)) // only of a closed connection
	if writeStream(c, pack([]byte{tPing}, entry{"SeqNo", 1}, entry{"Node", m.name})) != nil {
		return false
	}
	kind, _, err := begin(c)
	return err == nil && kind == tAck
}
