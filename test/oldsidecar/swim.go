package oldsidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"
)

// The message types of memberlist.
const (
	tPing = iota
	tIndirectPing
	tAck
	tSuspect
	tAlive
	tDead
	tPushPull
	tCompound
	tUser
	tCompress
	tEncrypt
	tNack
	tCRC
	tErr
)

// The states of a member.
const (
	Alive = iota
	Suspect
	Dead
	Left
)

var errCluster = errors.New("Cluster names do not match") //nolint:staticcheck,revive // as the fork writes it

type member struct {
	name  string
	addr  net.IP
	port  int
	meta  []byte
	inc   int
	state int
	vsn   []byte
}

func (m *member) address() string { return net.JoinHostPort(m.addr.String(), strconv.Itoa(m.port)) }

// outgoing is a message that waits to be told to some peers.
type outgoing struct {
	about string // a later one about the same replaces it; "" for services
	msg   []byte
	left  int
}

func version() []byte { return []byte{1, 5, 2, 0, 0, 0} }

func (p *Peer) meta() []byte {
	b, _ := json.Marshal(map[string]string{"ClusterName": p.cfg.Cluster, "State": "Running"}) // of strings: never fails
	return b
}

// Members returns the state of each member by name.
func (p *Peer) Members() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]int{}
	for name, m := range p.members {
		out[name] = m.state
	}
	return out
}

// Leave says goodbye and lets some time pass for it to be told.
func (p *Peer) Leave() {
	p.mu.Lock()
	p.leaving = true
	me := p.members[p.cfg.Name]
	me.state = Left
	p.broadcast(p.cfg.Name, p.deadMessage(tDead, me.inc, p.cfg.Name, p.cfg.Name))
	p.mu.Unlock()
	time.Sleep(4 * p.cfg.Gossip)
}

func (p *Peer) aliveMessage(m *member) []byte {
	return pack([]byte{tAlive}, entry{"Incarnation", m.inc}, entry{"Node", m.name}, entry{"ClusterName", p.cfg.Cluster},
		entry{"Addr", []byte(m.addr)}, entry{"Port", m.port}, entry{"Meta", m.meta}, entry{"Vsn", m.vsn})
}

func (p *Peer) deadMessage(kind byte, inc int, name, from string) []byte {
	return pack([]byte{kind}, entry{"Incarnation", inc}, entry{"Node", name}, entry{"ClusterName", p.cfg.Cluster}, entry{"From", from})
}

// broadcast queues a message about a member. The caller holds the lock.
func (p *Peer) broadcast(about string, msg []byte) {
	p.queue = slices.DeleteFunc(p.queue, func(o *outgoing) bool { return o.about == about })
	p.queue = append(p.queue, &outgoing{about, msg, 8})
}

// gossip tells three random members what waits.
func (p *Peer) gossip() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.some(3, func(m *member) bool { return m.state <= Suspect || p.leaving }) {
		if parts := p.take(1398); len(parts) > 0 {
			p.send(m.address(), m.vsn, parts...)
		}
	}
}

