// Package dnstest is the contract of dns.Provider as a test: every provider passes it,
// against a server that is as real as can be had.
package dnstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// Record is one record as the server has it, whoever made it.
type Record struct {
	Name    string // without the last dot
	Type    string
	Value   string // as the server shows it
	TTL     int
	Proxied bool
	Comment string
	Tags    []string
	Set     string // the set's identifier
}

// The kinds of faults that a fixture may be able to inject into writes.
const (
	TimeoutBefore = "timeout_before" // the request is lost
	TimeoutAfter  = "timeout_after"  // it is carried out, and the answer is lost
	ResetBefore   = "reset_before"   // the connection is reset before the request is carried out
	ResetAfter    = "reset_after"    // and after it
	StatusAfter   = "status_after"   // it is carried out, and the answer is an internal error
)

// Fixture is a provider with a server of its own. Its functions fail the test themselves.
type Fixture struct {
	Provider dns.Provider
	Second   dns.Provider // another client of the same server
	Zone     string       // which the provider has
	SubZone  string       // a zone of its own below Zone, which it also has

	// Add and Delete change the records with other means than the provider.
	Add    func(t *testing.T, records ...Record)
	Delete func(t *testing.T, r Record)
	// Records lists all records of both zones but SOA and NS.
	Records func(t *testing.T) []Record
	// Resolve asks the server by DNS: values sorted, nil for none.
	Resolve func(t *testing.T, name, typ string) []string
	// Writes counts the writes that reached the server so far, and Calls all calls.
	Writes, Calls func(t *testing.T) int

	// Faults are the kinds that Fail can inject into the next write.
	Faults []string
	Fail   func(t *testing.T, kind string)
	// Break makes all calls fail with an internal error, until Mend.
	Break func(t *testing.T)
	Mend  func(t *testing.T)
	// TooMany makes the next call fail because of too many, and asks for a pause in
	// whole seconds where the provider can say so; nil if it has no limit.
	TooMany func(t *testing.T, pause time.Duration)
	// Flood makes the next read answer with far too much; nil if it cannot.
	Flood func(t *testing.T)
	// Lag makes lists lag behind writes; nil if they never do.
	Lag func(t *testing.T, lag time.Duration)

	// Denied are providers that must not work, by what is wrong with them.
	Denied map[string]dns.Provider
	// Secrets must be in no error.
	Secrets []string
	// Switched are the keys of sets that exist, with two members that are on, and belong to nobody.
	Switched []dns.Key
}

// Owner is who the tests write as.
const Owner = "contract"

// Run runs the contract. The function makes a new fixture with an empty zone.
func Run(t *testing.T, make func(t *testing.T) *Fixture) {
	tests := []struct {
		name string
		run  func(*fixture)
	}{
		{"create", testCreate},
		{"replace one value", testReplace},
		{"remove one value", testRemove},
		{"what exists keeps all that it has", testKeeps},
		{"foreign records", testForeign},
		{"adopt", testAdopt},
		{"records beside the set", testNeighbours},
		{"the next name is another set", testNextName},
		{"sub-zones", testSubZone},
		{"AAAA", testAAAA},
		{"CNAME", testCNAME},
		{"wildcard", testWildcard},
		{"lost answers", testLostAnswers},
		{"lost requests", testLostRequests},
		{"out of order", testBroken},
		{"too many calls", testTooMany},
		{"answers without end", testFlood},
		{"lists that lag", testLag},
		{"concurrent writers", testConcurrent},
		{"denied", testDenied},
		{"check", testCheck},
		{"long lists", testLongList},
		{"many changes", testMany},
		{"one bad set among good ones", testOneBad},
		{"sets by policy", testPolicies},
		{"switched sets", testSwitched},
		{"sets that it has not", testUnknownSets},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(&fixture{make(t), t}) })
	}
}

// fixture has the steps of the tests.
type fixture struct {
	*Fixture
	t *testing.T
}

// limit of one call, and of all waiting.
const limit = 20 * time.Second

func (f *fixture) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.t.Context(), limit)
}

func (f *fixture) name(label string) string { return label + "." + f.Zone }

func (f *fixture) key(label, typ string) dns.Key { return dns.Key{Name: f.name(label), Type: typ} }

func (f *fixture) tryRead(keys ...dns.Key) ([]dns.Set, error) {
	ctx, cancel := f.ctx()
	defer cancel()
	return f.Provider.Read(ctx, keys)
}

func (f *fixture) read(key dns.Key) dns.Set {
	f.t.Helper()
	sets, err := f.tryRead(key)
	if err != nil {
		f.t.Fatalf("read %s: %v", key, err)
	}
	if len(sets) != 1 || sets[0].Key != key {
		f.t.Fatalf("read %s: got %+v", key, sets)
	}
	return sets[0]
}

