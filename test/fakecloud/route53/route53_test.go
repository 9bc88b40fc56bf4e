package route53_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/pancake-stack/pancake/goavail/dns"
	provider "github.com/pancake-stack/pancake/goavail/dns/route53"
	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
	"github.com/pancake-stack/pancake/test/fakecloud/contract"
	"github.com/pancake-stack/pancake/test/fakecloud/route53"
)

// client is AWS's own, so that the fake is held to what that expects.
func client(ready cloud.Ready) *sdk.Client {
	return sdk.New(sdk.Options{
		BaseEndpoint: &ready.HTTP, Region: "us-east-1", RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, nil
		}),
	})
}

func set(name, typ string, values ...string) types.ResourceRecordSet {
	out := types.ResourceRecordSet{Name: aws.String(name + "." + zone), Type: types.RRType(typ), TTL: aws.Int64(60)}
	for _, v := range values {
		out.ResourceRecords = append(out.ResourceRecords, types.ResourceRecord{Value: aws.String(v)})
	}
	return out
}

func weighted(s types.ResourceRecordSet, id string) types.ResourceRecordSet {
	s.SetIdentifier, s.Weight = &id, aws.Int64(1)
	return s
}

func zoneID(t *testing.T, c *sdk.Client, name string) *string {
	t.Helper()
	out, err := c.ListHostedZonesByName(t.Context(), &sdk.ListHostedZonesByNameInput{DNSName: &name})
	if err != nil || len(out.HostedZones) == 0 || *out.HostedZones[0].Name != name+"." {
		t.Fatalf("zones by name: %v %+v", err, out)
	}
	return out.HostedZones[0].Id
}

// The rules of batches, with Route 53's messages.
func TestBatches(t *testing.T) {
	control, ready := start(t)
	c := client(ready)
	zone := zoneID(t, c, zone)
	do := func(changes ...types.Change) error {
		_, err := c.ChangeResourceRecordSets(t.Context(), &sdk.ChangeResourceRecordSetsInput{HostedZoneId: zone, ChangeBatch: &types.ChangeBatch{Changes: changes}})
		return err
	}
	change := func(action types.ChangeAction, s types.ResourceRecordSet) types.Change {
		return types.Change{Action: action, ResourceRecordSet: &s}
	}
	const create, upsert, remove = types.ChangeActionCreate, types.ChangeActionUpsert, types.ChangeActionDelete
	if err := do(change(create, set("www", "A", "192.0.2.1", "192.0.2.2"))); err != nil {
		t.Fatal(err)
	}
	otherTTL := set("www", "A", "192.0.2.1", "192.0.2.2")
	otherTTL.TTL = aws.Int64(61)
	for _, tt := range []struct {
		want    string
		changes []types.Change
	}{
		{"Tried to create resource record set [name='www.example.test.', type='A'] but it already exists", []types.Change{change(create, set("www", "A", "192.0.2.9"))}},
		{"but it was not found", []types.Change{change(remove, set("none", "A", "192.0.2.1"))}},
		{"but the values provided do not match the current values", []types.Change{change(remove, set("www", "A", "192.0.2.1"))}},
		{"but the values provided do not match the current values", []types.Change{change(remove, otherTTL)}},
		{"conflicts with other records with the same DNS name", []types.Change{change(create, set("www", "CNAME", "a.example.net"))}},
		{"different routing policy", []types.Change{change(create, weighted(set("www", "A", "192.0.2.1"), "one"))}},
		{"is not permitted in zone", []types.Change{{Action: create, ResourceRecordSet: &types.ResourceRecordSet{Name: aws.String("www.example.org"), Type: "A", TTL: aws.Int64(1), ResourceRecords: set("", "A", "192.0.2.1").ResourceRecords}}}},
		{"not a valid IPv4 address", []types.Change{change(upsert, set("www", "A", "nonsense"))}},
		{"enclosed in quotation marks", []types.Change{change(upsert, set("txt", "TXT", "bare"))}},
		// All or nothing: the first of these is fine.
		{"already exists", []types.Change{change(create, set("new", "A", "192.0.2.1")), change(create, set("www", "A", "192.0.2.1"))}},
	} {
		if err := do(tt.changes...); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "InvalidChangeBatch") {
			t.Errorf("want %q, got %v", tt.want, err)
		}
	}
	if n := len(contract.State[route53.State](t, control).Sets); n != 1 {
		t.Errorf("%d sets after refused batches", n)
	}
	if err := do(change(remove, set("www", "A", "192.0.2.2", "192.0.2.1")), change(create, set("www", "A", "192.0.2.3"))); err != nil {
		t.Errorf("replace: %v", err)
	}
	if got := contract.Resolve(t, ready.DNS, "www.example.test", "A"); !slices.Equal(got, []string{"192.0.2.3"}) {
		t.Errorf("resolves to %v", got)
	}
}

