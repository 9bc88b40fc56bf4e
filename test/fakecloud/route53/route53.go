// Package route53 stands in for the parts of Amazon Route 53's API, version
// 2013-04-01, that deal with record sets and health checks, and answers DNS for its zones.
//
// A POST to /_control/state adds a State.
package route53

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
)

const (
	base  = "/2013-04-01"
	xmlns = "https://route53.amazonaws.com/doc/2013-04-01/"
)

// State is what the fake holds.
type State struct {
	Zones  []Zone  `json:"zones,omitempty"`
	Keys   []Key   `json:"keys,omitempty"`
	Sets   []RRSet `json:"sets,omitempty"`   // put as an UPSERT does
	Checks []Check `json:"checks,omitempty"` // put by id
	// Removed record sets, by name, type and identifier.
	Removed []RRSet `json:"removed,omitempty"`
}

// Zone is a hosted zone. Its name ends with a dot.
type Zone struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Private bool   `json:"private,omitempty"`
}

// Key is a credential: the id of an access key.
type Key struct {
	ID    string   `json:"id"`
	Zones []string `json:"zones,omitempty"` // the names of the zones it is for; none means all
	Read  bool     `json:"read,omitempty"`  // nothing may be changed
}

// Fake is the cloud.
type Fake struct {
	mux *http.ServeMux

	mu     sync.Mutex
	nextID int
	config cloud.Config
	zones  []Zone
	keys   []Key
	checks []Check
	sets   map[string][]RRSet // by zone id, in order
	done   map[string]time.Time

	past cloud.History[map[string][]RRSet]
}

// New makes an empty fake.
func New() *Fake {
	f := &Fake{mux: http.NewServeMux(), sets: map[string][]RRSet{}, done: map[string]time.Time{}}
	f.past.Set(nil)
	f.handle("GET", "/hostedzone", "ListHostedZones", f.listZones)
	f.handle("GET", "/hostedzonesbyname", "ListHostedZonesByName", f.listZonesByName)
	f.handle("GET", "/hostedzone/{zone}", "GetHostedZone", f.getZone)
	f.handle("GET", "/hostedzone/{zone}/rrset", "ListResourceRecordSets", f.listSets)
	f.handle("POST", "/hostedzone/{zone}/rrset", "ChangeResourceRecordSets", f.changeSets)
	f.handle("POST", "/hostedzone/{zone}/rrset/{$}", "ChangeResourceRecordSets", f.changeSets)
	f.handle("GET", "/change/{id}", "GetChange", f.getChange)
	f.handle("GET", "/healthcheck/{id}", "GetHealthCheck", f.getCheck)
	f.handle("POST", "/healthcheck/{id}", "UpdateHealthCheck", f.updateCheck)
	f.handle("POST", "/tags/healthcheck", "ListTagsForResources", f.listTags)
	f.handle("POST", "/tags/healthcheck/{id}", "ChangeTagsForResource", f.changeTags)
	f.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		write(w, fail(http.StatusNotFound, "UnknownOperationException", "no operation for %s %s", r.Method, r.URL.Path))
	})
	return f
}

func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(w, r) }

// call is one request that is let in.
type call struct {
	*http.Request
	zone *Zone
}

// problem is an error as the API shows it.
type problem struct {
	XMLName   xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ErrorResponse"`
	status    int
	Type      string `xml:"Error>Type"`
	Code      string `xml:"Error>Code"`
	Message   string `xml:"Error>Message"`
	RequestID string `xml:"RequestId"`
}

func fail(status int, code, format string, args ...any) *problem {
	who := "Sender"
	if status >= http.StatusInternalServerError {
		who = "Receiver"
	}
	return &problem{status: status, Type: who, Code: code, Message: fmt.Sprintf(format, args...), RequestID: "fake"}
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "text/xml")
	if bad, ok := answer.(*problem); ok {
		w.WriteHeader(bad.status)
	}
	_, _ = fmt.Fprint(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(answer)
}

// handle registers a handler, which returns an answer or a problem, behind the checks
// of credentials and zone. All of a request happens under one lock.
func (f *Fake) handle(method, path, action string, h func(call) (any, *problem)) {
	f.mux.HandleFunc(method+" "+base+path, func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		c, bad := f.admit(r, action)
		var answer any = bad
		if bad == nil {
			if answer, bad = h(c); bad != nil {
				answer = bad
			}
		}
		write(w, answer)
	})
}

