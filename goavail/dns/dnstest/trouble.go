package dnstest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// After a lost answer the caller reads again, and finds what it wanted; one that
// repeats itself blindly does no harm.
func testLostAnswers(f *fixture) {
	for i, kind := range []string{TimeoutAfter, ResetAfter, StatusAfter} {
		if !slices.Contains(f.Faults, kind) {
			continue
		}
		key := f.key("lost"+string(rune('a'+i)), dns.A)
		f.put(key, ip1, ip2)
		before := f.read(key)
		change := dns.Change{Before: before, After: with(before, ip1, ip3)}
		f.Fail(f.t, kind)
		f.reason(kind, f.try(change), dns.Unknown)
		f.expect(key, ip1, ip3)
		if err := f.try(change); err != nil {
			f.reason("repeat after "+kind, err, dns.Conflict)
		}
		f.expect(key, ip1, ip3)
		f.find(key, ip3) // there is one of it
	}
}

func testLostRequests(f *fixture) {
	for i, kind := range []string{TimeoutBefore, ResetBefore} {
		if !slices.Contains(f.Faults, kind) {
			continue
		}
		key := f.key("lost"+string(rune('a'+i)), dns.A)
		f.put(key, ip1, ip2)
		before := f.read(key)
		change := dns.Change{Before: before, After: with(before, ip1, ip3)}
		f.Fail(f.t, kind)
		f.reason(kind, f.try(change), dns.Unknown, dns.Unavailable)
		f.expect(key, ip1, ip2)
		f.put(key, ip1, ip3)
		f.expect(key, ip1, ip3)
	}
}

// A provider that is out of order for a while makes calls fail, no more.
func testBroken(f *fixture) {
	key := f.key("www", dns.A)
	f.put(key, ip1, ip2)
	before := f.read(key)
	f.Break(f.t)
	_, err := f.tryRead(key)
	f.reason("read", err, dns.Unavailable)
	f.reason("apply", f.try(dns.Change{Before: before, After: with(before, ip1)}), dns.Unavailable, dns.Unknown)
	ctx, cancel := f.ctx()
	defer cancel()
	if err := f.Provider.Check(ctx, []dns.Key{key}); err == nil {
		f.t.Error("check found nothing wrong")
	}
	f.Mend(f.t)
	f.expect(key, ip1, ip2)
	f.put(key, ip1)
	f.expect(key, ip1)
}

// Once told that it is too much, the provider is left alone for as long as it wants.
func testTooMany(f *fixture) {
	if f.TooMany == nil {
		return
	}
	key := f.key("www", dns.A)
	f.put(key, ip1, ip2)
	before := f.read(key)
	const pause = 2 * time.Second
	f.TooMany(f.t, pause)
	begin := time.Now()
	err := f.try(dns.Change{Before: before, After: with(before, ip1)})
	f.reason("apply", err, dns.RateLimited)
	wait := dns.RetryAfter(err)
	if wait <= 0 || wait > time.Minute {
		f.t.Fatalf("retry after %s", wait)
	}
	calls := f.Calls(f.t)
	for time.Since(begin) < wait/2 {
		_, err := f.tryRead(key)
		f.reason("read", err, dns.RateLimited)
		time.Sleep(wait / 10)
	}
	if time.Since(begin) < wait { // unless the machine slept
		if n := f.Calls(f.t) - calls; n != 0 {
			f.t.Errorf("%d calls in spite of the limit", n)
		}
	}
	f.eventually("a read", func() bool { _, err := f.tryRead(key); return err == nil })
	if waited := time.Since(begin); waited < wait {
		f.t.Errorf("called again after %s instead of %s", waited, wait)
	}
	f.put(key, ip1)
	f.expect(key, ip1)
}

func testFlood(f *fixture) {
	if f.Flood == nil {
		return
	}
	key := f.key("www", dns.A)
	f.put(key, ip1)
	f.Flood(f.t)
	_, err := f.tryRead(key)
	f.reason("read", err, dns.Unavailable)
	f.expect(key, ip1)
}

