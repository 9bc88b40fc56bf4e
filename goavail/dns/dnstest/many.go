package dnstest

import (
	"fmt"
	"slices"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// Records are found on every page of a long list, and in every way of asking.
func testLongList(f *fixture) {
	const n = 1250
	var records []Record
	for i := range n {
		records = append(records, Record{Name: f.name(fmt.Sprintf("h%04d", i)), Type: dns.A, Value: ip1, TTL: 120})
	}
	f.Add(f.t, records...)
	var keys []dns.Key
	for i := 0; i < n; i += n / 25 {
		keys = append(keys, f.key(fmt.Sprintf("h%04d", i), dns.A))
	}
	keys = append(keys, f.key(fmt.Sprintf("h%04d", n-1), dns.A), f.key("none", dns.A))
	for _, some := range [][]dns.Key{keys, keys[24:25], keys[:2]} {
		sets, err := f.tryRead(some...)
		if err != nil {
			f.t.Fatal(err)
		}
		for i, set := range sets {
			if want := some[i].Name != f.name("none"); (len(set.Members) == 1) != want || set.Key != some[i] {
				f.t.Errorf("%s: %+v", some[i], set)
			}
		}
	}
}

// Many sets change in a few calls: in an outage each second counts.
func testMany(f *fixture) {
	const n = 240
	var keys []dns.Key
	for i := range n {
		keys = append(keys, f.key(fmt.Sprintf("m%03d", i), dns.A))
	}
	apply := func(values ...string) {
		sets, err := f.tryRead(keys...)
		if err != nil {
			f.t.Fatal(err)
		}
		var changes []dns.Change
		for _, set := range sets {
			changes = append(changes, dns.Change{Before: set, After: with(set, values...)})
		}
		if err := f.try(changes...); err != nil {
			f.t.Fatal(err)
		}
	}
	apply(ip1, ip2)
	writes := f.Writes(f.t)
	apply(ip1)
	if made := f.Writes(f.t) - writes; made > 5 {
		f.t.Errorf("%d writes for %d sets", made, n)
	}
	for _, i := range []int{0, n / 2, n - 1} {
		f.expect(keys[i], ip1)
	}
}

// A set that cannot be changed does not hold up the others.
func testOneBad(f *fixture) {
	f.Add(f.t, Record{Name: f.name("bad"), Type: dns.CNAME, Value: "elsewhere.example.net", TTL: 120})
	var changes []dns.Change
	good := []dns.Key{f.key("good1", dns.A), f.key("good2", dns.A)}
	for _, key := range []dns.Key{good[0], f.key("bad", dns.A), good[1]} {
		set := f.read(key)
		changes = append(changes, dns.Change{Before: set, After: with(set, ip1)})
	}
	stale := f.key("stale", dns.A)
	f.put(stale, ip1)
	set := f.read(stale)
	f.put(stale, ip1, ip2)
	changes = append(changes, dns.Change{Before: set, After: with(set, ip3)})
	f.reason("apply", f.try(changes...), dns.Refused, dns.Conflict)
	for _, key := range good {
		f.expect(key, ip1)
	}
	f.expect(stale, ip1, ip2)
}

func testUnknownSets(f *fixture) {
	caps := f.Provider.Capabilities()
	if _, err := f.tryRead(dns.Key{Name: f.name("www"), Type: "MX"}); err == nil {
		f.t.Error("read MX")
	}
	if !caps.Sets {
		_, err := f.tryRead(dns.Key{Name: f.name("www"), Type: dns.A, Set: "eu"})
		f.reason("read a set with an identifier", err, dns.Refused)
	}
}

// Sets of one name that the provider picks from by policy change one by one.
func testPolicies(f *fixture) {
	if !f.Provider.Capabilities().Sets {
		return
	}
	for _, pair := range [][2]dns.Policy{
		{{Kind: "weighted", Weight: 10}, {Kind: "weighted", Weight: 200}},
		{{Kind: "latency", Region: "eu-west-1"}, {Kind: "latency", Region: "us-east-1"}},
		{{Kind: "failover", Failover: "PRIMARY"}, {Kind: "failover", Failover: "SECONDARY"}},
		{{Kind: "geo", Country: "DE"}, {Kind: "geo", Country: "*"}},
		{{Kind: "geo", Continent: "EU"}, {Kind: "geo", Country: "US", State: "CA"}},
		{{Kind: "multivalue"}, {Kind: "multivalue"}},
	} {
		f.policy(fmt.Sprintf("%s-%s%s", pair[0].Kind, pair[0].Country, pair[0].Continent), pair)
	}
}

func (f *fixture) policy(what string, pair [2]dns.Policy) {
	f.t.Helper()
	keys := make([]dns.Key, 2)
	var changes []dns.Change
	for i, policy := range pair {
		keys[i] = dns.Key{Name: dns.Clean(f.name(what)), Type: dns.A, Set: fmt.Sprintf("set, %d", i)}
		set := f.read(keys[i])
		after := with(set, []string{ip1, ip2}[i])
		after.Policy = policy
		changes = append(changes, dns.Change{Before: set, After: after})
	}
	if err := f.try(changes...); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	second := f.read(keys[1])
	if second.Policy != pair[1] || second.Owner() != Owner || !slices.Equal(second.Values(), []string{ip2}) {
		f.t.Errorf("%s: read %+v", what, second)
	}
	// One changes, and keeps its policy; the other is as it was.
	if pair[0].Kind != "multivalue" { // which has one value
		before := f.read(keys[0])
		after := with(before, ip1, ip3)
		after.Policy = dns.Policy{}
		if err := f.try(dns.Change{Before: before, After: after}); err != nil {
			f.t.Fatalf("%s: %v", what, err)
		}
		now := f.read(keys[0])
		if now.Policy != pair[0] || !slices.Equal(now.Values(), []string{ip1, ip3}) {
			f.t.Errorf("%s: read %+v", what, now)
		}
	}
	// One goes, and the other stands in.
	before := f.read(keys[0])
	after := before.Clone()
	after.Members = nil
	if err := f.try(dns.Change{Before: before, After: after}); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	if got := f.read(keys[0]); len(got.Members) != 0 {
		f.t.Errorf("%s: still there: %+v", what, got)
	}
	if now := f.read(keys[1]); fmt.Sprint(now.Members) != fmt.Sprint(second.Members) || now.Owner() != Owner {
		f.t.Errorf("%s: the other set changed: %+v", what, now)
	}
	if got := f.Resolve(f.t, keys[1].Name, dns.A); !slices.Equal(got, []string{ip2}) {
		f.t.Errorf("%s resolves to %v", what, got)
	}
}

// The members of a switched set go off and on, and nothing else changes.
func testSwitched(f *fixture) {
	for _, key := range f.Switched {
		set := f.read(key)
		if len(set.Members) != 2 || len(set.Values()) != 2 || set.Owner() != "" {
			f.t.Fatalf("%s: %+v", key, set)
		}
		off := set.Clone()
		off.Members[0].On = false
		if err := f.try(dns.Change{Before: set, After: off}); err != nil {
			f.reason("switch a foreign set", err, dns.Refused)
		}
		if now := f.read(key); len(now.Values()) != 2 {
			f.t.Fatalf("%s: a foreign set was switched: %+v", key, now)
		}
		f.unchanged(func() { f.switching(key) })
	}
}

func (f *fixture) switching(key dns.Key) {
	f.t.Helper()
	f.adopt(key)
	before := f.read(key)
	if before.Owner() != Owner {
		f.t.Fatalf("%s: not adopted: %+v", key, before)
	}
	off := before.Clone()
	off.Members[0].On = false
	if err := f.try(dns.Change{Before: before, After: off}); err != nil {
		f.t.Fatal(err)
	}
	now := f.read(key)
	if got := now.Values(); !slices.Equal(got, []string{before.Members[1].Value}) {
		f.t.Errorf("%s: on are %v", key, got)
	}
	// Who goes by what it was, hears so.
	f.reason("a stale switch", f.try(dns.Change{Before: before, After: off}), dns.Conflict, "")
	stale := before.Clone()
	stale.Members[1].On = false
	f.reason("a stale switch", f.try(dns.Change{Before: before, After: stale}), dns.Conflict)
	if err := f.try(dns.Change{Before: now, After: before}); err != nil {
		f.t.Fatal(err)
	}
	if got := f.read(key); len(got.Values()) != 2 {
		f.t.Errorf("%s: not on again: %+v", key, got)
	}
	gone := before.Clone()
	gone.Members = gone.Members[:1]
	f.reason("take a member away", f.try(dns.Change{Before: f.read(key), After: gone}), dns.Refused)
}
