package file

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/source"
	"github.com/pancake-stack/pancake/goavail/vote"
	"github.com/pancake-stack/pancake/internal/identity"
)

// Config is the agent's configuration but for the provider, with secrets read. nodes are
// those that the platform knows now, by the name of the target they are for. It fails
// with Invalid.
func (f *File) Config(nodes map[string][]source.Node) (goavail.Config, error) {
	s := f.Settings
	cfg := goavail.Config{
		Cluster: s.Cluster, Owner: s.Owner, Place: s.Place, DataDir: f.DataDir(),
		NoDryRun: s.DryRun != nil && !*s.DryRun, CanaryNeed: s.CanaryNeed, Identity: f.identity(),
		HTTPAddr: s.API.Listen, Token: f.secret("api.token_file", s.API.TokenFile), PlainHTTP: s.API.PlainHTTP, Resolvers: s.Resolvers,
		VoteEvery: time.Duration(s.Timing.VoteEvery), VoteTTL: time.Duration(s.Timing.VoteTTL), ReadEvery: time.Duration(s.Timing.ReadEvery),
		Lease: time.Duration(s.Timing.Lease), RetryMin: time.Duration(s.Timing.RetryMin), RetryMax: time.Duration(s.Timing.RetryMax),
		Rules: s.Safety.rules(),
	}
	for _, p := range s.Places {
		key, _ := base64.StdEncoding.DecodeString(p.Key) // was checked
		place := goavail.Place{Name: p.Name, Region: p.Region, Provider: p.Provider, Address: p.Address}
		if len(key) > 0 {
			place.Key = ed25519.PublicKey(key)
		}
		cfg.Places = append(cfg.Places, place)
	}
	cfg.BindAddr, cfg.BindPort = splitAddress(s.Gossip.Listen)
	cfg.AdvertiseAddr, cfg.AdvertisePort = splitAddress(s.Gossip.Advertise)
	cfg.GossipKeys = f.gossipKeys()
	if s.API.Identity != "" {
		leaf, err := identity.Files{Dir: s.API.Identity}.Load()
		if err == nil {
			cfg.Certificate, err = identity.NewSource(leaf)
		}
		if err != nil {
			f.fail("api.identity", "%w", err)
		}
	}
	cfg.Targets, cfg.Records = f.Watched(nodes)
	for _, t := range s.Canaries {
		cfg.Canaries = append(cfg.Canaries, goavail.Target{Name: t.Name, Check: s.Check.over(t.Check).probe(t.Address)})
	}
	if cfg.Place == "" {
		f.fail("place", "is missing; it is the name of one of the places, and says which of them this agent is: write it here, or give --place")
	} else if len(s.Places) > 0 && !slices.ContainsFunc(s.Places, func(p Place) bool { return p.Name == cfg.Place }) {
		var names []string
		for _, p := range s.Places {
			names = append(names, p.Name)
		}
		f.fail("place", "%q is not among the places; %s", cfg.Place, hint(cfg.Place, names))
	}
	return cfg, f.err()
}

// identity tells the provider apart from others of its kind.
func (f *File) identity() string {
	p := f.Settings.Provider
	zones := slices.Sorted(slices.Values(p.Zones))
	return strings.Join(append([]string{p.URL, p.Server, p.Account, p.Profile}, zones...), " ")
}

// Watched are the targets and the records with the nodes that the platform knows.
func (f *File) Watched(nodes map[string][]source.Node) ([]goavail.Target, []goavail.Record) {
	s := f.Settings
	var targets []goavail.Target
	members := map[string][]goavail.Member{}
	for _, t := range s.Targets {
		check := s.Check.over(t.Check)
		if t.From.IsZero() {
			targets = append(targets, goavail.Target{Name: t.Name, Check: check.probe(t.Address)})
			members[t.Name] = []goavail.Member{{Target: t.Name}}
			continue
		}
		for _, n := range nodes[t.Name] {
			one := check
			one.Port = cmp.Or(check.Port, n.Port)
			name := t.Name + "/" + n.Name
			targets = append(targets, goavail.Target{Name: name, Check: one.probe(n.Address), Drain: n.Drain})
			members[t.Name] = append(members[t.Name], goavail.Member{Target: name})
		}
	}
	address := map[string]string{}
	for _, t := range targets {
		address[t.Name] = t.Check.Address
	}
	var records []goavail.Record
	for _, r := range s.Records {
		records = append(records, f.record(r, members, address))
	}
	return targets, records
}

