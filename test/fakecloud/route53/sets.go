package route53

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RRSet is a record set.
type RRSet struct {
	Name             string       `json:"name" xml:"Name"`
	Type             string       `json:"type" xml:"Type"`
	SetIdentifier    string       `json:"set,omitempty" xml:"SetIdentifier,omitempty"`
	Weight           *int64       `json:"weight,omitempty" xml:"Weight,omitempty"`
	Region           string       `json:"region,omitempty" xml:"Region,omitempty"`
	GeoLocation      *GeoLocation `json:"geo,omitempty" xml:"GeoLocation,omitempty"`
	GeoProximity     *Proximity   `json:"proximity,omitempty" xml:"GeoProximityLocation,omitempty"`
	Failover         string       `json:"failover,omitempty" xml:"Failover,omitempty"`
	MultiValueAnswer *bool        `json:"multivalue,omitempty" xml:"MultiValueAnswer,omitempty"`
	TTL              *int64       `json:"ttl,omitempty" xml:"TTL,omitempty"`
	Records          []Value      `json:"records,omitempty" xml:"ResourceRecords>ResourceRecord,omitempty"`
	Alias            *Alias       `json:"alias,omitempty" xml:"AliasTarget,omitempty"`
	HealthCheckID    string       `json:"check,omitempty" xml:"HealthCheckId,omitempty"`
}

// Value is one record.
type Value struct {
	Value string `json:"value" xml:"Value"`
}

// GeoLocation is where a set's clients are.
type GeoLocation struct {
	ContinentCode   string `json:"continent,omitempty" xml:"ContinentCode,omitempty"`
	CountryCode     string `json:"country,omitempty" xml:"CountryCode,omitempty"`
	SubdivisionCode string `json:"subdivision,omitempty" xml:"SubdivisionCode,omitempty"`
}

// Proximity is where a set's servers are.
type Proximity struct {
	AWSRegion string `json:"region" xml:"AWSRegion,omitempty"`
	Bias      int    `json:"bias" xml:"Bias,omitempty"`
}

// Alias points to something else of AWS.
type Alias struct {
	HostedZoneID         string `json:"zone" xml:"HostedZoneId"`
	DNSName              string `json:"name" xml:"DNSName"`
	EvaluateTargetHealth bool   `json:"evaluate,omitempty" xml:"EvaluateTargetHealth"`
}

// policy names the sort of a set: only sets of one sort may share name and type.
func (s RRSet) policy() string {
	switch {
	case s.Weight != nil:
		return "weighted"
	case s.Region != "":
		return "latency"
	case s.GeoLocation != nil:
		return "geolocation"
	case s.GeoProximity != nil:
		return "geoproximity"
	case s.Failover != "":
		return "failover"
	case s.MultiValueAnswer != nil && *s.MultiValueAnswer:
		return "multivalue answer"
	}
	return "simple"
}

// reversed is the order of lists: by labels from the right, then type, then identifier.
func reversed(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}

func compare(a, b RRSet) int {
	return cmp.Or(cmp.Compare(reversed(a.Name), reversed(b.Name)), cmp.Compare(a.Type, b.Type), cmp.Compare(a.SetIdentifier, b.SetIdentifier))
}

// escape shows a name as the API does: what is not a letter, digit, hyphen or
// underscore in octal.
func escape(name string) string { return strings.ReplaceAll(name, "*", `\052`) }

func unescape(name string) string { return strings.ReplaceAll(name, `\052`, "*") }

func number(text string, normal int) int {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return min(n, normal)
	}
	return normal
}