func (f *fixture) try(changes ...dns.Change) error {
	ctx, cancel := f.ctx()
	defer cancel()
	err := f.Provider.Apply(ctx, changes)
	f.noSecrets(err)
	return err
}

// put reads a set and gives it these values, all of ours; it keeps foreign ones.
func (f *fixture) put(key dns.Key, values ...string) {
	f.t.Helper()
	before := f.read(key)
	if err := f.try(dns.Change{Before: before, After: with(before, values...)}); err != nil {
		f.t.Fatalf("apply %s: %v", key, err)
	}
}

// with is a set with the foreign members of another, and with these of ours.
func with(set dns.Set, values ...string) dns.Set {
	out := set.Clone()
	if len(set.Members) == 0 {
		out.TTL = 300
	}
	out.Members = slices.DeleteFunc(out.Members, func(m dns.Member) bool {
		return m.Owner != "" && !slices.Contains(values, m.Value)
	})
	for _, v := range values {
		if _, there := out.Find(v); !there {
			out.Members = append(out.Members, dns.Member{Value: v, On: true, Owner: Owner})
		}
	}
	return out
}

// expect checks the values of a set, who owns them, and what the world sees.
func (f *fixture) expect(key dns.Key, values ...string) {
	f.t.Helper()
	slices.Sort(values)
	set := f.read(key)
	if got := set.Values(); !slices.Equal(got, values) {
		f.t.Errorf("%s has %v, want %v", key, got, values)
	}
	for _, m := range set.Members {
		if m.Owner != Owner {
			f.t.Errorf("%s: %s belongs to %q", key, m.Value, m.Owner)
		}
	}
	if got := f.Resolve(f.t, key.Name, key.Type); !slices.Equal(got, values) {
		f.t.Errorf("%s resolves to %v, want %v", key, got, values)
	}
}

// sorted are the records that keep accepts.
func (f *fixture) sorted(keep func(Record) bool) []string {
	f.t.Helper()
	var out []string
	for _, r := range f.Records(f.t) {
		if keep(r) {
			out = append(out, fmt.Sprintf("%+v", r))
		}
	}
	slices.Sort(out)
	return out
}

// others are all records that are neither of the keys' sets nor their marks.
func (f *fixture) others(keys ...dns.Key) []string {
	f.t.Helper()
	return f.sorted(func(r Record) bool {
		return !slices.ContainsFunc(keys, func(k dns.Key) bool {
			return r.Name == k.Name && r.Type == k.Type || r.Name == dns.MarkName(k) && r.Type == "TXT"
		})
	})
}

// unchanged runs a step and checks that no record but those of the keys is other than before.
func (f *fixture) unchanged(step func(), keys ...dns.Key) {
	f.t.Helper()
	before := f.others(keys...)
	step()
	if after := f.others(keys...); !slices.Equal(before, after) {
		f.t.Errorf("other records changed:\nbefore %s\nafter  %s", strings.Join(before, "\n       "), strings.Join(after, "\n       "))
	}
}

// find is the record with a name, type and value.
func (f *fixture) find(key dns.Key, value string) Record {
	f.t.Helper()
	var found []Record
	for _, r := range f.Records(f.t) {
		if r.Name == key.Name && r.Type == key.Type && r.Value == value {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		f.t.Fatalf("%s has %d records with %s", key, len(found), value)
	}
	return found[0]
}

func (f *fixture) reason(what string, err error, want ...dns.Reason) {
	f.t.Helper()
	if got := dns.ReasonOf(err); !slices.Contains(want, got) {
		f.t.Errorf("%s: reason %q (%v), want one of %q", what, got, err, want)
	}
}

func (f *fixture) noSecrets(err error) {
	f.t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		for _, secret := range f.Secrets {
			if strings.Contains(err.Error(), secret) {
				f.t.Errorf("an error shows a secret: %v", err)
			}
		}
	}
}

// eventually waits until a condition holds.
func (f *fixture) eventually(what string, holds func() bool) {
	f.t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s did not happen in %s", what, limit)
		}
	}
}

// seed adds records of A with one TTL, by somebody else.
func (f *fixture) seed(key dns.Key, values ...string) {
	f.t.Helper()
	var records []Record
	for _, v := range values {
		records = append(records, Record{Name: key.Name, Type: key.Type, Value: v, TTL: 120})
	}
	f.Add(f.t, records...)
}

// adopt marks all members of a set as ours.
func (f *fixture) adopt(key dns.Key) {
	f.t.Helper()
	before := f.read(key)
	after := before.Clone()
	for i := range after.Members {
		after.Members[i].Owner = Owner
	}
	if err := f.try(dns.Change{Before: before, After: after}); err != nil {
		f.t.Fatalf("adopt %s: %v", key, err)
	}
}
