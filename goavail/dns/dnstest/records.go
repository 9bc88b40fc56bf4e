package dnstest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// Addresses of RFC 5737 and RFC 3849.
const (
	ip1 = "192.0.2.1"
	ip2 = "192.0.2.2"
	ip3 = "192.0.2.3"
	ip4 = "192.0.2.4"
)

func testCreate(f *fixture) {
	key := f.key("www", dns.A)
	if set := f.read(key); len(set.Members) != 0 {
		f.t.Fatalf("the zone is not empty: %+v", set)
	}
	f.unchanged(func() { f.put(key, ip1, ip2) }, key)
	f.expect(key, ip1, ip2)
	if ttl := f.find(key, ip1).TTL; ttl != 300 {
		f.t.Errorf("the TTL is %d", ttl)
	}
	writes := f.Writes(f.t)
	set := f.read(key)
	if err := f.try(dns.Change{Before: set, After: set}); err != nil {
		f.t.Errorf("a change of nothing: %v", err)
	}
	if n := f.Writes(f.t) - writes; n != 0 {
		f.t.Errorf("a change of nothing made %d writes", n)
	}
}

func testReplace(f *fixture) {
	key := f.key("www", dns.A)
	f.put(key, ip1, ip2)
	f.put(key, ip1, ip3)
	f.expect(key, ip1, ip3)
	f.put(key, ip2, ip4) // both
	f.expect(key, ip2, ip4)
}

func testRemove(f *fixture) {
	key := f.key("www", dns.A)
	f.put(key, ip1, ip2, ip3)
	f.put(key, ip1, ip3)
	f.expect(key, ip1, ip3)
	f.put(key, ip1, ip2, ip3) // and back
	f.expect(key, ip1, ip2, ip3)
}

// What is left in a set has its TTL, flags, comment and tags after others came and went.
func testKeeps(f *fixture) {
	key := f.key("www", dns.A)
	caps := f.Provider.Capabilities()
	r := Record{Name: key.Name, Type: dns.A, Value: ip1, TTL: 120}
	if caps.PerValue {
		r.Comment, r.Tags = "do not touch, says Ann", []string{"team:edge"}
	}
	f.Add(f.t, r)
	f.adopt(key)
	kept := f.find(key, ip1)
	if kept.TTL != 120 || !slices.Equal(kept.Tags, r.Tags) || !strings.HasPrefix(kept.Comment, r.Comment) {
		f.t.Errorf("adopting changed the record: %+v", kept)
	}
	before := f.read(key)
	after := with(before, ip1, ip2)
	after.TTL = 3600 // is for what is created
	if err := f.try(dns.Change{Before: before, After: after}); err != nil {
		f.t.Fatal(err)
	}
	f.expect(key, ip1, ip2)
	f.put(key, ip1, ip3)
	f.put(key, ip1)
	f.expect(key, ip1)
	if now := f.find(key, ip1); fmt.Sprint(now) != fmt.Sprint(kept) {
		f.t.Errorf("was %+v\nis  %+v", kept, now)
	}
	if caps.PerValue {
		proxied := dns.Key{Name: f.name("proxied"), Type: dns.A}
		f.Add(f.t, Record{Name: proxied.Name, Type: dns.A, Value: ip1, TTL: 1, Proxied: true, Comment: dns.Mark(Owner), Tags: []string{"a:b"}})
		before := f.read(proxied)
		after := before.Clone()
		after.Members = []dns.Member{{Value: ip2, On: true, Owner: Owner, Proxied: true}}
		if err := f.try(dns.Change{Before: before, After: after}); err != nil {
			f.t.Fatal(err)
		}
		if now := f.find(proxied, ip2); !now.Proxied || now.TTL != 1 || !slices.Equal(now.Tags, []string{"a:b"}) {
			f.t.Errorf("the new record is not like the old one: %+v", now)
		}
	}
}

