package cloud

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Answer finds the records for a question. It returns false for a name that does not
// exist, and no zone for names that the server has no authority for.
type Answer func(name string, qtype uint16) (zone string, rrs []dns.RR, exists bool)

// ListenDNS opens one port for UDP and TCP. A port 0 picks a free one.
func ListenDNS(addr string) (net.PacketConn, net.Listener, error) {
	for try := 0; ; try++ {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("listen for DNS: %w", err)
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return pc, ln, nil
		}
		ln.Close()
		if try == 9 { // somebody else has the UDP port of each that was free for TCP
			return nil, nil, fmt.Errorf("listen for DNS: %w", err)
		}
	}
}

// ServeDNS answers questions until ctx ends.
func ServeDNS(ctx context.Context, pc net.PacketConn, ln net.Listener, answer Answer) error {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(reply(q, answer)) })
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: ln, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		g.Go(s.ActivateAndServe)
		g.Go(func() error {
			<-ctx.Done()
			select {
			case <-started:
				quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				_ = s.ShutdownContext(quick)
			case <-time.After(time.Second):
			}
			return nil
		})
	}
	return g.Wait()
}

func reply(q *dns.Msg, answer Answer) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	name := strings.ToLower(q.Question[0].Name)
	zone, rrs, exists := answer(name, q.Question[0].Qtype)
	switch {
	case zone == "":
		m.Rcode = dns.RcodeRefused
		return m
	case !exists:
		m.Rcode = dns.RcodeNameError
	}
	m.Authoritative, m.Answer = true, rrs
	if len(rrs) == 0 {
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
			Ns:  "ns." + zone, Mbox: "hostmaster." + zone, Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60,
		}}
	}
	return m
}

// RR makes a record out of its parts, and nil out of nonsense.
func RR(name, typ, value string, ttl int) dns.RR {
	switch typ {
	case "CNAME", "NS":
		value = dns.Fqdn(value)
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", dns.Fqdn(name), ttl, typ, value))
	if err != nil {
		return nil
	}
	return rr
}
