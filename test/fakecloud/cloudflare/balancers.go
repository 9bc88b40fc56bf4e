package cloudflare

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
)

// object completes a pool or a load balancer.
func (f *Fake) object(o Object) Object {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	o = maps.Clone(o)
	o["id"], o["created_on"], o["modified_on"] = f.id(), now, now
	if _, ok := o["enabled"]; !ok {
		o["enabled"] = true
	}
	return o
}

// patch merges fields into the object with an id.
func patchObject(all []Object, c call) (any, *page, *problem) {
	var fields Object
	if bad := decode(c.Request, &fields); bad != nil {
		return nil, nil, bad
	}
	i, bad := findObject(all, c)
	if bad != nil {
		return nil, nil, bad
	}
	if origins, given := fields["origins"].([]any); given && len(origins) == 0 {
		return nil, nil, fail(http.StatusBadRequest, 1002, "origins: at least one is required")
	}
	o := maps.Clone(all[i])
	maps.Copy(o, fields)
	o["id"], o["modified_on"] = all[i]["id"], time.Now().UTC().Format(time.RFC3339Nano)
	all[i] = o
	return o, nil, nil
}

func findObject(all []Object, c call) (int, *problem) {
	i := slices.IndexFunc(all, func(o Object) bool { return o["id"] == c.PathValue("id") })
	if i < 0 {
		return i, fail(http.StatusNotFound, 1001, "object not found")
	}
	return i, nil
}

func getObject(all []Object, c call) (any, *page, *problem) {
	i, bad := findObject(all, c)
	if bad != nil {
		return nil, nil, bad
	}
	return all[i], nil, nil
}

func (f *Fake) listPools(c call) (any, *page, *problem) {
	list, p := paginate(c.URL.Query(), f.pools, 1000, 1000)
	return list, p, nil
}

func (f *Fake) getPool(c call) (any, *page, *problem)   { return getObject(f.pools, c) }
func (f *Fake) patchPool(c call) (any, *page, *problem) { return patchObject(f.pools, c) }

func (f *Fake) listLBs(c call) (any, *page, *problem) {
	out := slices.DeleteFunc(slices.Clone(f.lbs), func(o Object) bool { return o["zone"] != c.zone.Name })
	return slices.Concat([]Object{}, out), nil, nil
}

func (f *Fake) getLB(c call) (any, *page, *problem)   { return getObject(f.lbs, c) }
func (f *Fake) patchLB(c call) (any, *page, *problem) { return patchObject(f.lbs, c) }

// edge is the address that proxied names have.
const edge = "104.16.0.1"

// Answer is the zones' DNS server. A load balancer hides the records of its name.
func (f *Fake) Answer(name string, qtype uint16) (string, []dns.RR, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	bare := name[:len(name)-1]
	zone := f.zoneOf(bare)
	if zone == nil {
		return "", nil, false
	}
	origin := zone.Name + "."
	for _, lb := range f.lbs {
		if lb["name"] == bare && lb["enabled"] == true {
			return origin, f.balance(lb, name, qtype), true
		}
	}
	var rrs []dns.RR
	exists := bare == zone.Name
	for _, r := range f.past.Before(time.Duration(f.config.DNSLag) * time.Millisecond) {
		if r.Name != bare || r.zone != zone.ID {
			continue
		}
		exists = true
		typ, content, ttl := r.Type, r.Content, r.TTL
		if ttl == 1 {
			ttl = 300
		}
		if r.Proxied {
			typ, content = "A", edge
		}
		if dns.StringToType[typ] != qtype && typ != "CNAME" {
			continue
		}
		if rr := cloud.RR(name, typ, content, ttl); rr != nil {
			rrs = append(rrs, rr)
		}
	}
	return origin, dns.Dedup(rrs, nil), exists
}

// balance answers with the origins that are on of the first pool that has enough
// of them, and with all of the fallback pool if none has.
func (f *Fake) balance(lb Object, name string, qtype uint16) []dns.RR {
	if lb["proxied"] == true {
		if qtype != dns.TypeA {
			return nil
		}
		return []dns.RR{cloud.RR(name, "A", edge, 300)}
	}
	ids, _ := lb["default_pools"].([]any)
	for _, id := range ids {
		pool := f.pool(id)
		on := origins(pool, false)
		least, _ := pool["minimum_origins"].(float64)
		if pool["enabled"] == true && len(on) >= int(cmp.Or(least, 1)) {
			return addresses(name, qtype, on)
		}
	}
	return addresses(name, qtype, origins(f.pool(lb["fallback_pool"]), true))
}

// pool finds a pool by id or name.
func (f *Fake) pool(id any) Object {
	for _, p := range f.pools {
		if p["id"] == id || p["name"] == id {
			return p
		}
	}
	return nil
}

func origins(pool Object, all bool) []string {
	list, _ := pool["origins"].([]any)
	var out []string
	for _, o := range list {
		origin, _ := o.(map[string]any)
		address, _ := origin["address"].(string)
		if weight, given := origin["weight"].(float64); all || origin["enabled"] != false && (!given || weight > 0) {
			out = append(out, address)
		}
	}
	return out
}

func addresses(name string, qtype uint16, values []string) []dns.RR {
	var rrs []dns.RR
	for _, v := range values {
		typ := "A"
		if len(v) > 0 && slices.Contains([]byte(v), ':') {
			typ = "AAAA"
		}
		if rr := cloud.RR(name, typ, v, 30); rr != nil && rr.Header().Rrtype == qtype {
			rrs = append(rrs, rr)
		}
	}
	return rrs
}
