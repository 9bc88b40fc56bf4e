package nameserver

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

const (
	// maxUDP is the most that is sent in one UDP packet, in bytes, whatever the
	// client takes: it fits all networks (DNS flag day 2020).
	maxUDP = 1232
	// minUDP is what every client takes.
	minUDP = 512
)

// zone answers the questions about one domain.
type zone struct {
	domain string // with a dot at its end, in lower case
	ttl    uint32
	addrs  []netip.Addr // of the name server itself
}

// answer makes the reply to a request. shuffle decides the order of what is
// equal; udp bounds the reply to a packet.
func (z *zone) answer(x *index, req *dns.Msg, shuffle func(n int, swap func(i, j int)), udp bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(req)
	m.Compress = true
	z.fill(m, x, req, shuffle)
	size := dns.MaxMsgSize
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDP, false)
		if opt.Version() != 0 {
			m.Answer, m.Ns, m.Extra = nil, nil, m.Extra[len(m.Extra)-1:]
			m.Rcode = dns.RcodeBadVers
		}
		if udp {
			size = int(min(max(opt.UDPSize(), minUDP), maxUDP))
		}
	} else if udp {
		size = minUDP
	}
	m.Truncate(size)
	return m
}

func (z *zone) fill(m *dns.Msg, x *index, req *dns.Msg, shuffle func(int, func(i, j int))) {
	switch {
	case req.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
		return
	case len(req.Question) != 1:
		m.Rcode = dns.RcodeFormatError
		return
	}
	q := req.Question[0]
	name := strings.ToLower(q.Name)
	labels, ok := z.labels(name)
	if !ok || q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		m.Rcode = dns.RcodeRefused
		return
	}
	m.Authoritative = true
	found, exists := z.lookup(x, labels)
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if exists && q.Qtype == dns.TypeANY {
		// RFC 8482: an answer that is no use to those who make others be flooded.
		m.Answer = []dns.RR{&dns.HINFO{Hdr: z.header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}
		return
	}
	found.order(shuffle)
	z.records(m, q, found)
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, z.soa())
	}
}

// labels are those of a name in front of the domain. It returns false for a name
// of another domain.
func (z *zone) labels(name string) ([]string, bool) {
	if !dns.IsSubDomain(z.domain, name) {
		return nil, false
	}
	labels := dns.SplitDomainName(name)
	return labels[:len(labels)-dns.CountLabel(z.domain)], true
}

// found is what a name stands for.
type found struct {
	ports []port       // of a service
	addrs []netip.Addr // of a host
	apex  bool         // it is the domain itself
}

// order puts what is in this host's zone first, and the rest in any order.
func (f *found) order(shuffle func(int, func(i, j int))) {
	shuffle(len(f.ports), func(i, j int) { f.ports[i], f.ports[j] = f.ports[j], f.ports[i] })
	slices.SortStableFunc(f.ports, func(a, b port) int {
		switch {
		case a.near == b.near:
			return 0
		case a.near:
			return -1
		}
		return 1
	})
}

// lookup finds what the labels in front of the domain stand for. A name exists if
// there is a service of it, healthy or not, or a name below it.
func (z *zone) lookup(x *index, labels []string) (found, bool) {
	if len(labels) == 0 {
		return found{apex: true}, true
	}
	rest := labels[:len(labels)-1]
	switch last := labels[len(labels)-1]; {
	case last == "ns" && len(rest) == 0:
		return found{addrs: z.addrs}, true
	case last == "addr" && len(rest) == 1:
		a, ok := x.addrs[rest[0]]
		return found{addrs: []netip.Addr{a}[:btoi(ok)]}, ok
	case (last == "addr" || last == "service") && len(rest) == 0:
		return found{}, true
	case last == "service":
		return x.lookup(rest)
	}
	return found{}, false
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// lookup finds what the labels in front of "service" stand for: <service>,
// <port>.<service>, _<service>._<proto>, or _<port>._<proto>.<service>.
func (x *index) lookup(labels []string) (found, bool) {
	var sel selection
	name := labels[len(labels)-1]
	front := labels[:len(labels)-1]
	if proto, ok := strings.CutPrefix(name, "_"); ok && (proto == "tcp" || proto == "udp") && len(front) <= 1 {
		if len(front) == 0 {
			return found{}, true // there are names below it
		}
		under, ok := strings.CutPrefix(front[0], "_")
		if !ok {
			return found{}, false
		}
		name, sel.proto, front = under, proto, nil
	}
	s := x.services[Normalise(name)]
	if s == nil || len(front) > 2 {
		return found{}, false
	}
	if len(front) > 0 && strings.HasPrefix(front[len(front)-1], "_") {
		sel.proto = front[len(front)-1][1:]
		if sel.proto != "tcp" && sel.proto != "udp" {
			return found{}, false
		}
		if front = front[:len(front)-1]; len(front) == 0 {
			_, ok := s.choose(sel)
			return found{}, ok // there are names below it
		}
		var ok bool
		if front[0], ok = strings.CutPrefix(front[0], "_"); !ok {
			return found{}, false
		}
	}
	if len(front) > 1 {
		return found{}, false
	}
	if len(front) == 1 {
		number, err := strconv.ParseUint(front[0], 10, 16)
		if err != nil || number == 0 {
			return found{}, false
		}
		sel.number = int64(number)
	}
	ports, ok := s.choose(sel)
	return found{ports: ports}, ok
}

// records puts those of the type that is asked for into the answer.
func (z *zone) records(m *dns.Msg, q dns.Question, f found) {
	if f.apex {
		switch q.Qtype {
		case dns.TypeSOA:
			m.Answer = append(m.Answer, z.soa())
		case dns.TypeNS:
			m.Answer = append(m.Answer, &dns.NS{Hdr: z.header(z.domain, dns.TypeNS), Ns: "ns." + z.domain})
			for _, a := range z.addrs {
				m.Extra = append(m.Extra, z.address("ns."+z.domain, a))
			}
		}
	}
	told := map[netip.Addr]bool{}
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		addrs := slices.Clone(f.addrs)
		for _, p := range f.ports {
			if !told[p.addr] {
				told[p.addr] = true
				addrs = append(addrs, p.addr)
			}
		}
		for _, a := range addrs {
			if a.Is4() == (q.Qtype == dns.TypeA) {
				m.Answer = append(m.Answer, z.address(q.Name, a))
			}
		}
	case dns.TypeSRV:
		for _, p := range f.ports {
			target := addrLabel(p.addr) + ".addr." + z.domain
			priority := uint16(1)
			if !p.near {
				priority = 2
			}
			m.Answer = append(m.Answer, &dns.SRV{Hdr: z.header(q.Name, dns.TypeSRV), Priority: priority, Weight: 1, Port: p.number, Target: target})
			if !told[p.addr] {
				told[p.addr] = true
				m.Extra = append(m.Extra, z.address(target, p.addr))
			}
		}
	}
}

func (z *zone) header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: z.ttl}
}

func (z *zone) address(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: z.header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: z.header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}

// soa says, where there is no answer, for how long there is none. Nobody
// transfers the zone, so the other numbers mean nothing.
func (z *zone) soa() dns.RR {
	return &dns.SOA{
		Hdr: z.header(z.domain, dns.TypeSOA), Ns: "ns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: z.ttl,
	}
}

// byChance is the shuffle of a server.
func byChance(n int, swap func(i, j int)) { rand.Shuffle(n, swap) }
