// Package rfc2136 holds record sets in a name server that takes dynamic updates
// (RFC 2136), such as BIND, Knot or PowerDNS.
//
// Sets are read by plain queries to the primary server. An update demands that the
// set, and the TXT record beside it that says who owns it, are exactly as they were
// read; otherwise the server refuses all of it.
//
// Nothing is repeated in here: an update whose answer is lost gives dns.Unknown,
// and the caller reads again.
package rfc2136

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// Key signs messages (TSIG, RFC 8945).
type Key struct {
	Name      string
	Algorithm string // hmac-sha224, -sha256, -sha384 or -sha512. Default hmac-sha256
	Secret    string // in base64
}

// Config says how to reach the name server.
type Config struct {
	// Server is the zones' primary, as host or host:port. Default port 53.
	Server string
	// Key of the messages. Without a name they are not signed, and the server goes by addresses.
	Key Key
	// Zones are the names of the zones. Default: the server is asked.
	Zones []string
	// Timeout of one message with its answer, and of a connection. Default 5 s.
	Timeout time.Duration
}

// maxKeyFile bounds the file that LoadKey reads, in bytes.
const maxKeyFile = 64 << 10

var (
	keyClause = regexp.MustCompile(`(?s)key\s+"?([^"\s{]+)"?\s*\{(.*?)\}`)
	algorithm = regexp.MustCompile(`algorithm\s+"?([\w-]+)"?\s*;`)
	secret    = regexp.MustCompile(`secret\s+"?([A-Za-z0-9+/=]+)"?\s*;`)
)

// LoadKey reads the first key of a file as tsig-keygen prints it.
func LoadKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, pancake.Errorf(pancake.Invalid, "read the TSIG key: %w", err)
	}
	defer f.Close()
	text := make([]byte, maxKeyFile)
	n, _ := f.Read(text) // an empty or unreadable file has no key in it
	clause := keyClause.FindSubmatch(text[:n])
	if clause != nil {
		alg, sec := algorithm.FindSubmatch(clause[2]), secret.FindSubmatch(clause[2])
		if alg != nil && sec != nil {
			return Key{Name: string(clause[1]), Algorithm: string(alg[1]), Secret: string(sec[1])}, nil
		}
	}
	return Key{}, pancake.Errorf(pancake.Invalid,
		`%s has no TSIG key: it should look like key "goavail" { algorithm hmac-sha256; secret "…"; };`, path)
}

// Provider is a name server.
type Provider struct {
	server    string
	only      []string // zones, configured
	client    mdns.Client
	key       string // its name, as TSIG has it; "" for none
	algorithm string

	mu    sync.Mutex
	zones map[string]string // by the name of a set
}

// New prepares the client. It does not call the server.
func New(cfg Config) (*Provider, error) {
	if cfg.Server == "" {
		return nil, pancake.Errorf(pancake.Invalid, "no name server is configured for dynamic updates")
	}
	p := &Provider{server: cfg.Server, zones: map[string]string{}}
	if _, _, err := net.SplitHostPort(cfg.Server); err != nil {
		p.server = net.JoinHostPort(strings.Trim(cfg.Server, "[]"), "53")
	}
	p.client = mdns.Client{Net: "tcp", Timeout: cmp.Or(cfg.Timeout, 5*time.Second)}
	for _, zone := range cfg.Zones {
		p.only = append(p.only, dns.Clean(zone))
	}
	if cfg.Key.Name == "" {
		return p, nil
	}
	p.algorithm = mdns.Fqdn(strings.ToLower(cmp.Or(cfg.Key.Algorithm, "hmac-sha256")))
	if !slices.Contains([]string{mdns.HmacSHA224, mdns.HmacSHA256, mdns.HmacSHA384, mdns.HmacSHA512}, p.algorithm) {
		return nil, pancake.Errorf(pancake.Invalid, "the TSIG algorithm %s cannot be used: take hmac-sha256 or hmac-sha512", cfg.Key.Algorithm)
	}
	if raw, err := base64.StdEncoding.DecodeString(cfg.Key.Secret); err != nil || len(raw) == 0 {
		return nil, pancake.Errorf(pancake.Invalid, "the secret of the TSIG key %s is not base64", cfg.Key.Name)
	}
	p.key = mdns.CanonicalName(cfg.Key.Name)
	p.client.TsigSecret = map[string]string{p.key: cfg.Key.Secret}
	return p, nil
}

// Capabilities say what dynamic updates can do.
func (p *Provider) Capabilities() dns.Capabilities {
	return dns.Capabilities{Name: "rfc2136", Types: []string{dns.A, dns.AAAA, dns.CNAME}, Compares: true}
}

// Sets are read over a few connections side by side.
const (
	connections = 8
	perConn     = 8 // fewer sets than that need no further connection
)

