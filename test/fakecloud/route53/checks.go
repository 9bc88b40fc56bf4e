package route53

import (
	"encoding/xml"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
)

// Check is a health check, of which Down says what its probes find.
type Check struct {
	ID        string            `json:"id" xml:"Id"`
	Reference string            `json:"-" xml:"CallerReference"`
	Config    CheckConfig       `json:"config" xml:"HealthCheckConfig"`
	Version   int64             `json:"version" xml:"HealthCheckVersion"`
	Tags      map[string]string `json:"tags,omitempty" xml:"-"`
	Down      bool              `json:"down,omitempty" xml:"-"`
}

// CheckConfig is what a user sets.
type CheckConfig struct {
	IPAddress       string   `json:"ip,omitempty" xml:"IPAddress,omitempty"`
	Port            int      `json:"port,omitempty" xml:"Port,omitempty"`
	Type            string   `json:"type" xml:"Type"`
	ResourcePath    string   `json:"path,omitempty" xml:"ResourcePath,omitempty"`
	Inverted        bool     `json:"inverted,omitempty" xml:"Inverted"`
	Disabled        bool     `json:"disabled,omitempty" xml:"Disabled"`
	HealthThreshold int      `json:"threshold,omitempty" xml:"HealthThreshold"`
	Children        []string `json:"children,omitempty" xml:"ChildHealthChecks>ChildHealthCheck,omitempty"`
}

func (f *Fake) check(id string) *Check {
	for i := range f.checks {
		if f.checks[i].ID == id {
			return &f.checks[i]
		}
	}
	return nil
}

func noCheck(id string) *problem {
	return fail(http.StatusNotFound, "NoSuchHealthCheck", "No health check exists with the specified ID %s.", id)
}

func checkAnswer(element string, c Check) any {
	c.Reference = "fake"
	return struct {
		XMLName xml.Name
		Check   Check `xml:"HealthCheck"`
	}{xml.Name{Space: xmlns, Local: element}, c}
}

func (f *Fake) getCheck(c call) (any, *problem) {
	check := f.check(c.PathValue("id"))
	if check == nil {
		return nil, noCheck(c.PathValue("id"))
	}
	return checkAnswer("GetHealthCheckResponse", *check), nil
}

func (f *Fake) updateCheck(c call) (any, *problem) {
	check := f.check(c.PathValue("id"))
	if check == nil {
		return nil, noCheck(c.PathValue("id"))
	}
	var in struct {
		Version         *int64 `xml:"HealthCheckVersion"`
		Inverted        *bool
		Disabled        *bool
		HealthThreshold *int
	}
	if err := xml.NewDecoder(c.Body).Decode(&in); err != nil {
		return nil, fail(http.StatusBadRequest, "InvalidInput", "Invalid XML ; %v", err)
	}
	if in.Version != nil && *in.Version != check.Version {
		return nil, fail(http.StatusConflict, "HealthCheckVersionMismatch", "The value of HealthCheckVersion in the request doesn't match the value of HealthCheckVersion in the health check.")
	}
	if in.Inverted != nil {
		check.Config.Inverted = *in.Inverted
	}
	if in.Disabled != nil {
		check.Config.Disabled = *in.Disabled
	}
	if in.HealthThreshold != nil {
		check.Config.HealthThreshold = *in.HealthThreshold
	}
	check.Version++
	return checkAnswer("UpdateHealthCheckResponse", *check), nil
}

type tag struct{ Key, Value string }

type tagSet struct {
	Type string `xml:"ResourceType"`
	ID   string `xml:"ResourceId"`
	Tags []tag  `xml:"Tags>Tag"`
}

func (f *Fake) listTags(c call) (any, *problem) {
	var in struct {
		IDs []string `xml:"ResourceIds>ResourceId"`
	}
	if err := xml.NewDecoder(c.Body).Decode(&in); err != nil || len(in.IDs) == 0 || len(in.IDs) > 10 {
		return nil, fail(http.StatusBadRequest, "InvalidInput", "1 to 10 resource ids are needed")
	}
	out := struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ListTagsForResourcesResponse"`
		Sets    []tagSet `xml:"ResourceTagSets>ResourceTagSet"`
	}{}
	for _, id := range in.IDs {
		check := f.check(id)
		if check == nil {
			return nil, noCheck(id)
		}
		set := tagSet{Type: "healthcheck", ID: id}
		for k, v := range check.Tags {
			set.Tags = append(set.Tags, tag{k, v})
		}
		out.Sets = append(out.Sets, set)
	}
	return out, nil
}

