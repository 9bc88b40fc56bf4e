package rfc2136

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// Default TTLs, in seconds: short for records, as an answer that is out of date is an
// outage; nobody resolves marks.
const (
	defaultTTL = 60
	markTTL    = 300
)

// maxUnits is how many sets go into one message, which may have 64 KiB.
const maxUnits = 100

// version is what a set was when it was read, with the records that mark it.
type version struct{ Set, Mark []mdns.RR }

// set makes a set out of records.
func (v version) set(key dns.Key) dns.Set {
	out := dns.Set{Key: key, Version: v.encode()}
	owner := v.owner()
	for _, rr := range v.Set {
		out.TTL = int(rr.Header().Ttl)
		out.Members = append(out.Members, dns.Member{Value: value(rr), On: true, Owner: owner})
	}
	slices.SortFunc(out.Members, func(a, b dns.Member) int { return cmp.Compare(a.Value, b.Value) })
	return out
}

func (v version) owner() string {
	for _, rr := range v.Mark {
		if txt, ok := rr.(*mdns.TXT); ok {
			if owner := dns.Owner(strings.Join(txt.Txt, "")); owner != "" {
				return owner
			}
		}
	}
	return ""
}

func (v version) encode() string {
	lines := func(rrs []mdns.RR) []string {
		out := []string{}
		for _, rr := range rrs {
			out = append(out, rr.String())
		}
		slices.Sort(out)
		return out
	}
	text, _ := json.Marshal([][]string{lines(v.Set), lines(v.Mark)}) // strings always encode
	return string(text)
}

func decode(text string) (version, bool) {
	var lines [2][]string
	if json.Unmarshal([]byte(text), &lines) != nil {
		return version{}, false
	}
	var v version
	for i, into := range []*[]mdns.RR{&v.Set, &v.Mark} {
		for _, line := range lines[i] {
			rr, err := mdns.NewRR(line)
			if err != nil || rr == nil {
				return version{}, false
			}
			*into = append(*into, rr)
		}
	}
	return v, true
}

// value is a record's value in the form of dns.Member.
func value(rr mdns.RR) string {
	switch rr := rr.(type) {
	case *mdns.A:
		return rr.A.String()
	case *mdns.AAAA:
		if addr, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
			return addr.String()
		}
	case *mdns.CNAME:
		return dns.Clean(rr.Target)
	}
	return mdns.Field(rr, 1)
}

// header is a record without a value.
func header(name, typ string) mdns.RR {
	return &mdns.ANY{Hdr: mdns.RR_Header{Name: mdns.Fqdn(name), Rrtype: mdns.StringToType[typ], Class: mdns.ClassINET}}
}

// record makes a record out of a member.
func record(key dns.Key, ttl int, text string) (mdns.RR, error) {
	h := header(key.Name, key.Type).Header()
	h.Ttl = uint32(max(ttl, 0))
	addr, err := netip.ParseAddr(text)
	switch {
	case key.Type == dns.A && err == nil && addr.Is4():
		return &mdns.A{Hdr: *h, A: addr.AsSlice()}, nil
	case key.Type == dns.AAAA && err == nil && addr.Is6():
		return &mdns.AAAA{Hdr: *h, AAAA: addr.AsSlice()}, nil
	case key.Type == dns.CNAME && err != nil:
		if _, ok := mdns.IsDomainName(text); ok {
			return &mdns.CNAME{Hdr: *h, Target: mdns.Fqdn(text)}, nil
		}
	}
	return nil, refused("%s: %q is no value for a record of this type", key, text)
}

func markRecord(key dns.Key, owner string) mdns.RR {
	h := header(dns.MarkName(key), "TXT").Header()
	h.Ttl = markTTL
	return &mdns.TXT{Hdr: *h, Txt: []string{dns.Mark(owner)}}
}

// unit is the part of an update that is about one set.
type unit func(*mdns.Msg)

// Apply makes the changes, zone by zone.
func (p *Provider) Apply(ctx context.Context, changes []dns.Change) error {
	byZone := map[string][]unit{}
	var problems []error
	err := p.with(ctx, func(c *conn) error {
		for _, change := range changes {
			zone, err := p.zone(c, change.After.Name)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			u, err := plan(change)
			if err != nil {
				problems = append(problems, err)
			} else if u != nil {
				byZone[zone] = append(byZone[zone], u)
			}
		}
		for _, zone := range slices.Sorted(maps.Keys(byZone)) {
			for some := range slices.Chunk(byZone[zone], maxUnits) {
				problems = append(problems, pace.Isolate(some, func(units []unit) error { return c.send(zone, units) }))
			}
		}
		return nil
	})
	return pace.Join(append(problems, err)...)
}

