package route53

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// A few sets are asked for one by one; for more, one list of the zone is cheaper.
const fewSets = 3

// list reads the record sets with the keys' names and types, and their marks.
func (p *Provider) list(ctx context.Context, zone string, keys []dns.Key) ([]types.ResourceRecordSet, error) {
	wanted := map[string]types.RRType{} // by name and type
	for _, key := range keys {
		wanted[key.Name+" "+key.Type] = types.RRType(key.Type)
		wanted[dns.MarkName(key)+" TXT"] = types.RRTypeTxt
	}
	if len(wanted) > 2*fewSets {
		return p.listFrom(ctx, zone, "", "", func(string, types.RRType) bool { return true })
	}
	var out []types.ResourceRecordSet
	for what, typ := range wanted {
		name, _, _ := strings.Cut(what, " ")
		// A list starts where the set would be, and goes on with the next one.
		some, err := p.listFrom(ctx, zone, name, typ, func(n string, t types.RRType) bool { return n == name && t == typ })
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// listFrom reads the record sets from a name and type on, as long as they are wanted.
func (p *Provider) listFrom(ctx context.Context, zone, name string, typ types.RRType, wanted func(string, types.RRType) bool) ([]types.ResourceRecordSet, error) {
	in := &route53.ListResourceRecordSetsInput{HostedZoneId: &zone}
	if name != "" {
		in.StartRecordName, in.StartRecordType = &name, typ
	}
	var out []types.ResourceRecordSet
	for range maxPages {
		page, err := p.api.ListResourceRecordSets(ctx, in)
		if err != nil {
			return nil, p.explain("list the records of zone "+zone, false, err)
		}
		for _, s := range page.ResourceRecordSets {
			if !wanted(plain(s.Name), s.Type) {
				return out, nil
			}
			out = append(out, s)
		}
		if !page.IsTruncated {
			return out, nil
		}
		in.StartRecordName, in.StartRecordType, in.StartRecordIdentifier = page.NextRecordName, page.NextRecordType, page.NextRecordIdentifier
	}
	return nil, explain("list the records of zone "+zone, false, errEndless)
}

// plain brings a name of the API, which has odd characters in octal, into the form of dns.Key.
func plain(name *string) string {
	return dns.Clean(octal(aws.ToString(name)))
}

func octal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// version is what a set was when it was read, with the records that mark it: a
// change deletes exactly these.
type version struct {
	Set  *types.ResourceRecordSet `json:"set,omitempty"`
	Mark *types.ResourceRecordSet `json:"mark,omitempty"`
}

// toSet picks the set with a key out of a list.
func toSet(key dns.Key, sets []types.ResourceRecordSet) (dns.Set, error) {
	var v version
	markName := dns.MarkName(key)
	for i, s := range sets {
		switch name := plain(s.Name); {
		case name == key.Name && string(s.Type) == key.Type && aws.ToString(s.SetIdentifier) == key.Set:
			v.Set = &sets[i]
		case name == markName && s.Type == types.RRTypeTxt:
			v.Mark = &sets[i]
		}
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return dns.Set{}, fmt.Errorf("keep the version of %s: %w", key, err)
	}
	out := dns.Set{Key: key, Version: string(encoded)}
	if v.Set == nil {
		return out, nil
	}
	out.TTL, out.Policy = int(aws.ToInt64(v.Set.TTL)), policyOf(v.Set)
	if alias := v.Set.AliasTarget; alias != nil { // not ours to change: foreign
		out.Members = []dns.Member{{Value: plain(alias.DNSName), On: true}}
		return out, nil
	}
	owner := markOwner(v.Mark, key.Set)
	for _, r := range v.Set.ResourceRecords {
		out.Members = append(out.Members, dns.Member{Value: value(key.Type, aws.ToString(r.Value)), On: true, Owner: owner})
	}
	slices.SortFunc(out.Members, func(a, b dns.Member) int { return cmp.Compare(a.Value, b.Value) })
	return out, nil
}

// value brings a record's value into the form of dns.Member.
func value(typ, text string) string {
	if typ == dns.CNAME {
		return dns.Clean(octal(text))
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.String()
	}
	return text
}

// A mark that is for one of several sets of a name ends with the set's identifier.

func markText(owner, set string) string {
	text := dns.Mark(owner)
	if set != "" {
		text += ",set=" + url.QueryEscape(set)
	}
	return `"` + text + `"`
}

// isMark says whether a value of a TXT record marks a set, whoever owns it.
func isMark(text, set string) bool {
	owner := dns.Owner(text)
	return owner != "" && text == markText(owner, set)
}

func markOwner(mark *types.ResourceRecordSet, set string) string {
	if mark != nil {
		for _, r := range mark.ResourceRecords {
			if text := aws.ToString(r.Value); isMark(text, set) {
				return dns.Owner(text)
			}
		}
	}
	return ""
}

func policyOf(s *types.ResourceRecordSet) dns.Policy {
	p := dns.Policy{CheckID: aws.ToString(s.HealthCheckId)}
	switch {
	case s.Weight != nil:
		p.Kind, p.Weight = "weighted", *s.Weight
	case s.Region != "":
		p.Kind, p.Region = "latency", string(s.Region)
	case s.Failover != "":
		p.Kind, p.Failover = "failover", string(s.Failover)
	case s.GeoLocation != nil:
		p.Kind = "geo"
		p.Continent, p.Country, p.State = aws.ToString(s.GeoLocation.ContinentCode), aws.ToString(s.GeoLocation.CountryCode), aws.ToString(s.GeoLocation.SubdivisionCode)
	case aws.ToBool(s.MultiValueAnswer):
		p.Kind = "multivalue"
	}
	return p
}

// fresh is a record set that does not exist yet, without records.
func fresh(set dns.Set) (*types.ResourceRecordSet, error) {
	out := &types.ResourceRecordSet{
		Name: aws.String(set.Name), Type: types.RRType(set.Type), TTL: aws.Int64(int64(cmp.Or(set.TTL, defaultTTL))),
	}
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	out.SetIdentifier, out.HealthCheckId = text(set.Set), text(set.Policy.CheckID)
	switch p := set.Policy; p.Kind {
	case "":
	case "weighted":
		out.Weight = &p.Weight
	case "latency":
		out.Region = types.ResourceRecordSetRegion(p.Region)
	case "failover":
		out.Failover = types.ResourceRecordSetFailover(p.Failover)
	case "geo":
		out.GeoLocation = &types.GeoLocation{ContinentCode: text(p.Continent), CountryCode: text(p.Country), SubdivisionCode: text(p.State)}
	case "multivalue":
		out.MultiValueAnswer = aws.Bool(true)
	default:
		return nil, refused("%s: Route 53 has no policy %q", set.Key, p.Kind)
	}
	if (set.Policy.Kind == "") != (set.Set == "") {
		return nil, refused("%s: a set has a policy if and only if it has an identifier", set.Key)
	}
	return out, nil
}

// defaultTTL of records, in seconds: short, as an answer that is out of date is an outage.
const defaultTTL = 60