var signature = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/[a-z0-9-]+/route53/aws4_request, SignedHeaders=[a-z0-9;-]*host[a-z0-9;-]*, Signature=[0-9a-f]{64}$`)

// admit checks who asks, and for what. That the signature is right is taken on trust.
func (f *Fake) admit(r *http.Request, action string) (call, *problem) {
	auth := r.Header.Get("Authorization")
	parts := signature.FindStringSubmatch(auth)
	switch {
	case auth == "":
		return call{}, fail(http.StatusForbidden, "MissingAuthenticationToken", "Missing Authentication Token")
	case parts == nil || r.Header.Get("X-Amz-Date") == "":
		return call{}, fail(http.StatusForbidden, "IncompleteSignature", "the request is not signed as it should be")
	}
	i := slices.IndexFunc(f.keys, func(k Key) bool { return k.ID == parts[1] })
	if i < 0 {
		return call{}, fail(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	key := f.keys[i]
	c := call{Request: r}
	denied := fail(http.StatusForbidden, "AccessDenied", "User: arn:aws:iam::111122223333:user/test is not authorized to perform: route53:%s because no identity-based policy allows it", action)
	if id := r.PathValue("zone"); id != "" {
		z := slices.IndexFunc(f.zones, func(z Zone) bool { return z.ID == id })
		if z < 0 {
			return c, fail(http.StatusNotFound, "NoSuchHostedZone", "No hosted zone found with ID: %s", id)
		}
		c.zone = &f.zones[z]
		if len(key.Zones) > 0 && !slices.Contains(key.Zones, strings.TrimSuffix(c.zone.Name, ".")) {
			return c, denied
		}
	}
	if key.Read && r.Method != http.MethodGet && action != "ListTagsForResources" {
		return c, denied
	}
	return c, nil
}

// Fail says no in the way of the API: what is too much is a 400 there.
func (f *Fake) Fail(w http.ResponseWriter, status int, code string) {
	switch status {
	case http.StatusTooManyRequests:
		write(w, fail(http.StatusBadRequest, cmp.Or(code, "Throttling"), "Rate exceeded"))
	case http.StatusServiceUnavailable:
		write(w, fail(status, cmp.Or(code, "ServiceUnavailable"), "Service unavailable"))
	default:
		write(w, fail(status, cmp.Or(code, "InternalFailure"), "We encountered an internal error. Please try again."))
	}
}

// Configure takes the lags over.
func (f *Fake) Configure(c cloud.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config = c
}

// State returns everything but the keys.
func (f *Fake) State() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := State{Zones: f.zones, Checks: f.checks}
	for _, z := range f.zones {
		s.Sets = append(s.Sets, f.sets[z.ID]...)
	}
	return s
}

// Add adds a State.
func (f *Fake) Add(body []byte) error {
	var s State
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = append(f.keys, s.Keys...)
	for _, z := range s.Zones {
		z.ID, z.Name = cmp.Or(z.ID, f.id("Z")), fqdn(z.Name)
		f.zones = append(f.zones, z)
	}
	for _, c := range s.Checks {
		f.checks = slices.DeleteFunc(f.checks, func(have Check) bool { return have.ID == c.ID })
		c.Version = cmp.Or(c.Version, 1)
		f.checks = append(f.checks, c)
	}
	for action, sets := range map[string][]RRSet{"UPSERT": s.Sets, "REMOVE": s.Removed} {
		for _, set := range sets {
			zone := f.zoneOf(fqdn(set.Name))
			if zone == nil {
				return fmt.Errorf("no zone for %s", set.Name)
			}
			changed, problem := change(f.sets[zone.ID], zone, action, set)
			if problem != "" {
				return fmt.Errorf("%s", problem)
			}
			f.set(zone.ID, changed)
		}
	}
	return nil
}

func (f *Fake) id(prefix string) string {
	f.nextID++
	return fmt.Sprintf("%s%013d", prefix, f.nextID)
}

// zoneOf finds the closest public zone above a name.
func (f *Fake) zoneOf(name string) *Zone {
	var best *Zone
	for i, z := range f.zones {
		if !z.Private && (name == z.Name || strings.HasSuffix(name, "."+z.Name)) && (best == nil || len(z.Name) > len(best.Name)) {
			best = &f.zones[i]
		}
	}
	return best
}

// set replaces the record sets of a zone.
func (f *Fake) set(zone string, sets []RRSet) {
	all := maps.Clone(f.sets)
	all[zone] = sets
	f.sets = all
	f.past.Set(all)
}

func fqdn(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }
