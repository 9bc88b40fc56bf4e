// Package cloudflare stands in for the parts of Cloudflare's API, version 4, that
// deal with DNS records and load balancers, and answers DNS for its zones.
//
// A POST to /_control/state adds a State. Records and tokens are completed: ids,
// times and defaults need not be given.
package cloudflare

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
)

// The base path of the API.
const base = "/client/v4"

// State is what the fake holds.
type State struct {
	Zones         []Zone   `json:"zones,omitempty"`
	Tokens        []Token  `json:"tokens,omitempty"`
	Records       []Record `json:"records,omitempty"`
	Pools         []Object `json:"pools,omitempty"`
	LoadBalancers []Object `json:"load_balancers,omitempty"` // with "zone", its name
	// Removed records, by name, type and content, are taken out when they are added.
	Removed []Record `json:"removed,omitempty"`
}

// Object is something of which the fake needs to know only a few fields.
type Object map[string]any

// Zone is one zone. All are of one account.
type Zone struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	NameServers []string `json:"name_servers"`
	Account     Account  `json:"account"`
}

// Account owns zones and pools.
type Account struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// account is the only one.
var account = Account{ID: "acc00000000000000000000000000001", Name: "Test"}

// Token is a credential: an API token, or a key with its Email.
type Token struct {
	Token string   `json:"token"`
	Email string   `json:"email,omitempty"`
	Zones []string `json:"zones,omitempty"` // the names of the zones it is for; none means all
	// Read means that nothing may be changed.
	Read bool `json:"read,omitempty"`
}