func (c *conn) send(zone string, units []unit) error {
	m := new(mdns.Msg)
	m.SetUpdate(mdns.Fqdn(zone))
	for _, u := range units {
		u(m)
	}
	return c.update(m)
}

// copies are needed because messages change their records' headers.
func copies(rrs []mdns.RR) []mdns.RR {
	out := make([]mdns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = mdns.Copy(rr)
	}
	return out
}

// demand makes an update fail unless the set and its mark are as they were read.
func demand(m *mdns.Msg, key dns.Key, v version) {
	if len(v.Set) > 0 {
		m.Used(copies(v.Set))
	} else {
		m.RRsetNotUsed([]mdns.RR{header(key.Name, key.Type)})
		// Servers ignore silently what would be beside a CNAME.
		if key.Type == dns.CNAME {
			m.NameNotUsed([]mdns.RR{header(key.Name, key.Type)})
		} else {
			m.RRsetNotUsed([]mdns.RR{header(key.Name, dns.CNAME)})
		}
	}
	if len(v.Mark) > 0 {
		m.Used(copies(v.Mark))
	} else {
		m.RRsetNotUsed([]mdns.RR{header(dns.MarkName(key), "TXT")})
	}
}

// plan finds the update of one change; nil if nothing is to be done.
func plan(c dns.Change) (unit, error) {
	key, edits, result := c.After.Key, c.Edits(), c.Result()
	v, ok := decode(c.Before.Version)
	switch {
	case edits.None():
		return nil, nil
	case !ok:
		return nil, conflict("%s: the set was not read before it is changed", key)
	case len(edits.Create) > 0 && len(c.Before.Members) > 0 && c.Before.Owner() == "" && len(edits.Mark) == 0:
		return nil, refused("%s: the set belongs to nobody that goavail knows; adopt it first", key)
	}
	ttl := cmp.Or(c.After.TTL, defaultTTL)
	if len(v.Set) > 0 {
		ttl = int(v.Set[0].Header().Ttl)
	}
	var add, remove []mdns.RR
	for _, m := range edits.Create {
		rr, err := record(key, ttl, m.Value)
		if err != nil {
			return nil, err
		}
		add = append(add, rr)
	}
	for _, rr := range v.Set {
		if _, stays := result.Find(value(rr)); !stays {
			remove = append(remove, rr)
		}
	}
	oldOwner, owner := v.owner(), result.Owner()
	return func(m *mdns.Msg) {
		demand(m, key, v)
		if key.Type == dns.CNAME { // of which there can be only one
			m.Remove(copies(remove))
			m.Insert(copies(add))
		} else {
			m.Insert(copies(add))
			m.Remove(copies(remove))
		}
		if oldOwner != owner {
			if oldOwner != "" {
				m.Remove(marks(v.Mark))
			}
			if owner != "" {
				m.Insert([]mdns.RR{markRecord(key, owner)})
			}
		}
	}, nil
}

// marks are those of some TXT records that say who owns the set.
func marks(rrs []mdns.RR) []mdns.RR {
	return slices.DeleteFunc(copies(rrs), func(rr mdns.RR) bool { return version{Mark: []mdns.RR{rr}}.owner() == "" })
}

// Check reads the sets, and removes records from them that they do not have: that
// needs the same permissions as a change, and is none.
func (p *Provider) Check(ctx context.Context, keys []dns.Key) error {
	var problems []error
	for _, key := range keys {
		sets, err := p.Read(ctx, []dns.Key{key})
		if err == nil {
			err = p.with(ctx, func(c *conn) error { return c.mayWrite(sets[0]) })
		}
		problems = append(problems, err)
	}
	return pace.Join(problems...)
}

func (c *conn) mayWrite(set dns.Set) error {
	zone, err := c.p.zone(c, set.Name)
	if err != nil {
		return err
	}
	v, _ := decode(set.Version) // we have made it ourselves
	var values []string
	switch set.Type {
	case dns.A:
		values = []string{"0.0.0.0", "255.255.255.255"}
	case dns.AAAA:
		values = []string{"::", "100::"}
	default:
		values = []string{"goavail-check-1.invalid", "goavail-check-2.invalid"}
	}
	absent := values[0]
	if _, there := set.Find(absent); there {
		absent = values[1]
	}
	rr, err := record(set.Key, 0, absent)
	if err != nil {
		return err
	}
	return c.send(zone, []unit{func(m *mdns.Msg) {
		if len(v.Set) > 0 { // so that the record is not there for certain
			m.Used(copies(v.Set))
		} else {
			m.RRsetNotUsed([]mdns.RR{header(set.Name, set.Type)})
		}
		m.Remove([]mdns.RR{rr, markRecord(set.Key, "nobody-by-this-name")})
	}})
}
