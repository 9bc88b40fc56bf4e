package goavail_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/probe"
)

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	zone := newZone(t)
	base := func() goavail.Config {
		return goavail.Config{
			Place: "p0", Provider: zone.of("p0"), DataDir: t.TempDir(),
			Targets: []goavail.Target{{Name: "a", Check: probe.Check{Address: "192.0.2.1", Port: 1}}, {Name: "b", Check: probe.Check{Address: "192.0.2.2", Port: 1}}},
			Records: []goavail.Record{{Key: dns.Key{Name: "WWW.Example.org.", Type: "a"}, Members: []goavail.Member{{Target: "a"}, {Target: "b"}}}},
		}
	}
	if _, err := goavail.New(base()); err != nil {
		t.Fatalf("what makes sense is refused: %v", err)
	}
	plain := base()
	plain.HTTPAddr, plain.Token, plain.PlainHTTP = "192.0.2.1:7950", "secret", true
	if err := plain.Validate(); err != nil {
		t.Errorf("plain HTTP that is allowed is refused: %v", err)
	}
	rec := func(change func(*goavail.Record)) func(*goavail.Config) {
		return func(c *goavail.Config) { change(&c.Records[0]) }
	}
	for says, change := range map[string]func(*goavail.Config){
		"name for this place": func(c *goavail.Config) { c.Place = "" },
		"provider":            func(c *goavail.Config) { c.Provider = nil },
		"data directory":      func(c *goavail.Config) { c.DataDir = "" },
		"owner":               func(c *goavail.Config) { c.Owner = "a,b" },
		"64 bytes":            func(c *goavail.Config) { c.Owner = strings.Repeat("a", 65) },
		"tried again":         func(c *goavail.Config) { c.RetryMin, c.RetryMax = 2*time.Hour, 2*time.Hour },
		"live records":        func(c *goavail.Config) { c.ReadEvery = -time.Second },
		"the rules":           func(c *goavail.Config) { c.Rules.PanicPercent = -1 },
		"votes":               func(c *goavail.Config) { c.VoteTTL = time.Second },
		"lease":               func(c *goavail.Config) { c.Lease = time.Millisecond },
		"can be reached":      func(c *goavail.Config) { c.HTTPAddr, c.PlainHTTP = "0.0.0.0:1", true },
		"over plain HTTP":     func(c *goavail.Config) { c.HTTPAddr, c.Token = "0.0.0.0:1", "secret" },
		"not among":           func(c *goavail.Config) { c.Places = []goavail.Place{{Name: "p1"}} },
		"name of its own":     func(c *goavail.Config) { c.Places = []goavail.Place{{Name: "p0"}, {Name: "p0"}} },
		"they are one place": func(c *goavail.Config) {
			c.Places = []goavail.Place{{Name: "p0", Region: "eu"}, {Name: "p1", Region: "eu"}}
		},
		"gossip key":                          func(c *goavail.Config) { c.Places = []goavail.Place{{Name: "p0"}, {Name: "p1"}} },
		"target \"a\"":                        func(c *goavail.Config) { c.Targets = append(c.Targets, c.Targets[0]) },
		"needs a port":                        func(c *goavail.Config) { c.Targets[0].Check.Port = 0 },
		"listed twice":                        func(c *goavail.Config) { c.Records = append(c.Records, c.Records[0]) },
		"does not have type":                  rec(func(r *goavail.Record) { r.Type = "MX" }),
		"is not listed":                       rec(func(r *goavail.Record) { r.Members[0].Target = "c" }),
		"value of its own":                    rec(func(r *goavail.Record) { r.Members[1].Value = "192.0.2.1" }),
		"not an IPv4":                         rec(func(r *goavail.Record) { r.Members[1].Value = "::1" }),
		"\"::ffff:192.0.2.9\" is not an IPv4": rec(func(r *goavail.Record) { r.Members[1].Value = "::ffff:192.0.2.9" }),
		"shortest form": rec(func(r *goavail.Record) {
			r.Type, r.Members = dns.AAAA, []goavail.Member{{Target: "a", Value: "::0001"}}
		}),
		"holds a name":        rec(func(r *goavail.Record) { r.Type = dns.CNAME }),
		"at most what serves": rec(func(r *goavail.Record) { r.MinHealthy, r.Serve = 2, 1 }),
		"TTL":                 rec(func(r *goavail.Record) { r.TTL = -1 }),
	} {
		cfg := base()
		change(&cfg)
		if _, err := goavail.New(cfg); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