func (f *Fake) changeTags(c call) (any, *problem) {
	check := f.check(c.PathValue("id"))
	if check == nil {
		return nil, noCheck(c.PathValue("id"))
	}
	var in struct {
		Add    []tag    `xml:"AddTags>Tag"`
		Remove []string `xml:"RemoveTagKeys>Key"`
	}
	if err := xml.NewDecoder(c.Body).Decode(&in); err != nil {
		return nil, fail(http.StatusBadRequest, "InvalidInput", "Invalid XML ; %v", err)
	}
	if check.Tags == nil {
		check.Tags = map[string]string{}
	}
	for _, t := range in.Add {
		check.Tags[t.Key] = t.Value
	}
	for _, key := range in.Remove {
		delete(check.Tags, key)
	}
	return struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ChangeTagsForResourceResponse"`
	}{}, nil
}

// healthy is what a check says: probes or children, then Disabled, then Inverted.
func (f *Fake) healthy(id string, depth int) bool {
	c := f.check(id)
	if c == nil || depth > 8 {
		return true
	}
	up := !c.Down
	if c.Config.Type == "CALCULATED" {
		n := 0
		for _, child := range c.Config.Children {
			if f.healthy(child, depth+1) {
				n++
			}
		}
		up = n >= c.Config.HealthThreshold
	}
	return (up || c.Config.Disabled) != c.Config.Inverted
}

// Answer is the zones' DNS server.
func (f *Fake) Answer(name string, qtype uint16) (string, []dns.RR, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	zone := f.zoneOf(name)
	if zone == nil {
		return "", nil, false
	}
	exists := name == zone.Name
	var sets []RRSet
	for _, s := range f.past.Before(time.Duration(f.config.DNSLag) * time.Millisecond)[zone.ID] {
		if s.Name != name {
			continue
		}
		exists = true
		if s.Type == dns.TypeToString[qtype] || s.Type == "CNAME" {
			sets = append(sets, s)
		}
	}
	var rrs []dns.RR
	for _, s := range f.pick(sets) {
		for _, v := range s.Records {
			if rr := cloud.RR(name, s.Type, v.Value, int(*s.TTL)); rr != nil {
				rrs = append(rrs, rr)
			}
		}
	}
	return zone.Name, rrs, exists
}

// pick chooses among the sets of one name and type, as their policy says. When none
// is healthy, all count as healthy.
func (f *Fake) pick(sets []RRSet) []RRSet {
	sets = slices.DeleteFunc(slices.Clone(sets), func(s RRSet) bool { return s.Alias != nil })
	if len(sets) == 0 || sets[0].policy() == "simple" {
		return sets
	}
	up := slices.DeleteFunc(slices.Clone(sets), func(s RRSet) bool { return s.HealthCheckID != "" && !f.healthy(s.HealthCheckID, 0) })
	if len(up) == 0 {
		up = sets
	}
	switch up[0].policy() {
	case "multivalue answer":
		return up[:min(len(up), 8)]
	case "weighted":
		return []RRSet{up[lot(up)]}
	case "failover":
		slices.SortStableFunc(up, func(a, b RRSet) int { return strings.Compare(a.Failover, b.Failover) }) // PRIMARY is first
	case "geolocation":
		if i := slices.IndexFunc(up, func(s RRSet) bool { return s.GeoLocation.CountryCode == "*" }); i >= 0 {
			return up[i : i+1]
		}
	}
	return up[:1]
}

// lot draws one of weighted sets. If all weigh nothing, they weigh the same.
func lot(sets []RRSet) int {
	var sum int64
	for _, s := range sets {
		sum += *s.Weight
	}
	if sum == 0 {
		return rand.IntN(len(sets))
	}
	at := rand.Int64N(sum)
	for i, s := range sets {
		if at -= *s.Weight; at < 0 {
			return i
		}
	}
	return 0
}