// Foreign records are not touched, whatever the change says.
func testForeign(f *fixture) {
	key := f.key("www", dns.A)
	f.seed(key, ip1, ip2)
	set := f.read(key)
	for _, m := range set.Members {
		if m.Owner != "" {
			f.t.Fatalf("%s belongs to %q", m.Value, m.Owner)
		}
	}
	all := func(Record) bool { return true }
	before := f.sorted(all)
	// Without a foreign member, it stays all the same.
	gone := set.Clone()
	gone.Members = gone.Members[:1]
	if err := f.try(dns.Change{Before: set, After: gone}); err != nil {
		f.reason("leave a foreign member out", err, dns.Refused)
	}
	if now := f.sorted(all); !slices.Equal(now, before) {
		f.t.Fatalf("foreign records changed:\n%s\n%s", before, now)
	}
	err := f.try(dns.Change{Before: set, After: with(set, ip3)})
	if !f.Provider.Capabilities().PerValue {
		f.reason("add to a foreign set", err, dns.Refused)
		if now := f.sorted(all); !slices.Equal(now, before) {
			f.t.Errorf("a foreign set changed:\n%s\n%s", before, now)
		}
		return
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.put(key) // ours goes again
	if now := f.sorted(all); !slices.Equal(now, before) {
		f.t.Errorf("foreign records changed:\n%s\n%s", before, now)
	}
}

func testAdopt(f *fixture) {
	key := f.key("www", dns.A)
	f.seed(key, ip1, ip2)
	f.unchanged(func() { f.adopt(key) }, key)
	f.expect(key, ip1, ip2)
	if ttl := f.find(key, ip2).TTL; ttl != 120 {
		f.t.Errorf("adopting changed the TTL to %d", ttl)
	}
	f.put(key, ip1)
	f.expect(key, ip1)

	// Adopting from another owner, and changing at once.
	set := f.read(key)
	after := set.Clone()
	after.Members[0].Owner = "another"
	after.Members = append(after.Members, dns.Member{Value: ip4, On: true, Owner: "another"})
	if err := f.try(dns.Change{Before: set, After: after}); err != nil {
		f.t.Fatal(err)
	}
	set = f.read(key)
	if got := set.Values(); !slices.Equal(got, []string{ip1, ip4}) {
		f.t.Errorf("values %v", got)
	}
	for _, m := range set.Members {
		if m.Owner != "another" {
			f.t.Errorf("%s belongs to %q", m.Value, m.Owner)
		}
	}
}

// Records of other types at the same name, and sets around it, stay.
func testNeighbours(f *fixture) {
	key := f.key("www", dns.A)
	f.Add(f.t,
		Record{Name: key.Name, Type: "MX", Value: "10 mail.example.net.", TTL: 600},
		Record{Name: key.Name, Type: "TXT", Value: `"v=spf1 -all"`, TTL: 600},
		Record{Name: key.Name, Type: dns.AAAA, Value: "2001:db8::1", TTL: 600},
		Record{Name: "_http._tcp." + key.Name, Type: "SRV", Value: "1 2 80 www.example.net.", TTL: 600},
		Record{Name: "ww." + f.Zone, Type: dns.A, Value: ip1, TTL: 600},
		Record{Name: "www2." + f.Zone, Type: dns.A, Value: ip1, TTL: 600},
		Record{Name: "a." + key.Name, Type: dns.A, Value: ip1, TTL: 600},
	)
	f.unchanged(func() {
		f.put(key, ip1, ip2)
		f.put(key, ip2, ip3)
		f.put(key, ip3)
		f.expect(key, ip3)
	}, key)
}

// A listing that starts at a name which has no set goes on with the next one: that is not ours.
func testNextName(f *fixture) {
	next := f.key("b", dns.A)
	f.seed(next, ip1, ip2)
	f.seed(f.key("a", dns.AAAA), "2001:db8::1")
	for _, key := range []dns.Key{f.key("a", dns.A), f.key("0", dns.A), f.key("b", dns.AAAA), f.key("z", dns.A)} {
		if set := f.read(key); len(set.Members) != 0 {
			f.t.Errorf("%s has %v", key, set.Members)
		}
	}
	key := f.key("a", dns.A)
	f.unchanged(func() { f.put(key, ip3) }, key)
	f.expect(key, ip3)
}

func testSubZone(f *fixture) {
	deep := dns.Key{Name: "x.y." + f.Zone, Type: dns.A}
	sub := dns.Key{Name: "www." + f.SubZone, Type: dns.A}
	apex := dns.Key{Name: f.SubZone, Type: dns.A}
	for _, key := range []dns.Key{deep, sub, apex} {
		f.put(key, ip1)
		f.expect(key, ip1)
	}
	// Several zones in one call, in the order of the keys.
	keys := []dns.Key{sub, deep, apex, f.key("none", dns.A)}
	sets, err := f.tryRead(keys...)
	if err != nil {
		f.t.Fatal(err)
	}
	var changes []dns.Change
	for i, set := range sets {
		if set.Key != keys[i] {
			f.t.Errorf("set %d is %s", i, set.Key)
		}
		changes = append(changes, dns.Change{Before: set, After: with(set, ip2)})
	}
	if err := f.try(changes...); err != nil {
		f.t.Fatal(err)
	}
	for _, key := range keys {
		f.expect(key, ip2)
	}
}

func testAAAA(f *fixture) {
	key := f.key("www", dns.AAAA)
	f.Add(f.t, Record{Name: key.Name, Type: dns.AAAA, Value: "2001:0DB8:0:0::1", TTL: 120})
	if got := f.read(key); len(got.Members) != 1 || got.Members[0].Value != "2001:db8::1" {
		f.t.Fatalf("read %+v", got.Members)
	}
	f.adopt(key)
	f.put(key, "2001:db8::1", "2001:db8::2")
	f.expect(key, "2001:db8::1", "2001:db8::2")
	f.put(key, "2001:db8::2")
	f.expect(key, "2001:db8::2")
}

// The one member of a CNAME is replaced in place: there is never none.
func testCNAME(f *fixture) {
	key := f.key("app", dns.CNAME)
	f.put(key, "one.example.net")
	f.expect(key, "one.example.net")
	f.put(key, "two.example.net")
	f.expect(key, "two.example.net")
	if ttl := f.find(key, "two.example.net").TTL; ttl != 300 {
		f.t.Errorf("the TTL is %d", ttl)
	}
	// Addresses cannot be beside it, nor it beside addresses: nothing is changed, and somebody hears of it.
	f.unchanged(func() {
		set := f.read(f.key("app", dns.A))
		f.reason("A beside CNAME", f.try(dns.Change{Before: set, After: with(set, ip1)}), dns.Refused, dns.Conflict)
	})
	f.put(f.key("www", dns.A), ip1)
	f.unchanged(func() {
		set := f.read(f.key("www", dns.CNAME))
		f.reason("CNAME beside A", f.try(dns.Change{Before: set, After: with(set, "one.example.net")}), dns.Refused, dns.Conflict)
	})
}

func testWildcard(f *fixture) {
	key := f.key("*", dns.A)
	f.put(key, ip1, ip2)
	f.put(key, ip2)
	set := f.read(key)
	if got := set.Values(); !slices.Equal(got, []string{ip2}) || set.Owner() != Owner {
		f.t.Errorf("read %+v", set)
	}
	if other := f.read(f.key("anything", dns.A)); len(other.Members) != 0 {
		f.t.Errorf("the wildcard is taken for a set of another name: %+v", other)
	}
	// Nor is a wildcard's TXT record taken for the mark of a set.
	f.Add(f.t, Record{Name: key.Name, Type: "TXT", Value: `"v=spf1 -all"`, TTL: 600})
	f.unchanged(func() {
		f.put(f.key("fresh", dns.A), ip1)
		f.put(f.key("fresh", dns.A), ip1, ip3)
		f.expect(f.key("fresh", dns.A), ip1, ip3)
	}, f.key("fresh", dns.A))
}
