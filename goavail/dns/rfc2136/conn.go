package rfc2136

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// fudge is by how much clocks may differ, in seconds (RFC 8945, 10).
const fudge = 300

// conn is one connection, over TCP: what comes is whole, and from whom it was asked.
type conn struct {
	p    *Provider
	ctx  context.Context // of the call that the connection is for
	conn net.Conn
}

// with runs a step with a connection.
func (p *Provider) with(ctx context.Context, step func(*conn) error) error {
	c, err := p.client.DialContext(ctx, p.server)
	if err != nil {
		return &dns.Error{Reason: dns.Unavailable, Err: fmt.Errorf("connect to the name server: %w", err)}
	}
	defer c.Close()
	return step(&conn{p, ctx, c.Conn})
}

func refused(format string, args ...any) error {
	return &dns.Error{Reason: dns.Refused, Err: fmt.Errorf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &dns.Error{Reason: dns.Conflict, Err: fmt.Errorf(format, args...)}
}

// exchange sends a message, signed, and returns its answer, if that is to be trusted. A
// failure has the reason that is given, unless it is certain that it is another one.
func (c *conn) exchange(m *mdns.Msg, reason dns.Reason) (*mdns.Msg, error) {
	if c.p.key != "" {
		m.SetTsig(c.p.key, c.p.algorithm, fudge, time.Now().Unix())
	}
	// Anew for each message: the library would sign the second one together with the first one's signature.
	fresh := &mdns.Conn{Conn: c.conn}
	answer, _, err := c.p.client.ExchangeWithConnContext(c.ctx, m, fresh)
	if answer != nil && answer.Rcode == mdns.RcodeNotAuth {
		c.p.forgetZones()
		return nil, refused("the name server %s does not accept the TSIG key %q%s, or has no such zone: check its name, algorithm and secret, and both clocks",
			c.p.server, strings.TrimSuffix(c.p.key, "."), tsigError(answer))
	}
	if err != nil {
		return nil, &dns.Error{Reason: reason, Err: fmt.Errorf("ask the name server %s: %w", c.p.server, err)}
	}
	if c.p.key != "" && answer.IsTsig() == nil {
		return nil, &dns.Error{Reason: reason, Err: fmt.Errorf("the answer of the name server %s (%s) is not signed",
			c.p.server, mdns.RcodeToString[answer.Rcode])}
	}
	return answer, nil
}

// tsigError is what the server has against a signature, such as BADSIG or BADTIME.
func tsigError(answer *mdns.Msg) string {
	if t := answer.IsTsig(); t != nil && t.Error != 0 {
		return " (" + mdns.RcodeToString[int(t.Error)] + ")"
	}
	return ""
}

// query asks one question. That a name does not exist is an answer as well.
func (c *conn) query(name string, typ uint16) (*mdns.Msg, error) {
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(name), typ)
	m.RecursionDesired = false
	answer, err := c.exchange(m, dns.Unavailable)
	if err != nil {
		return nil, err
	}
	switch rcode := answer.Rcode; {
	case rcode == mdns.RcodeRefused:
		return nil, refused("the name server %s does not answer questions for %s: is it in a zone of it, and may we ask?", c.p.server, name)
	case rcode != mdns.RcodeSuccess && rcode != mdns.RcodeNameError:
		return nil, &dns.Error{Reason: dns.Unavailable, Err: fmt.Errorf("the name server %s answered %s to a question for %s",
			c.p.server, mdns.RcodeToString[rcode], name)}
	case !answer.Authoritative:
		return nil, refused("the name server %s has no authority for %s: configure the primary of its zone", c.p.server, name)
	}
	return answer, nil
}

// ask returns the records of one name and type, and of no other.
func (c *conn) ask(name string, typ uint16) ([]mdns.RR, error) {
	answer, err := c.query(name, typ)
	if err != nil {
		return nil, err
	}
	var out []mdns.RR
	for _, rr := range answer.Answer {
		if h := rr.Header(); dns.Clean(h.Name) == name && h.Rrtype == typ && h.Class == mdns.ClassINET {
			out = append(out, rr)
		}
	}
	return out, nil
}

// update sends an update and says what became of it.
func (c *conn) update(m *mdns.Msg) error {
	reason := dns.Unknown
	if len(m.Ns) == 0 { // only prerequisites: it changes nothing
		reason = dns.Unavailable
	}
	answer, err := c.exchange(m, reason)
	if err != nil {
		return fmt.Errorf("update zone %s: %w", m.Question[0].Name, err)
	}
	what := fmt.Errorf("update zone %s: the name server %s answered %s",
		m.Question[0].Name, c.p.server, mdns.RcodeToString[answer.Rcode])
	switch answer.Rcode {
	case mdns.RcodeSuccess:
		return nil
	case mdns.RcodeNXRrset, mdns.RcodeYXRrset, mdns.RcodeYXDomain, mdns.RcodeNameError:
		return conflict("%w: a set is not as it was read", what)
	case mdns.RcodeNotZone: // the name is in another zone by now
		c.p.forgetZones()
		return refused("%w: the name is not in that zone", what)
	case mdns.RcodeServerFailure:
		return &dns.Error{Reason: reason, Err: what}
	case mdns.RcodeRefused:
		if c.p.key == "" {
			return refused("%w: no TSIG key is configured to sign updates with; see docs/goavail/providers.md", what)
		}
		return refused("%w: allow the key to update the sets and their marks; see docs/goavail/providers.md", what)
	case mdns.RcodeNotImplemented:
		return refused("%w: it takes no dynamic updates; configure the primary of the zone", what)
	}
	return &dns.Error{Reason: dns.Refused, Err: what}
}