func (f *Fake) listSets(c call) (any, *problem) {
	q := c.URL.Query()
	start := RRSet{Type: q.Get("type"), SetIdentifier: q.Get("identifier")}
	if name := q.Get("name"); name != "" {
		start.Name = fqdn(unescape(name))
	}
	if start.Type != "" && start.Name == "" || start.SetIdentifier != "" && start.Type == "" {
		return nil, fail(http.StatusBadRequest, "InvalidInput", "The record set's type or identifier is given without what goes before it.")
	}
	out := struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ListResourceRecordSetsResponse"`
		Sets    []RRSet  `xml:"ResourceRecordSets>ResourceRecordSet"`
		More    bool     `xml:"IsTruncated"`
		Name    string   `xml:"NextRecordName,omitempty"`
		Type    string   `xml:"NextRecordType,omitempty"`
		ID      string   `xml:"NextRecordIdentifier,omitempty"`
		Max     int      `xml:"MaxItems"`
	}{Max: number(q.Get("maxitems"), 300)}
	for _, s := range f.past.Before(time.Duration(f.config.ListLag) * time.Millisecond)[c.zone.ID] {
		if start.Name != "" && compare(s, start) < 0 {
			continue
		}
		s.Name = escape(s.Name)
		if len(out.Sets) == out.Max {
			out.More, out.Name, out.Type, out.ID = true, s.Name, s.Type, s.SetIdentifier
			break
		}
		out.Sets = append(out.Sets, s)
	}
	return out, nil
}

// Limits of one request.
const (
	maxRecords    = 1000
	maxCharacters = 32000
)

func (f *Fake) changeSets(c call) (any, *problem) {
	var in struct {
		Changes []struct {
			Action string
			Set    RRSet `xml:"ResourceRecordSet"`
		} `xml:"ChangeBatch>Changes>Change"`
	}
	if err := xml.NewDecoder(c.Body).Decode(&in); err != nil || len(in.Changes) == 0 {
		return nil, fail(http.StatusBadRequest, "InvalidInput", "Invalid XML ; %v", err)
	}
	sets := f.sets[c.zone.ID]
	var problems []string
	records, characters := 0, 0
	for _, ch := range in.Changes {
		times := 1
		if ch.Action == "UPSERT" {
			times = 2
		}
		for _, v := range ch.Set.Records {
			records, characters = records+times, characters+times*len(v.Value)
		}
		ch.Set.Name = unescape(ch.Set.Name)
		changed, problem := change(sets, c.zone, ch.Action, ch.Set)
		if problem != "" {
			problems = append(problems, problem)
		} else {
			sets = changed
		}
	}
	switch {
	case records > maxRecords:
		problems = []string{fmt.Sprintf("Number of records limit of %d exceeded.", maxRecords)}
	case characters > maxCharacters:
		problems = []string{fmt.Sprintf("Number of characters limit of %d exceeded.", maxCharacters)}
	}
	if len(problems) > 0 {
		return nil, fail(http.StatusBadRequest, "InvalidChangeBatch", "[%s]", strings.Join(problems, ", "))
	}
	f.set(c.zone.ID, sets)
	id := f.id("C")
	f.done[id] = time.Now().UTC()
	return f.changeInfo("ChangeResourceRecordSetsResponse", id), nil
}

// changeInfo says how far a change is: in sync once DNS answers do not lag behind it any more.
func (f *Fake) changeInfo(element, id string) any {
	status := "PENDING"
	if time.Since(f.done[id]) > time.Duration(f.config.DNSLag)*time.Millisecond {
		status = "INSYNC"
	}
	return struct {
		XMLName   xml.Name
		ID        string `xml:"ChangeInfo>Id"`
		Status    string `xml:"ChangeInfo>Status"`
		Submitted string `xml:"ChangeInfo>SubmittedAt"`
	}{xml.Name{Space: xmlns, Local: element}, "/change/" + id, status, f.done[id].Format(time.RFC3339)}
}

func (f *Fake) getChange(c call) (any, *problem) {
	id := c.PathValue("id")
	if _, ok := f.done[id]; !ok {
		return nil, fail(http.StatusNotFound, "NoSuchChange", "A change with the ID %s was not found", id)
	}
	return f.changeInfo("GetChangeResponse", id), nil
}

