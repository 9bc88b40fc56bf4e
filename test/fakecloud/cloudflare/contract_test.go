package cloudflare_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail/dns"
	provider "github.com/pancake-stack/pancake/goavail/dns/cloudflare"
	"github.com/pancake-stack/pancake/goavail/dns/dnstest"
	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
	"github.com/pancake-stack/pancake/test/fakecloud/cloudflare"
	"github.com/pancake-stack/pancake/test/fakecloud/contract"
)

// The test binary is also the fake, in a process of its own.
func TestMain(m *testing.M) {
	f := cloudflare.New()
	os.Exit(contract.Main(m, f, f.Answer))
}

const (
	zone  = "example.test"
	token = "secret-token-of-the-contract"
)

func start(t *testing.T) (cloud.Client, cloud.Ready) {
	return contract.Start(t, cloudflare.State{
		Zones: []cloudflare.Zone{{Name: zone}, {Name: "sub." + zone}, {Name: "other.test"}},
		Tokens: []cloudflare.Token{
			{Token: token, Zones: []string{zone, "sub." + zone}},
			{Token: "read-only", Read: true},
			{Token: "elsewhere", Zones: []string{"other.test"}},
			{Token: "global-key", Email: "ann@example.test"},
		},
		Pools: []cloudflare.Object{pool("edge", "192.0.2.10", "192.0.2.11"), pool("backup", "192.0.2.20")},
	})
}

func pool(name string, addresses ...string) cloudflare.Object {
	var origins []any
	for _, a := range addresses {
		origins = append(origins, map[string]any{
			"name": a, "address": a, "enabled": true, "weight": 0.5, "port": 8443, "header": map[string]any{"Host": []string{"x"}},
		})
	}
	return cloudflare.Object{"name": name, "description": "made by hand", "minimum_origins": 1, "origins": origins}
}