// Read returns the sets as they are.
func (p *Provider) Read(ctx context.Context, keys []dns.Key) ([]dns.Set, error) {
	found := make([]version, len(keys))
	zones := make([]string, len(keys))
	n := min(connections, (len(keys)+perConn-1)/perConn)
	g, gctx := errgroup.WithContext(ctx)
	for worker := range n {
		g.Go(func() error {
			return p.with(gctx, func(c *conn) error {
				for i := worker; i < len(keys); i += n {
					var err error
					if found[i], zones[i], err = p.readSet(c, keys[i]); err != nil {
						return fmt.Errorf("read %s: %w", keys[i], err)
					}
				}
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := p.real(ctx, keys, found, zones); err != nil {
		return nil, err
	}
	out := make([]dns.Set, len(keys))
	for i, key := range keys {
		out[i] = found[i].set(key)
	}
	return out, nil
}

// readSet asks for a set and its mark.
func (p *Provider) readSet(c *conn, key dns.Key) (version, string, error) {
	var v version
	if !slices.Contains(p.Capabilities().Types, key.Type) {
		return v, "", refused("a name server has no sets of type %s", key.Type)
	}
	if key.Set != "" {
		return v, "", refused("a name server has no sets with identifiers")
	}
	zone, err := p.zone(c, key.Name)
	if err != nil {
		return v, "", err
	}
	if v.Set, err = c.ask(key.Name, mdns.StringToType[key.Type]); err != nil {
		return v, "", err
	}
	v.Mark, err = c.ask(dns.MarkName(key), mdns.TypeTXT)
	return v, zone, err
}

// part is the records of one name and type that an answer had.
type part struct {
	name, typ string
	records   *[]mdns.RR
}

// real takes out what does not exist: to a question for a name that a wildcard
// covers, a server answers with the wildcard's records as if they were the name's. The
// prerequisites of an update tell them apart.
func (p *Provider) real(ctx context.Context, keys []dns.Key, found []version, zones []string) error {
	byZone := map[string][]part{}
	for i, key := range keys {
		if len(found[i].Set) > 0 {
			byZone[zones[i]] = append(byZone[zones[i]], part{key.Name, key.Type, &found[i].Set})
		}
		if len(found[i].Mark) > 0 {
			byZone[zones[i]] = append(byZone[zones[i]], part{dns.MarkName(key), "TXT", &found[i].Mark})
		}
	}
	if len(byZone) == 0 {
		return nil
	}
	return p.with(ctx, func(c *conn) error {
		for zone, parts := range byZone {
			for some := range slices.Chunk(parts, maxUnits) {
				if err := exist(c, zone, some); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// exist asks whether all of some parts exist, and if not, which of them, by halves.
func exist(c *conn, zone string, some []part) error {
	m := new(mdns.Msg)
	m.SetUpdate(mdns.Fqdn(zone))
	for _, x := range some {
		m.RRsetUsed([]mdns.RR{header(x.name, x.typ)})
	}
	err := c.update(m)
	switch {
	case dns.ReasonOf(err) != dns.Conflict:
		return err
	case len(some) == 1:
		*some[0].records = nil
		return nil
	}
	half := len(some) / 2
	return pace.Join(exist(c, zone, some[:half]), exist(c, zone, some[half:]))
}

// zone finds the zone of a name: among those configured, or by its SOA record.
func (p *Provider) zone(c *conn, name string) (string, error) {
	if len(p.only) > 0 {
		best := ""
		for _, z := range p.only {
			if (name == z || strings.HasSuffix(name, "."+z)) && len(z) > len(best) {
				best = z
			}
		}
		if best == "" {
			return "", refused("no zone for %s: configured are %s", name, strings.Join(p.only, ", "))
		}
		return best, nil
	}
	p.mu.Lock()
	zone := p.zones[name]
	p.mu.Unlock()
	if zone != "" {
		return zone, nil
	}
	// An alias is in the zone of the name above it: it cannot be at the top of a zone.
	at, alias := name, true
	for alias {
		m, err := c.query(at, mdns.TypeSOA)
		if err != nil {
			return "", err
		}
		zone, alias = soa(m, name)
		if _, at, _ = strings.Cut(at, "."); at == "" {
			alias = false
		}
	}
	if zone == "" {
		return "", refused("the name server %s does not say which zone %s is in", p.server, name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zones[name] = zone
	return zone, nil
}

// soa is the zone above a name that an answer tells of, if the question was not for an alias.
func soa(m *mdns.Msg, name string) (zone string, alias bool) {
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		at := dns.Clean(rr.Header().Name)
		switch rr.Header().Rrtype {
		case mdns.TypeCNAME, mdns.TypeDNAME:
			alias = true
		case mdns.TypeSOA:
			if name == at || strings.HasSuffix(name, "."+at) {
				zone = at
			}
		}
	}
	return zone, alias
}

// forgetZones makes the next call ask for them anew.
func (p *Provider) forgetZones() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.zones)
}