// While lists lag behind, a caller that goes by them neither doubles nor loses anything.
func testLag(f *fixture) {
	if f.Lag == nil {
		return
	}
	key := f.key("www", dns.A)
	f.put(key, ip1, ip2)
	f.Lag(f.t, time.Second)
	f.eventually("the list catching up", func() bool { s := f.read(key); return len(s.Members) == 2 })
	want := []string{ip2, ip3}
	// As an agent does: read, compare, write, again and again.
	f.eventually("the set", func() bool {
		set := f.read(key)
		if slices.Equal(set.Values(), want) {
			return true
		}
		if err := f.try(dns.Change{Before: set, After: with(set, want...)}); err != nil {
			f.reason("apply", err, dns.Conflict)
		}
		return false
	})
	f.Lag(f.t, 0)
	f.expect(key, want...)
	f.find(key, ip3)
}

// Of those who go by the same state, the second hears that it is another one now.
func testConcurrent(f *fixture) {
	key := f.key("www", dns.A)
	f.put(key, ip1, ip2)
	stale := f.read(key)
	f.put(key, ip1, ip3)
	all := func(Record) bool { return true }
	records := f.sorted(all)
	f.reason("a stale change", f.try(dns.Change{Before: stale, After: with(stale, ip2, ip4)}), dns.Conflict)
	if now := f.sorted(all); !slices.Equal(now, records) {
		f.t.Errorf("a stale change was made:\n%s\n%s", records, now)
	}
	// Somebody else's tool.
	stale = f.read(key)
	f.Delete(f.t, Record{Name: key.Name, Type: key.Type, Value: ip1, TTL: 300})
	f.reason("a stale change", f.try(dns.Change{Before: stale, After: with(stale, ip1, ip4)}), dns.Conflict)

	// Two at once: whoever wins, the set is what one of them wanted, or the two in turn where the provider cannot compare.
	key = f.key("race", dns.A)
	f.put(key, ip1)
	set := f.read(key)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, p := range []dns.Provider{f.Provider, f.Second} {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(f.t.Context(), limit)
			defer cancel()
			errs[i] = p.Apply(ctx, []dns.Change{{Before: set, After: with(set, ip1, []string{ip2, ip3}[i])}})
		})
	}
	wg.Wait()
	now := f.read(key)
	if f.Provider.Capabilities().Compares {
		if (errs[0] == nil) == (errs[1] == nil) || len(now.Members) != 2 {
			f.t.Errorf("both of two writers: %v, %v; the set is %v", errs[0], errs[1], now.Values())
		}
	}
	if _, there := now.Find(ip1); !there {
		f.t.Errorf("the set has lost %s: %v", ip1, now.Values())
	}
}

// Whoever may not is told so, in words that help, and nothing changes.
func testDenied(f *fixture) {
	key := f.key("www", dns.A)
	f.put(key, ip1)
	set := f.read(key)
	for name, p := range f.Denied {
		ctx, cancel := f.ctx()
		f.unchanged(func() {
			err := p.Check(ctx, []dns.Key{key})
			f.reason("check with "+name, err, dns.Refused)
			f.noSecrets(err)
			err = p.Apply(ctx, []dns.Change{{Before: set, After: with(set, ip2)}})
			f.reason("apply with "+name, err, dns.Refused)
			f.noSecrets(err)
		})
		cancel()
	}
	f.expect(key, ip1)
}

func testCheck(f *fixture) {
	ctx, cancel := f.ctx()
	defer cancel()
	key := f.key("www", dns.A)
	f.unchanged(func() {
		if err := f.Provider.Check(ctx, []dns.Key{key, {Name: "a." + f.SubZone, Type: dns.AAAA}, f.key("c", dns.CNAME)}); err != nil {
			f.t.Errorf("check: %v", err)
		}
	})
	err := f.Provider.Check(ctx, []dns.Key{key, {Name: "www.not-ours.test", Type: dns.A}})
	f.reason("check of a name in no zone", err, dns.Refused)
}