func newProvider(t *testing.T, ready cloud.Ready, cfg provider.Config) *provider.Provider {
	t.Helper()
	cfg.URL, cfg.Timeout = ready.HTTP+"/client/v4", 2*time.Second
	cfg.Requests = 30_000 // tests of the pace have their own
	p, err := provider.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func fixture(t *testing.T) *dnstest.Fixture {
	client, ready := start(t)
	f := contract.Fixture(client, ready, 502, true)
	f.Provider = newProvider(t, ready, provider.Config{Token: token})
	f.Second = newProvider(t, ready, provider.Config{Key: "global-key", Email: "ann@example.test"})
	f.Zone = zone
	f.SubZone = "sub." + zone
	f.Add = func(t *testing.T, records ...dnstest.Record) {
		var s cloudflare.State
		for _, r := range records {
			s.Records = append(s.Records, record(r))
		}
		contract.Add(t, client, s)
	}
	f.Delete = func(t *testing.T, r dnstest.Record) {
		contract.Add(t, client, cloudflare.State{Removed: []cloudflare.Record{record(r)}})
	}
	f.Records = func(t *testing.T) []dnstest.Record {
		var out []dnstest.Record
		for _, r := range contract.State[cloudflare.State](t, client).Records {
			out = append(out, dnstest.Record{
				Name: r.Name, Type: r.Type, Value: r.Content, TTL: r.TTL, Proxied: r.Proxied, Comment: r.Comment, Tags: r.Tags,
			})
		}
		return out
	}
	f.Denied = map[string]dns.Provider{
		"a wrong token":              newProvider(t, ready, provider.Config{Token: "wrong"}),
		"a wrong key":                newProvider(t, ready, provider.Config{Key: "wrong", Email: "ann@example.test"}),
		"a token for reading":        newProvider(t, ready, provider.Config{Token: "read-only"}),
		"a token for another zone":   newProvider(t, ready, provider.Config{Token: "elsewhere"}),
		"a token and no such zone":   newProvider(t, ready, provider.Config{Token: token, Zones: []string{"nowhere.test"}}),
		"another zone in the config": newProvider(t, ready, provider.Config{Token: token, Zones: []string{"other.test"}}),
	}
	f.Secrets = []string{token, "read-only", "elsewhere", "global-key"}
	f.Switched = []dns.Key{{Name: "edge", Type: dns.Pool}}
	return f
}

// record is a record as the API takes it.
func record(r dnstest.Record) cloudflare.Record {
	out := cloudflare.Record{
		Name: r.Name, Type: r.Type, Content: strings.TrimSuffix(r.Value, "."), TTL: r.TTL, Proxied: r.Proxied, Comment: r.Comment, Tags: r.Tags,
	}
	if priority, rest, ok := strings.Cut(r.Value, " "); ok && r.Type == "MX" {
		out.Content = rest
		p := 0
		fmt.Sscan(priority, &p)
		out.Priority = &p
	}
	return out
}

func TestContract(t *testing.T) { dnstest.Run(t, fixture) }

// What the log of the fake shows: no call but those that are meant, and none that
// deletes before it creates.
func TestCalls(t *testing.T) {
	client, ready := start(t)
	p := newProvider(t, ready, provider.Config{Token: token})
	keys := []dns.Key{{Name: "www." + zone, Type: dns.A}, {Name: "api." + zone, Type: dns.A}}
	for _, values := range [][2][]string{
		{{"192.0.2.1", "192.0.2.2"}, {"192.0.2.1"}},
		{{"192.0.2.1", "192.0.2.3", "192.0.2.4"}, {"192.0.2.1", "192.0.2.2"}},
		{{"192.0.2.4"}, {"192.0.2.1", "192.0.2.2", "192.0.2.3"}}, // one shrinks, one grows
	} {
		sets, err := p.Read(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		var changes []dns.Change
		for i, set := range sets {
			after := dns.Set{Key: keys[i], TTL: 60}
			for _, v := range values[i] {
				after.Members = append(after.Members, dns.Member{Value: v, On: true, Owner: "c"})
			}
			changes = append(changes, dns.Change{Before: set, After: after})
		}
		if err := p.Apply(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	log, err := client.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range log {
		if r.Write() && path.Base(r.Path) != "batch" {
			t.Errorf("%s %s", r.Method, r.Path)
		}
		if strings.Contains(r.Body, `"deletes"`) && (strings.Contains(r.Body, `"posts"`) || strings.Contains(r.Body, `"patches"`)) {
			t.Errorf("one batch creates and deletes, which Cloudflare does the other way round: %s", r.Body)
		}
		if strings.Contains(r.Body, `"tags":null`) || strings.Contains(r.Body, `"ttl":0`) {
			t.Errorf("a patch empties what it should leave: %s", r.Body)
		}
	}
}

// The pool's origins keep the fields that goavail knows nothing of, and the load
// balancer that uses it answers with what is left.
func TestPoolKeepsTheRest(t *testing.T) {
	client, ready := start(t)
	var id any
	for _, p := range contract.State[cloudflare.State](t, client).Pools {
		if p["name"] == "edge" {
			id = p["id"]
		}
	}
	lb := cloudflare.Object{"name": "lb." + zone, "zone": zone, "default_pools": []any{id}, "fallback_pool": "backup"}
	if err := client.Add(t.Context(), cloudflare.State{LoadBalancers: []cloudflare.Object{lb}}); err != nil {
		t.Fatal(err)
	}
	p := newProvider(t, ready, provider.Config{Token: token})
	key := dns.Key{Name: "edge", Type: dns.Pool}
	apply := func(change func(*dns.Set)) {
		t.Helper()
		sets, err := p.Read(t.Context(), []dns.Key{key})
		if err != nil {
			t.Fatal(err)
		}
		after := sets[0].Clone()
		change(&after)
		if err := p.Apply(t.Context(), []dns.Change{{Before: sets[0], After: after}}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...string) {
		t.Helper()
		if got := contract.Resolve(t, ready.DNS, "lb."+zone, "A"); !slices.Equal(got, want) {
			t.Errorf("the load balancer answers %v, want %v", got, want)
		}
	}
	expect("192.0.2.10", "192.0.2.11")
	apply(func(s *dns.Set) { s.Members[0].Owner, s.Members[1].Owner = "c", "c" })
	apply(func(s *dns.Set) { s.Members[0].On = false })
	expect("192.0.2.11")
	apply(func(s *dns.Set) { s.Members[1].On = false })
	expect("192.0.2.20")
	apply(func(s *dns.Set) { s.Members[0].On, s.Members[1].On = true, true })
	expect("192.0.2.10", "192.0.2.11")
	for _, pool := range contract.State[cloudflare.State](t, client).Pools {
		if pool["name"] != "edge" {
			continue
		}
		first := pool["origins"].([]any)[0].(map[string]any)
		if first["port"] != 8443.0 || first["weight"] != 0.5 || first["header"] == nil {
			t.Errorf("the origin lost fields: %v", first)
		}
		if text := pool["description"]; text != "made by hand "+dns.Mark("c") {
			t.Errorf("the description is %q", text)
		}
	}
}

// The limit is kept before Cloudflare says so.
func TestPace(t *testing.T) {
	client, ready := start(t)
	// 1,200 in 5 minutes, scaled down.
	if err := client.Configure(t.Context(), cloud.Config{Requests: 24, Window: 6000}); err != nil {
		t.Fatal(err)
	}
	p, err := provider.New(provider.Config{Token: token, URL: ready.HTTP + "/client/v4", Requests: 600})
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := p.Read(ctx, []dns.Key{{Name: "www." + zone, Type: dns.A}})
		cancel()
		if err != nil && dns.ReasonOf(err) != dns.RateLimited && ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	log, err := client.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range log {
		if r.Status == 429 {
			t.Fatalf("the fake had to refuse a call, after %d", len(log))
		}
	}
}
