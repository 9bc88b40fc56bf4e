package route53_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/dnstest"
	provider "github.com/pancake-stack/pancake/goavail/dns/route53"
	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
	"github.com/pancake-stack/pancake/test/fakecloud/contract"
	"github.com/pancake-stack/pancake/test/fakecloud/route53"
)

// The test binary is also the fake, in a process of its own.
func TestMain(m *testing.M) {
	f := route53.New()
	os.Exit(contract.Main(m, f, f.Answer))
}

const (
	zone   = "example.test"
	key    = "AKIAFULL"
	secret = "secret-access-key-of-the-contract"
)

func start(t *testing.T) (cloud.Client, cloud.Ready) {
	check := func(id string) route53.Check {
		return route53.Check{ID: id, Config: route53.CheckConfig{Type: "HTTPS", IPAddress: "192.0.2.1", Port: 443}}
	}
	return contract.Start(t, route53.State{
		Zones: []route53.Zone{{Name: zone}, {Name: "sub." + zone}, {Name: zone, Private: true}, {Name: "other.test"}, {Name: "twice.test"}, {Name: "twice.test"}},
		Keys: []route53.Key{
			{ID: key, Zones: []string{zone, "sub." + zone}},
			{ID: "AKIAREAD", Read: true},
			{ID: "AKIAELSE", Zones: []string{"other.test"}},
		},
		Checks: []route53.Check{check("hc-1"), check("hc-2"), check("hc-3")},
	})
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

func fixture(t *testing.T) *dnstest.Fixture {
	client, ready := start(t)
	f := contract.Fixture(client, ready, 503, false)
	f.Provider = newProvider(t, ready, key, provider.Config{})
	f.Second = newProvider(t, ready, key, provider.Config{})
	f.Zone = zone
	f.SubZone = "sub." + zone
	f.Add = func(t *testing.T, records ...dnstest.Record) { contract.Add(t, client, sets(records)) }
	f.Delete = func(t *testing.T, r dnstest.Record) {
		for _, s := range contract.State[route53.State](t, client).Sets {
			if s.Name != r.Name+"." || s.Type != r.Type {
				continue
			}
			s.Records = slices.DeleteFunc(s.Records, func(v route53.Value) bool { return v.Value == r.Value })
			contract.Add(t, client, route53.State{Sets: []route53.RRSet{s}})
		}
	}
	f.Records = func(t *testing.T) []dnstest.Record {
		var out []dnstest.Record
		for _, s := range contract.State[route53.State](t, client).Sets {
			for _, v := range s.Records {
				out = append(out, dnstest.Record{
					Name: strings.TrimSuffix(s.Name, "."), Type: s.Type, Value: v.Value, TTL: int(*s.TTL), Set: s.SetIdentifier,
				})
			}
		}
		return out
	}
	f.Denied = map[string]dns.Provider{
		"an unknown key":          newProvider(t, ready, "AKIAWRONG", provider.Config{}),
		"a key for reading":       newProvider(t, ready, "AKIAREAD", provider.Config{}),
		"a key for another zone":  newProvider(t, ready, "AKIAELSE", provider.Config{}),
		"another zone configured": newProvider(t, ready, key, provider.Config{Zones: map[string]string{"other.test": "Z1"}}),
		"a zone that is not":      newProvider(t, ready, key, provider.Config{Zones: map[string]string{zone: "Z404"}}),
	}
	f.Secrets = []string{secret}
	f.Switched = []dns.Key{{Name: "edge", Type: dns.Check}}
	return f
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

func TestContract(t *testing.T) { dnstest.Run(t, fixture) }
