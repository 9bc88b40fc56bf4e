package route53_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/dnstest"
	provider "github.com/pancake-stack/pancake/goavail/dns/route53"
	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
	"github.com/pancake-stack/pancake/test/fakecloud/route53"
)

// The test binary is also the fake, in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv(cloud.Env) == "" {
		os.Exit(m.Run())
	}
	f := route53.New()
	if err := cloud.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, f, f.Answer); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	zone   = "example.test"
	key    = "AKIAFULL"
	secret = "secret-access-key-of-the-contract"
)

func start(t *testing.T) (cloud.Client, cloud.Ready) {
	ready := cloud.Start(t, os.Args[0], "-http", "127.31.0.1:0", "-dns", "127.31.0.1:0")
	client := cloud.Client{URL: ready.HTTP}
	check := func(id string) route53.Check {
		return route53.Check{ID: id, Config: route53.CheckConfig{Type: "HTTPS", IPAddress: "192.0.2.1", Port: 443}}
	}
	err := client.Add(t.Context(), route53.State{
		Zones: []route53.Zone{{Name: zone}, {Name: "sub." + zone}, {Name: zone, Private: true}, {Name: "other.test"}, {Name: "twice.test"}, {Name: "twice.test"}},
		Keys: []route53.Key{
			{ID: key, Zones: []string{zone, "sub." + zone}},
			{ID: "AKIAREAD", Read: true},
			{ID: "AKIAELSE", Zones: []string{"other.test"}},
		},
		Checks: []route53.Check{check("hc-1"), check("hc-2"), check("hc-3")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client, ready
}

// newProvider takes its credentials from the environment, as everybody does.
func newProvider(t *testing.T, ready cloud.Ready, id string, cfg provider.Config) *provider.Provider {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	cfg.URL, cfg.Timeout = ready.HTTP, 2*time.Second
	cfg.PerSecond = 1000 // tests of the pace have their own
	cfg.Checks = map[string][]string{"edge": {"hc-1", "hc-2"}}
	p, err := provider.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func state(t *testing.T, c cloud.Client) route53.State {
	t.Helper()
	var s route53.State
	if err := c.State(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func fixture(t *testing.T) *dnstest.Fixture {
	client, ready := start(t)
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	count := func(t *testing.T, counts func(cloud.Request) bool) int {
		log, err := client.Log(t.Context())
		must(t, err)
		return len(slices.DeleteFunc(log, func(r cloud.Request) bool { return !counts(r) }))
	}
	return &dnstest.Fixture{
		Provider: newProvider(t, ready, key, provider.Config{}),
		Second:   newProvider(t, ready, key, provider.Config{}),
		Zone:     zone,
		SubZone:  "sub." + zone,
		Add:      func(t *testing.T, records ...dnstest.Record) { must(t, client.Add(t.Context(), sets(records))) },
		Delete: func(t *testing.T, r dnstest.Record) {
			for _, s := range state(t, client).Sets {
				if s.Name != r.Name+"." || s.Type != r.Type {
					continue
				}
				s.Records = slices.DeleteFunc(s.Records, func(v route53.Value) bool { return v.Value == r.Value })
				must(t, client.Add(t.Context(), route53.State{Sets: []route53.RRSet{s}}))
			}
		},
		Records: func(t *testing.T) []dnstest.Record {
			var out []dnstest.Record
			for _, s := range state(t, client).Sets {
				for _, v := range s.Records {
					out = append(out, dnstest.Record{
						Name: strings.TrimSuffix(s.Name, "."), Type: s.Type, Value: v.Value, TTL: int(*s.TTL), Set: s.SetIdentifier,
					})
				}
			}
			return out
		},
		Resolve: func(t *testing.T, name, typ string) []string { return resolve(t, ready.DNS, name, typ) },
		Writes:  func(t *testing.T) int { return count(t, cloud.Request.Write) },
		Calls:   func(t *testing.T) int { return count(t, func(cloud.Request) bool { return true }) },
		Faults: []string{
			dnstest.TimeoutBefore, dnstest.TimeoutAfter, dnstest.ResetBefore, dnstest.ResetAfter, dnstest.StatusAfter,
		},
		Fail: func(t *testing.T, kind string) {
			must(t, client.Fail(t.Context(), cloud.Fault{Kind: kind, Method: "write", Count: 1, Status: 503}))
		},
		Break: func(t *testing.T) { must(t, client.Fail(t.Context(), cloud.Fault{Kind: cloud.Status, Status: 500})) },
		Mend:  func(t *testing.T) { must(t, client.Mend(t.Context())) },
		TooMany: func(t *testing.T, _ time.Duration) { // Route 53 does not say for how long
			must(t, client.Fail(t.Context(), cloud.Fault{Kind: cloud.Status, Status: 429, Count: 1}))
		},
		Flood: func(t *testing.T) {
			must(t, client.Fail(t.Context(), cloud.Fault{Kind: cloud.Garbage, Millis: 64 << 10, Count: 1}))
		},
		Lag: func(t *testing.T, lag time.Duration) {
			must(t, client.Configure(t.Context(), cloud.Config{ListLag: int(lag.Milliseconds())}))
		},
		Denied: map[string]dns.Provider{
			"an unknown key":          newProvider(t, ready, "AKIAWRONG", provider.Config{}),
			"a key for reading":       newProvider(t, ready, "AKIAREAD", provider.Config{}),
			"a key for another zone":  newProvider(t, ready, "AKIAELSE", provider.Config{}),
			"another zone configured": newProvider(t, ready, key, provider.Config{Zones: map[string]string{"other.test": "Z1"}}),
			"a zone that is not":      newProvider(t, ready, key, provider.Config{Zones: map[string]string{zone: "Z404"}}),
		},
		Secrets:  []string{secret},
		Switched: []dns.Key{{Name: "edge", Type: dns.Check}},
	}
}

// sets groups records into whole record sets.
func sets(records []dnstest.Record) route53.State {
	var out route53.State
	for _, r := range records {
		i := slices.IndexFunc(out.Sets, func(s route53.RRSet) bool { return s.Name == r.Name && s.Type == r.Type })
		if i < 0 {
			out.Sets = append(out.Sets, route53.RRSet{Name: r.Name, Type: r.Type, TTL: aws.Int64(int64(r.TTL))})
			i = len(out.Sets) - 1
		}
		out.Sets[i].Records = append(out.Sets[i].Records, route53.Value{Value: r.Value})
	}
	return out
}

func resolve(t *testing.T, server, name, typ string) []string {
	t.Helper()
	q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.StringToType[typ])
	answer, err := mdns.ExchangeContext(t.Context(), q, server)
	if err != nil {
		t.Fatalf("resolve %s: %v", name, err)
	}
	var out []string
	for _, rr := range answer.Answer {
		if mdns.TypeToString[rr.Header().Rrtype] == typ {
			out = append(out, strings.TrimSuffix(mdns.Field(rr, 1), "."))
		}
	}
	slices.Sort(out)
	return out
}

func TestContract(t *testing.T) { dnstest.Run(t, fixture) }
