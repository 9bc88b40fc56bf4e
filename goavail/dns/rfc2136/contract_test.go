package rfc2136_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/dnstest"
	"github.com/pancake-stack/pancake/goavail/dns/rfc2136"
)

var goavailKey = rfc2136.Key{Name: "goavail", Secret: secret}

func fixture(t *testing.T) *dnstest.Fixture {
	b := startBind(t)
	p := startProxy(t, b.addr)
	key := func(name, algorithm, secret string) dns.Provider {
		return b.provider(t, rfc2136.Config{Key: rfc2136.Key{Name: name, Algorithm: algorithm, Secret: secret}})
	}
	return &dnstest.Fixture{
		Provider: b.provider(t, rfc2136.Config{Server: p.addr, Key: goavailKey}),
		Second:   b.provider(t, rfc2136.Config{Key: goavailKey, Zones: []string{zone, "sub." + zone}}),
		Zone:     zone,
		SubZone:  "sub." + zone,
		Add:      b.add,
		Delete: func(t *testing.T, r dnstest.Record) {
			b.update(t, zone, func(m *mdns.Msg) { m.Remove([]mdns.RR{rr(t, r)}) })
		},
		Records: b.records,
		Resolve: b.resolve,
		Writes:  b.writes,
		Calls:   func(*testing.T) int { p.mu.Lock(); defer p.mu.Unlock(); return p.calls },
		Faults: []string{
			dnstest.TimeoutBefore, dnstest.TimeoutAfter, dnstest.ResetBefore, dnstest.ResetAfter, dnstest.StatusAfter,
		},
		Fail:  func(_ *testing.T, kind string) { p.set(func(p *proxy) { p.fault = kind }) },
		Break: func(*testing.T) { p.set(func(p *proxy) { p.broken = true }) },
		Mend:  func(*testing.T) { p.set(func(p *proxy) { p.broken = false }) },
		Denied: map[string]dns.Provider{
			"a wrong secret":      key("goavail", "", otherSecret),
			"an unknown key":      key("unknown", "", secret),
			"another algorithm":   key("goavail", "hmac-sha512", secret),
			"a key for reading":   key("reader", "", secret),
			"no key":              b.provider(t, rfc2136.Config{}),
			"another zone":        b.provider(t, rfc2136.Config{Key: goavailKey, Zones: []string{"other.test"}}),
			"a zone it knows not": b.provider(t, rfc2136.Config{Key: goavailKey, Zones: []string{"test"}}),
		},
		Secrets: []string{secret, otherSecret},
	}
}

func TestContract(t *testing.T) { dnstest.Run(t, fixture) }

// The zone that a name is in is that of the server, not one that merely looks like it.
func TestNotAuthoritative(t *testing.T) {
	b := startBind(t)
	p := b.provider(t, rfc2136.Config{Key: goavailKey})
	_, err := p.Read(t.Context(), []dns.Key{{Name: "www.example.org", Type: dns.A}})
	if dns.ReasonOf(err) != dns.Refused || !strings.Contains(err.Error(), "example.org") {
		t.Errorf("got %v", err)
	}
}

// A key may be for single names only.
func TestNarrowKey(t *testing.T) {
	b := startBind(t)
	p := b.provider(t, rfc2136.Config{Key: rfc2136.Key{Name: "narrow", Secret: secret}})
	for _, key := range []dns.Key{{Name: "www." + zone, Type: dns.A}, {Name: "www." + zone, Type: dns.AAAA}} {
		if err := p.Check(t.Context(), []dns.Key{key}); err != nil {
			t.Errorf("check %s: %v", key, err)
		}
		sets, err := p.Read(t.Context(), []dns.Key{key})
		if err != nil {
			t.Fatal(err)
		}
		after := sets[0].Clone()
		after.Members = []dns.Member{{Value: map[string]string{dns.A: "192.0.2.1", dns.AAAA: "2001:db8::1"}[key.Type], On: true, Owner: "c"}}
		if err := p.Apply(t.Context(), []dns.Change{{Before: sets[0], After: after}}); err != nil {
			t.Errorf("apply %s: %v", key, err)
		}
		if got := b.resolve(t, key.Name, key.Type); len(got) != 1 {
			t.Errorf("%s resolves to %v", key, got)
		}
	}
	for _, key := range []dns.Key{{Name: "www." + zone, Type: dns.CNAME}, {Name: "other." + zone, Type: dns.A}} {
		if err := p.Check(t.Context(), []dns.Key{key}); dns.ReasonOf(err) != dns.Refused {
			t.Errorf("check %s: %v", key, err)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	p, err := rfc2136.New(rfc2136.Config{Server: "127.31.1.3:1"})
	if err != nil {
		t.Fatal(err)
	}
	key := dns.Key{Name: "www." + zone, Type: dns.A}
	_, err = p.Read(t.Context(), []dns.Key{key})
	if dns.ReasonOf(err) != dns.Unavailable {
		t.Errorf("read: %v", err)
	}
	err = p.Apply(t.Context(), []dns.Change{{Before: dns.Set{Key: key}, After: dns.Set{Key: key}}})
	if dns.ReasonOf(err) != dns.Unavailable {
		t.Errorf("apply: %v", err)
	}
}

func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for text, want := range map[string]rfc2136.Key{
		"key \"goavail\" {\n\talgorithm hmac-sha512;\n\tsecret \"" + secret + "\";\n};\n": {Name: "goavail", Algorithm: "hmac-sha512", Secret: secret},
		"key a.b { secret " + secret + "; algorithm hmac-sha256; };":                      {Name: "a.b", Algorithm: "hmac-sha256", Secret: secret},
		"":                                  {},
		"key x { };":                        {},
		"secret \"" + secret + "\";":        {},
		"key x { algorithm hmac-sha256; };": {},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := rfc2136.LoadKey(path)
		if got != want || (err != nil) != (want == rfc2136.Key{}) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
		if err != nil && (pancake.KindOf(err) != pancake.Invalid || strings.Contains(err.Error(), secret)) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]rfc2136.Config{
		"no server":       {},
		"no secret":       {Server: "ns", Key: rfc2136.Key{Name: "k"}},
		"bad secret":      {Server: "ns", Key: rfc2136.Key{Name: "k", Secret: "not base64!"}},
		"MD5":             {Server: "ns", Key: rfc2136.Key{Name: "k", Secret: secret, Algorithm: "hmac-md5"}},
		"no such one":     {Server: "ns", Key: rfc2136.Key{Name: "k", Secret: secret, Algorithm: "rot13"}},
		"SHA-1, outdated": {Server: "ns", Key: rfc2136.Key{Name: "k", Secret: secret, Algorithm: "hmac-sha1"}},
	} {
		if _, err := rfc2136.New(cfg); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