// change makes one change on a copy of the sets, and says why if it cannot be made.
func change(sets []RRSet, zone *Zone, action string, s RRSet) ([]RRSet, string) {
	s.Name = fqdn(s.Name)
	what := fmt.Sprintf("[name='%s', type='%s']", s.Name, s.Type)
	if s.SetIdentifier != "" {
		what = fmt.Sprintf("[name='%s', type='%s', set-identifier='%s']", s.Name, s.Type, s.SetIdentifier)
	}
	i, exists := slices.BinarySearchFunc(sets, s, compare)
	switch action {
	case "CREATE":
		if exists {
			return nil, "Tried to create resource record set " + what + " but it already exists"
		}
	case "UPSERT":
		if exists {
			sets = slices.Delete(slices.Clone(sets), i, i+1)
		}
	case "DELETE", "REMOVE":
		if !exists {
			return nil, "Tried to delete resource record set " + what + " but it was not found"
		}
		if action == "DELETE" && !same(sets[i], s) {
			return nil, "Tried to delete resource record set " + what + " but the values provided do not match the current values"
		}
		return slices.Delete(slices.Clone(sets), i, i+1), ""
	default:
		return nil, "Unknown action " + action
	}
	if problem := validate(sets, zone, s); problem != "" {
		return nil, problem
	}
	return slices.Insert(slices.Clone(sets), i, s), ""
}

// same compares two sets; values may be in any order.
func same(a, b RRSet) bool {
	sorted := func(s RRSet) RRSet {
		s.Records = slices.SortedFunc(slices.Values(s.Records), func(a, b Value) int { return cmp.Compare(a.Value, b.Value) })
		return s
	}
	return reflect.DeepEqual(sorted(a), sorted(b))
}

// validate checks a new set by itself and against the others of its name.
func validate(sets []RRSet, zone *Zone, s RRSet) string {
	if s.Name != zone.Name && !strings.HasSuffix(s.Name, "."+zone.Name) {
		return fmt.Sprintf("RRSet with DNS name %s is not permitted in zone %s", s.Name, zone.Name)
	}
	if s.Type == "CNAME" && s.Name == zone.Name {
		return fmt.Sprintf("RRSet of type CNAME with DNS name %s is not permitted at apex in zone %s", s.Name, zone.Name)
	}
	if s.Alias == nil && (s.TTL == nil || len(s.Records) == 0) {
		return fmt.Sprintf("Invalid request: missing TTL or resource records in RRSet with DNS name %s", s.Name)
	}
	if (s.policy() == "simple") != (s.SetIdentifier == "") {
		return fmt.Sprintf("Invalid request: set identifier and routing policy go together in RRSet with DNS name %s", s.Name)
	}
	seen := map[Value]bool{}
	for _, v := range s.Records {
		addr, err := netip.ParseAddr(v.Value)
		switch {
		case seen[v]:
			return fmt.Sprintf("Duplicate Resource Record: '%s'", v.Value)
		case s.Type == "A" && (err != nil || !addr.Is4()):
			return fmt.Sprintf("Invalid Resource Record: 'FATAL problem: ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) encountered with '%s''", v.Value)
		case s.Type == "AAAA" && (err != nil || addr.Is4()):
			return fmt.Sprintf("Invalid Resource Record: 'FATAL problem: AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address) encountered with '%s''", v.Value)
		case s.Type == "TXT" && !strings.HasPrefix(v.Value, `"`):
			return fmt.Sprintf("Invalid Resource Record: 'FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks) encountered with '%s''", v.Value)
		}
		seen[v] = true
	}
	for _, o := range sets {
		switch {
		case o.Name != s.Name:
		case (o.Type == "CNAME") != (s.Type == "CNAME"):
			return fmt.Sprintf("RRSet of type %s with DNS name %s is not permitted as it conflicts with other records with the same DNS name in zone %s", s.Type, s.Name, zone.Name)
		case o.Type == s.Type && o.policy() != s.policy():
			return fmt.Sprintf("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created as other RRSets exist with the same name and type with a different routing policy (%s)", s.Name, s.Type, s.SetIdentifier, o.policy())
		}
	}
	return ""
}
