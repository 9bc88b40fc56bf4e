package cloudflare

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/cloudflare/cloudflare-go"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// rawPool is a pool with its origins as they came: an update has to send all of
// them, with fields that we do not know of.
type rawPool struct {
	ID          string                       `json:"id"`
	Name        string                       `json:"name"`
	Description string                       `json:"description"`
	ModifiedOn  string                       `json:"modified_on"`
	Origins     []map[string]json.RawMessage `json:"origins"`
}

// Apply makes the changes: the records zone by zone, then the pools.
func (p *Provider) Apply(ctx context.Context, changes []dns.Change) error {
	byZone := map[string][]dns.Change{}
	var problems []error
	var pools []dns.Change
	for _, c := range changes {
		if c.After.Type == dns.Pool {
			pools = append(pools, c)
			continue
		}
		zone, err := p.zone(ctx, c.After.Name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		byZone[zone] = append(byZone[zone], c)
	}
	for _, zone := range slices.Sorted(maps.Keys(byZone)) {
		problems = append(problems, p.applyRecords(ctx, zone, byZone[zone]))
	}
	for _, c := range pools {
		problems = append(problems, p.applyPool(ctx, c))
	}
	return pace.Join(problems...)
}

func (p *Provider) poolsPath(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.account == "" {
		accounts, err := list[cloudflare.Account](ctx, p, "/accounts", nil, 50)
		if err != nil {
			return "", err
		}
		if len(accounts) != 1 {
			return "", refused("the credentials can see %d Cloudflare accounts: configure the id of the one with the pools", len(accounts))
		}
		p.account = accounts[0].ID
	}
	return "/accounts/" + p.account + "/load_balancers/pools", nil
}

func (p *Provider) listPools(ctx context.Context) ([]rawPool, error) {
	path, err := p.poolsPath(ctx)
	if err != nil {
		return nil, err
	}
	return list[rawPool](ctx, p, path, nil, 1000)
}

// find returns the one pool with a name.
func find(key dns.Key, pools []rawPool) (rawPool, error) {
	var found []rawPool
	for _, pool := range pools {
		if pool.Name == key.Name {
			found = append(found, pool)
		}
	}
	if len(found) != 1 {
		return rawPool{}, refused("there are %d load balancer pools with the name %s: create one at Cloudflare with its origins; goavail only switches them", len(found), key.Name)
	}
	return found[0], nil
}

// poolSet is a pool as a set. Origins with one address count as one member, which is on if any of them is.
func poolSet(key dns.Key, pools []rawPool) (dns.Set, error) {
	pool, err := find(key, pools)
	if err != nil {
		return dns.Set{}, err
	}
	set := dns.Set{Key: key, Version: pool.ModifiedOn}
	for _, o := range pool.Origins {
		address, enabled, err := origin(o)
		if err != nil {
			return dns.Set{}, fmt.Errorf("pool %s: %w", pool.Name, err)
		}
		i := slices.IndexFunc(set.Members, func(m dns.Member) bool { return m.Value == address })
		if i < 0 {
			set.Members = append(set.Members, dns.Member{Value: address, Owner: dns.Owner(pool.Description), ID: pool.ID})
			i = len(set.Members) - 1
		}
		set.Members[i].On = set.Members[i].On || enabled
	}
	slices.SortFunc(set.Members, func(a, b dns.Member) int { return cmp.Compare(a.Value, b.Value) })
	return set, nil
}

func origin(o map[string]json.RawMessage) (address string, enabled bool, err error) {
	enabled = true
	if err := json.Unmarshal(o["address"], &address); err != nil {
		return "", false, fmt.Errorf("an origin has no address: %w", err)
	}
	if raw := o["enabled"]; raw != nil {
		if err := json.Unmarshal(raw, &enabled); err != nil {
			return "", false, fmt.Errorf("origin %s: %w", address, err)
		}
	}
	// A host name is compared as names are.
	return value(dns.A, dns.Clean(address)), enabled, nil
}

// applyPool switches origins and writes the mark, in one request.
func (p *Provider) applyPool(ctx context.Context, c dns.Change) error {
	pools, err := p.listPools(ctx)
	if err != nil {
		return err
	}
	now, err := poolSet(c.After.Key, pools)
	if err != nil {
		return err
	}
	if now.Version != c.Before.Version {
		return conflict("%s: somebody has changed the pool since it was read", now.Key)
	}
	edits := c.Edits()
	if len(edits.Create)+len(edits.Remove) > 0 {
		return refused("%s: goavail switches the origins of a pool, it does not add or remove any", now.Key)
	}
	pool, err := find(c.After.Key, pools)
	if err != nil {
		return err
	}
	fields := map[string]any{}
	if len(edits.Mark) > 0 {
		fields["description"] = marked(pool.Description, edits.Mark[0].Owner)
	}
	if len(edits.Switch) > 0 {
		origins, err := switched(pool.Origins, edits.Switch)
		if err != nil {
			return err
		}
		fields["origins"] = origins
	}
	if len(fields) == 0 {
		return nil
	}
	path, err := p.poolsPath(ctx)
	if err != nil {
		return err
	}
	_, err = p.call(ctx, http.MethodPatch, path+"/"+pool.ID, fields)
	return err
}

// switched is a copy of the origins with some switched on or off.
func switched(origins []map[string]json.RawMessage, members []dns.Member) ([]map[string]json.RawMessage, error) {
	out := slices.Clone(origins)
	for i, o := range origins {
		address, _, err := origin(o)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			if m.Value == address {
				out[i] = maps.Clone(o)
				out[i]["enabled"] = json.RawMessage(fmt.Sprint(m.On))
			}
		}
	}
	return out, nil
}

// nobody is an id that no object has.
const nobody = "00000000000000000000000000000000"

// Check reads the sets, and tries to write something that does not exist.
func (p *Provider) Check(ctx context.Context, keys []dns.Key) error {
	var problems []error
	tried := map[string]bool{}
	for _, key := range keys {
		_, err := p.Read(ctx, []dns.Key{key})
		if err != nil {
			problems = append(problems, err)
			continue
		}
		path, err := p.poolsPathOrZone(ctx, key)
		if err == nil && !tried[path] {
			tried[path] = true
			err = p.mayWrite(ctx, path)
		}
		problems = append(problems, err)
	}
	return pace.Join(problems...)
}

func (p *Provider) poolsPathOrZone(ctx context.Context, key dns.Key) (string, error) {
	if key.Type == dns.Pool {
		return p.poolsPath(ctx)
	}
	zone, err := p.zone(ctx, key.Name)
	return "/zones/" + zone + "/dns_records", err
}

// mayWrite changes a record that does not exist: who may, hears that it does not.
func (p *Provider) mayWrite(ctx context.Context, path string) error {
	_, err := p.api.Raw(ctx, http.MethodPatch, path+"/"+nobody, struct{}{}, nil)
	if ce, ok := errors.AsType[*cloudflare.Error](err); ok &&
		(ce.StatusCode == http.StatusNotFound || ce.StatusCode == http.StatusBadRequest) {
		return nil
	}
	if err == nil {
		return fmt.Errorf("PATCH %s/%s: Cloudflare changed an object that should not exist", path, nobody)
	}
	return explain(http.MethodPatch, path, err)
}