func (f *File) record(r Record, members map[string][]goavail.Member, address map[string]string) goavail.Record {
	p := r.Policy
	out := goavail.Record{
		Key: r.key(), TTL: int(time.Duration(r.TTL) / time.Second), Proxied: r.Proxied, Serve: r.Serve, MayEmpty: r.MayEmpty,
		MinHealthy: cmp.Or(r.MinHealthy, f.Settings.Safety.MinHealthy),
		Policy: dns.Policy{
			Kind: p.Kind, Weight: int64(p.Weight), Region: p.Region, Failover: p.Failover,
			Continent: p.Continent, Country: p.Country, State: p.State, CheckID: p.CheckID,
		},
	}
	for _, m := range r.Targets {
		if m.Value != "" {
			out.Members = append(out.Members, goavail.Member{Target: m.Target, Value: m.Value})
			continue
		}
		for _, one := range members[m.Target] {
			// Of nodes of both families each goes into the record of its own.
			if strings.Contains(one.Target, "/") && !fits(out.Type, address[one.Target]) {
				continue
			}
			out.Members = append(out.Members, one)
		}
	}
	return out
}

func fits(kind, address string) bool {
	ip, err := netip.ParseAddr(address)
	switch kind {
	case dns.A:
		return err == nil && ip.Is4()
	case dns.AAAA:
		return err == nil && ip.Is6()
	}
	return true
}

func (r Record) key() dns.Key {
	return dns.Key{Name: dns.Clean(r.Name), Type: strings.ToUpper(cmp.Or(r.Type, dns.A)), Set: r.Set}
}

func (s Safety) rules() vote.Rules {
	d := vote.Damping{HalfLife: time.Duration(s.Damping.HalfLife), Suppress: s.Damping.Suppress, Reuse: s.Damping.Reuse}
	if s.Damping.Off {
		d.HalfLife = -1
	}
	return vote.Rules{
		PanicPercent: s.PanicPercent, PanicWindow: time.Duration(s.PanicWindow), ChangesPerHour: s.ChangesPerHour,
		BreakerPercent: s.BreakerPercent, Damping: d,
	}
}

// over is other with what it leaves out from c.
func (c Check) over(other Check) Check {
	return Check{
		Kind: cmp.Or(other.Kind, c.Kind), Port: cmp.Or(other.Port, c.Port), Interval: cmp.Or(other.Interval, c.Interval),
		Timeout: cmp.Or(other.Timeout, c.Timeout), Recheck: cmp.Or(other.Recheck, c.Recheck),
		Fall: cmp.Or(other.Fall, c.Fall), Rise: cmp.Or(other.Rise, c.Rise), Path: cmp.Or(other.Path, c.Path),
		Method: cmp.Or(other.Method, c.Method), Host: cmp.Or(other.Host, c.Host), Status: cmp.Or(other.Status, c.Status),
		Body: cmp.Or(other.Body, c.Body), SNI: cmp.Or(other.SNI, c.SNI), CA: cmp.Or(other.CA, c.CA),
		SkipVerify: cmp.Or(other.SkipVerify, c.SkipVerify), CertValid: cmp.Or(other.CertValid, c.CertValid),
		Follow: cmp.Or(other.Follow, c.Follow), Service: cmp.Or(other.Service, c.Service), TLS: cmp.Or(other.TLS, c.TLS),
		Query: cmp.Or(other.Query, c.Query), Type: cmp.Or(other.Type, c.Type), Answer: cmp.Or(other.Answer, c.Answer),
	}
}

func (c Check) probe(address string) probe.Check {
	yes := func(b *bool) bool { return b != nil && *b }
	return probe.Check{
		Kind: c.Kind, Address: address, Port: c.Port, Interval: time.Duration(c.Interval), Timeout: time.Duration(c.Timeout),
		Recheck: time.Duration(c.Recheck), Fall: c.Fall, Rise: c.Rise, Path: c.Path, Method: c.Method, Host: c.Host,
		Status: c.Status, Body: c.Body, SNI: c.SNI, CA: c.CA, SkipVerify: yes(c.SkipVerify), CertValid: time.Duration(c.CertValid),
		Follow: yes(c.Follow), Service: c.Service, TLS: yes(c.TLS), Query: c.Query, Type: c.Type, Answer: c.Answer,
	}.WithDefaults()
}

func splitAddress(address string) (host string, port int) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0
	}
	port, _ = strconv.Atoi(text) // was checked
	return host, port
}

// gossipKeys reads one key per line, in base64; the first one encrypts.
func (f *File) gossipKeys() [][]byte {
	const path = "gossip.key_file"
	var keys [][]byte
	for line := range strings.Lines(f.secret(path, f.Settings.Gossip.KeyFile)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || !slices.Contains([]int{16, 24, 32}, len(key)) {
			f.fail(path, "a line of %s is not a key of 16, 24 or 32 bytes in base64; make one with \"pancake goavail keygen\"", f.Settings.Gossip.KeyFile)
			return nil
		}
		keys = append(keys, key)
	}
	return keys
}