// Lists go by labels from the right, and in pages that can split the sets of one name.
func TestListOrder(t *testing.T) {
	control, ready := start(t)
	var s route53.State
	for _, name := range []string{"b", "a.b", "a", "z.a", "*"} {
		s.Sets = append(s.Sets, route53.RRSet{Name: name + "." + zone, Type: "A", TTL: aws.Int64(1), Records: []route53.Value{{Value: "192.0.2.1"}}})
	}
	for _, id := range []string{"y", "x"} {
		s.Sets = append(s.Sets, route53.RRSet{Name: "w." + zone, Type: "A", SetIdentifier: id, Weight: aws.Int64(1), TTL: aws.Int64(1), Records: []route53.Value{{Value: "192.0.2.1"}}})
	}
	if err := control.Add(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c := client(ready)
	in := &sdk.ListResourceRecordSetsInput{HostedZoneId: zoneID(t, c, zone), MaxItems: aws.Int32(1)}
	var got []string
	for {
		out, err := c.ListResourceRecordSets(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSuffix(*out.ResourceRecordSets[0].Name, ".example.test.")+aws.ToString(out.ResourceRecordSets[0].SetIdentifier))
		if !out.IsTruncated {
			break
		}
		in.StartRecordName, in.StartRecordType, in.StartRecordIdentifier = out.NextRecordName, out.NextRecordType, out.NextRecordIdentifier
	}
	if want := []string{`\052`, "a", "z.a", "b", "a.b", "wx", "wy"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A change is pending until the name servers have it.
func TestChangesSpread(t *testing.T) {
	control, ready := start(t)
	if err := control.Configure(t.Context(), cloud.Config{DNSLag: 300}); err != nil {
		t.Fatal(err)
	}
	c := client(ready)
	s := set("www", "A", "192.0.2.1")
	out, err := c.ChangeResourceRecordSets(t.Context(), &sdk.ChangeResourceRecordSetsInput{
		HostedZoneId: zoneID(t, c, zone), ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{Action: types.ChangeActionCreate, ResourceRecordSet: &s}}},
	})
	if err != nil || out.ChangeInfo.Status != types.ChangeStatusPending {
		t.Fatalf("%v %+v", err, out)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := c.GetChange(t.Context(), &sdk.GetChangeInput{Id: out.ChangeInfo.Id})
		if err != nil || time.Now().After(end) {
			t.Fatalf("not in sync: %v", err)
		}
		if got.ChangeInfo.Status == types.ChangeStatusInsync {
			break
		}
	}
	if got := contract.Resolve(t, ready.DNS, "www."+zone, "A"); len(got) != 1 {
		t.Errorf("in sync, and resolves to %v", got)
	}
}

// Switching a health check moves the answers, whatever its probes find.
func TestHealthChecksMoveAnswers(t *testing.T) {
	control, ready := start(t)
	one := func(id, failover, check, ip string) route53.RRSet {
		return route53.RRSet{
			Name: "fo." + zone, Type: "A", SetIdentifier: id, Failover: failover, HealthCheckID: check,
			TTL: aws.Int64(60), Records: []route53.Value{{Value: ip}},
		}
	}
	sets := route53.State{Sets: []route53.RRSet{one("p", "PRIMARY", "hc-1", "192.0.2.1"), one("s", "SECONDARY", "hc-2", "192.0.2.2")}}
	if err := control.Add(t.Context(), sets); err != nil {
		t.Fatal(err)
	}
	p := newProvider(t, ready, key, provider.Config{})
	apply := func(change func(*dns.Set)) {
		t.Helper()
		read, err := p.Read(t.Context(), []dns.Key{{Name: "edge", Type: dns.Check}})
		if err != nil {
			t.Fatal(err)
		}
		after := read[0].Clone()
		change(&after)
		if err := p.Apply(t.Context(), []dns.Change{{Before: read[0], After: after}}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := contract.Resolve(t, ready.DNS, "fo."+zone, "A"); !slices.Equal(got, []string{want}) {
			t.Errorf("answers %v, want %s", got, want)
		}
	}
	expect("192.0.2.1")
	apply(func(s *dns.Set) { s.Members[0].Owner, s.Members[1].Owner = "c", "c" })
	apply(func(s *dns.Set) { s.Members[0].On = false })
	expect("192.0.2.2")
	// With the probes failing too, "inverted" alone would now mean healthy.
	down := route53.Check{ID: "hc-1", Down: true, Tags: map[string]string{"pancake-goavail-owner": "c"}, Config: route53.CheckConfig{Type: "HTTPS", Inverted: true, Disabled: true}}
	if err := control.Add(t.Context(), route53.State{Checks: []route53.Check{down}}); err != nil {
		t.Fatal(err)
	}
	expect("192.0.2.2")
	apply(func(s *dns.Set) { s.Members[0].On = true })
	expect("192.0.2.2") // its own probes decide again
}

// What goavail has no word for is kept as well.
func TestKeepsTheRest(t *testing.T) {
	control, ready := start(t)
	have := route53.RRSet{
		Name: "www." + zone, Type: "A", SetIdentifier: "eu", GeoProximity: &route53.Proximity{AWSRegion: "eu-west-1", Bias: -7},
		HealthCheckID: "hc-3", TTL: aws.Int64(77), Records: []route53.Value{{Value: "192.0.2.1"}},
	}
	if err := control.Add(t.Context(), route53.State{Sets: []route53.RRSet{have}}); err != nil {
		t.Fatal(err)
	}
	p := newProvider(t, ready, key, provider.Config{})
	sets, err := p.Read(t.Context(), []dns.Key{{Name: "www." + zone, Type: dns.A, Set: "eu"}})
	if err != nil {
		t.Fatal(err)
	}
	after := sets[0].Clone()
	after.Members[0].Owner = "c"
	after.Members = append(after.Members, dns.Member{Value: "192.0.2.2", On: true, Owner: "c"})
	if err := p.Apply(t.Context(), []dns.Change{{Before: sets[0], After: after}}); err != nil {
		t.Fatal(err)
	}
	have.Name += "."
	have.Records = append(have.Records, route53.Value{Value: "192.0.2.2"})
	if got := contract.State[route53.State](t, control).Sets; len(got) != 2 || !slices.ContainsFunc(got, func(s route53.RRSet) bool { return reflect.DeepEqual(s, have) }) {
		t.Errorf("got %+v, want %+v", got, have)
	}
}

// Sets that are not goavail's to change, and zones of which there are two.
func TestRefuses(t *testing.T) {
	control, ready := start(t)
	alias := route53.RRSet{Name: "alias." + zone, Type: "A", Alias: &route53.Alias{HostedZoneID: "Z2", DNSName: "lb.eu-west-1.elb.amazonaws.com."}}
	if err := control.Add(t.Context(), route53.State{Sets: []route53.RRSet{alias}}); err != nil {
		t.Fatal(err)
	}
	p := newProvider(t, ready, key, provider.Config{})
	key := dns.Key{Name: "alias." + zone, Type: dns.A}
	sets, err := p.Read(t.Context(), []dns.Key{key})
	if err != nil || len(sets[0].Members) != 1 || sets[0].Owner() != "" {
		t.Fatalf("an alias is read as %+v, %v", sets, err)
	}
	after := dns.Set{Key: key, Members: []dns.Member{{Value: "192.0.2.1", On: true, Owner: "c"}}}
	if err := p.Apply(t.Context(), []dns.Change{{Before: sets[0], After: after}}); dns.ReasonOf(err) != dns.Refused {
		t.Errorf("change an alias: %v", err)
	}
	_, err = p.Read(t.Context(), []dns.Key{{Name: "www.twice.test", Type: dns.A}})
	if dns.ReasonOf(err) != dns.Refused || !strings.Contains(err.Error(), "configure the id") {
		t.Errorf("a name in one of two zones: %v", err)
	}
}