// Record is one DNS record as the API shows it.
type Record struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Content    string          `json:"content"`
	Proxiable  bool            `json:"proxiable"`
	Proxied    bool            `json:"proxied"`
	TTL        int             `json:"ttl"`
	Priority   *int            `json:"priority,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	Settings   json.RawMessage `json:"settings"`
	Meta       json.RawMessage `json:"meta"`
	Comment    string          `json:"comment"`
	Tags       []string        `json:"tags"`
	CreatedOn  time.Time       `json:"created_on"`
	ModifiedOn time.Time       `json:"modified_on"`
	zone       string          // its id
}

// Fake is the cloud.
type Fake struct {
	mux *http.ServeMux

	mu      sync.Mutex
	nextID  int
	config  cloud.Config
	zones   []Zone
	tokens  []Token
	records []Record
	pools   []Object
	lbs     []Object

	past cloud.History[[]Record]
}

// New makes an empty fake.
func New() *Fake {
	f := &Fake{mux: http.NewServeMux()}
	f.past.Set(nil)
	f.handle("GET /user/tokens/verify", f.verify)
	f.handle("GET /accounts", f.listAccounts)
	f.handle("GET /zones", f.listZones)
	f.handle("GET /zones/{zone}", f.getZone)
	f.handle("GET /zones/{zone}/dns_records", f.listRecords)
	f.handle("POST /zones/{zone}/dns_records", f.createRecord)
	f.handle("POST /zones/{zone}/dns_records/batch", f.batch)
	f.handle("GET /zones/{zone}/dns_records/{id}", f.getRecord)
	f.handle("PATCH /zones/{zone}/dns_records/{id}", f.patchRecord)
	f.handle("PUT /zones/{zone}/dns_records/{id}", f.putRecord)
	f.handle("DELETE /zones/{zone}/dns_records/{id}", f.deleteRecord)
	f.handle("GET /accounts/{account}/load_balancers/pools", f.listPools)
	f.handle("GET /accounts/{account}/load_balancers/pools/{id}", f.getPool)
	f.handle("PATCH /accounts/{account}/load_balancers/pools/{id}", f.patchPool)
	f.handle("PUT /accounts/{account}/load_balancers/pools/{id}", f.patchPool)
	f.handle("GET /zones/{zone}/load_balancers", f.listLBs)
	f.handle("GET /zones/{zone}/load_balancers/{id}", f.getLB)
	f.handle("PATCH /zones/{zone}/load_balancers/{id}", f.patchLB)
	f.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		write(w, nil, nil, fail(http.StatusBadRequest, 7000, "No route for that URI"))
	})
	return f
}

func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(w, r) }

// call is one request that is let in.
type call struct {
	*http.Request
	token Token
	zone  *Zone // of the path, if it has one
}

// problem is an error as the API shows it.
type problem struct {
	status  int
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func fail(status, code int, format string, args ...any) *problem {
	return &problem{status, code, fmt.Sprintf(format, args...)}
}

// page describes one page of a list.
type page struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
	TotalPages int `json:"total_pages"`
}

type handler func(call) (any, *page, *problem)

// handle registers a handler behind the checks of credentials and zone. All of a
// request happens under one lock.
func (f *Fake) handle(pattern string, h handler) {
	method, path, _ := strings.Cut(pattern, " ")
	f.mux.HandleFunc(method+" "+base+path, func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		c, bad := f.admit(r)
		if bad != nil {
			write(w, nil, nil, bad)
			return
		}
		result, p, bad := h(c)
		write(w, result, p, bad)
	})
}

// admit checks who asks, and for what.
func (f *Fake) admit(r *http.Request) (call, *problem) {
	bearer, isToken := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	key, email := r.Header.Get("X-Auth-Key"), r.Header.Get("X-Auth-Email")
	if !isToken && (key == "" || email == "") {
		return call{}, fail(http.StatusBadRequest, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
	}
	i := slices.IndexFunc(f.tokens, func(t Token) bool {
		return isToken && t.Token == bearer && t.Email == "" || !isToken && t.Token == key && t.Email == email
	})
	switch {
	case i < 0 && isToken:
		return call{}, fail(http.StatusForbidden, 9109, "Invalid access token")
	case i < 0:
		return call{}, fail(http.StatusForbidden, 9103, "Unknown X-Auth-Key or X-Auth-Email")
	}
	c := call{Request: r, token: f.tokens[i]}
	if id := r.PathValue("zone"); id != "" {
		z := slices.IndexFunc(f.zones, func(z Zone) bool { return z.ID == id })
		if z < 0 {
			return c, fail(http.StatusNotFound, 7003, "Could not route to %s, perhaps your object identifier is invalid?", r.URL.Path)
		}
		c.zone = &f.zones[z]
		if !c.token.sees(c.zone.Name) {
			return c, fail(http.StatusForbidden, 9109, "Unauthorized to access requested resource")
		}
	}
	if id := r.PathValue("account"); id != "" && id != account.ID {
		return c, fail(http.StatusNotFound, 7003, "Could not route to %s, perhaps your object identifier is invalid?", r.URL.Path)
	}
	if c.token.Read && r.Method != http.MethodGet {
		return c, fail(http.StatusForbidden, 10000, "Authentication error")
	}
	return c, nil
}

func (t Token) sees(zone string) bool { return len(t.Zones) == 0 || slices.Contains(t.Zones, zone) }

// write sends the envelope that is around every answer.
func write(w http.ResponseWriter, result any, p *page, bad *problem) {
	answer := map[string]any{"success": bad == nil, "errors": []any{}, "messages": []any{}, "result": result}
	if p != nil {
		answer["result_info"] = p
	}
	status := http.StatusOK
	if bad != nil {
		status, answer["errors"], answer["result"] = bad.status, []any{bad}, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cf-Ray", "fake")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// Fail says no in the way of the API. Errors of its gateway are not JSON.
func (f *Fake) Fail(w http.ResponseWriter, status int, _ string) {
	switch status {
	case http.StatusTooManyRequests:
		write(w, nil, nil, fail(status, 10429, "More than 1200 requests per 300 seconds reached. Please wait and consider throttling your request speed"))
	case http.StatusInternalServerError:
		write(w, nil, nil, fail(status, 10001, "Internal server error"))
	default:
		http.Error(w, "<html>error code: "+http.StatusText(status)+"</html>", status)
	}
}

// Configure takes the lags over.
func (f *Fake) Configure(c cloud.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config = c
}

// State returns everything. Tokens are secrets.
func (f *Fake) State() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return State{Zones: f.zones, Records: f.records, Pools: f.pools, LoadBalancers: f.lbs}
}

// Add adds a State.
func (f *Fake) Add(body []byte) error {
	var s State
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = append(f.tokens, s.Tokens...)
	for _, z := range s.Zones {
		z.ID, z.Status, z.Account, z.NameServers = f.id(), "active", account, []string{"ada.ns.cloudflare.com"}
		f.zones = append(f.zones, z)
	}
	for _, r := range s.Removed {
		f.set(slices.DeleteFunc(slices.Clone(f.records), func(have Record) bool {
			return have.Name == r.Name && have.Type == r.Type && have.Content == r.Content
		}))
	}
	for _, r := range s.Records {
		zone := f.zoneOf(r.Name)
		if zone == nil {
			return fmt.Errorf("no zone for %s", r.Name)
		}
		done, bad := f.insert(f.records, zone, r)
		if bad != nil {
			return fmt.Errorf("%s %s: %s", r.Name, r.Type, bad.Message)
		}
		f.set(done)
	}
	for _, p := range s.Pools {
		f.pools = append(f.pools, f.object(p))
	}
	for _, lb := range s.LoadBalancers {
		f.lbs = append(f.lbs, f.object(lb))
	}
	return nil
}

// id makes an id as the API's look.
func (f *Fake) id() string {
	f.nextID++
	return fmt.Sprintf("%032x", 0x1d0000+f.nextID)
}

// zoneOf finds the closest zone above a name.
func (f *Fake) zoneOf(name string) *Zone {
	var best *Zone
	for i, z := range f.zones {
		if (name == z.Name || strings.HasSuffix(name, "."+z.Name)) && (best == nil || len(z.Name) > len(best.Name)) {
			best = &f.zones[i]
		}
	}
	return best
}

// set replaces all records.
func (f *Fake) set(records []Record) {
	f.records = records
	f.past.Set(records)
}