// some picks other members. The caller holds the lock.
func (p *Peer) some(n int, ok func(*member) bool) []*member {
	var out []*member
	for _, m := range p.members {
		if m.name != p.cfg.Name && ok(m) {
			out = append(out, m)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// take returns messages that fit together. The caller holds the lock.
func (p *Peer) take(room int) [][]byte {
	var parts [][]byte
	for _, o := range p.queue {
		if len(o.msg)+2 > room {
			continue
		}
		room -= len(o.msg) + 2
		o.left--
		parts = append(parts, o.msg)
	}
	p.queue = slices.DeleteFunc(p.queue, func(o *outgoing) bool { return o.left <= 0 })
	return parts
}

// news takes a message about members, or a question.
func (p *Peer) news(kind byte, m message, from string) error {
	if kind >= tSuspect && kind <= tDead && m.str("ClusterName") != p.cfg.Cluster {
		return errCluster
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch kind {
	case tPing:
		if node := m.str("Node"); node == "" || node == p.cfg.Name {
			p.send(from, nil, pack([]byte{tAck}, entry{"SeqNo", m.num("SeqNo")}, entry{"Payload", nil}))
		}
	case tIndirectPing:
		p.relay(m, from)
	case tAck:
		if c := p.acks[m.num("SeqNo")]; c != nil {
			delete(p.acks, m.num("SeqNo"))
			close(c)
		}
	case tNack:
	case tSuspect:
		p.suspect(m.str("Node"), m.num("Incarnation"), m.str("From"))
	case tAlive:
		p.alive(&member{name: m.str("Node"), addr: net.IP(m.str("Addr")), port: m.num("Port"), meta: []byte(m.str("Meta")), inc: m.num("Incarnation"), vsn: []byte(m.str("Vsn"))})
	case tDead:
		p.dead(m.str("Node"), m.num("Incarnation"), m.str("From"))
	default:
		return fmt.Errorf("%w: type %d", errMsgpack, kind)
	}
	return nil
}

// relay pings another member for a peer. The caller holds the lock.
func (p *Peer) relay(m message, from string) {
	target := net.JoinHostPort(net.IP(m.str("Target")).String(), strconv.Itoa(m.num("Port")))
	answered := p.pingTo(target, m.str("Node"), nil)
	p.runs.Go(func() error {
		reply := pack([]byte{tNack}, entry{"SeqNo", m.num("SeqNo")})
		select {
		case <-answered:
			reply = pack([]byte{tAck}, entry{"SeqNo", m.num("SeqNo")}, entry{"Payload", nil})
		case <-time.After(p.cfg.ProbeTimeout):
			if !m.flag("Nack") {
				return nil
			}
		}
		p.send(from, nil, reply)
		return nil
	})
}

// pingTo sends a ping; the channel is closed by the answer. The caller holds the lock.
func (p *Peer) pingTo(address, name string, vsn []byte) chan struct{} {
	p.seq++
	answered := make(chan struct{})
	p.acks[p.seq] = answered
	p.send(address, vsn, pack([]byte{tPing}, entry{"SeqNo", p.seq}, entry{"Node", name}, entry{"SourceAddr", []byte(p.ip)},
		entry{"SourcePort", p.port}, entry{"SourceNode", p.cfg.Name}))
	return answered
}

// probe asks one member whether it is alive: itself, then through others and
// over TCP.
func (p *Peer) probe(ctx context.Context) {
	p.mu.Lock()
	targets := p.some(1, func(m *member) bool { return m.state <= Suspect })
	if len(targets) == 0 {
		p.mu.Unlock()
		return
	}
	target := *targets[0]
	answered := p.pingTo(target.address(), target.name, target.vsn)
	seq := p.seq
	p.mu.Unlock()
	select {
	case <-ctx.Done():
		return
	case <-answered:
		return
	case <-time.After(p.cfg.ProbeTimeout):
	}
	p.mu.Lock()
	for _, m := range p.some(3, func(m *member) bool { return m.state == Alive && m.name != target.name }) {
		p.send(m.address(), m.vsn, pack([]byte{tIndirectPing}, entry{"SeqNo", seq}, entry{"Target", []byte(target.addr)},
			entry{"Port", target.port}, entry{"Node", target.name}, entry{"Nack", true}))
	}
	p.mu.Unlock()
	if p.pingTCP(target) {
		return
	}
	select {
	case <-ctx.Done():
	case <-answered:
	case <-time.After(p.cfg.ProbeTimeout):
		p.mu.Lock()
		p.suspect(target.name, target.inc, p.cfg.Name)
		p.mu.Unlock()
	}
}

// alive takes the news that a member is alive. The caller holds the lock.
func (p *Peer) alive(m *member) {
	old := p.members[m.name]
	switch {
	case m.name == p.cfg.Name:
		if !p.leaving && m.inc > old.inc {
			p.refute(m.inc)
		}
		return
	case old != nil && m.inc <= old.inc:
		return
	}
	p.members[m.name] = m
	p.broadcast(m.name, p.aliveMessage(m))
}

// refute contradicts what is told of this host. The caller holds the lock.
func (p *Peer) refute(inc int) {
	me := p.members[p.cfg.Name]
	me.inc = max(me.inc, inc) + 1
	p.broadcast(me.name, p.aliveMessage(me))
}

// suspect takes the news that a member may be dead. The caller holds the lock.
func (p *Peer) suspect(name string, inc int, from string) {
	m := p.members[name]
	if m == nil || m.state != Alive || inc < m.inc {
		return
	}
	if name == p.cfg.Name {
		p.refute(inc)
		return
	}
	m.state = Suspect
	p.broadcast(name, p.deadMessage(tSuspect, inc, name, from))
	p.later(p.cfg.SuspectFor, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.members[name] == m && m.state == Suspect {
			p.dead(name, m.inc, p.cfg.Name)
		}
	})
}

// dead takes the news that a member is dead, or has left. The caller holds the lock.
func (p *Peer) dead(name string, inc int, from string) {
	m := p.members[name]
	if m == nil || m.state >= Dead || inc < m.inc {
		return
	}
	if name == p.cfg.Name {
		if !p.leaving {
			p.refute(inc)
		}
		return
	}
	m.inc, m.state = inc, Dead
	if from == name {
		m.state = Left
	}
	p.broadcast(name, p.deadMessage(tDead, inc, name, from))
	p.expireServer(name)
}
