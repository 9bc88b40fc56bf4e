// Package cloudflare holds records and load balancer pools at Cloudflare.
//
// A record is owned through its comment, a pool through its description. Records are
// created in one batch and removed in a second one afterwards, and what exists is
// patched field by field, so that TTL, proxied flag, comment and tags stay.
//
// Nothing is repeated in here: a call whose answer is lost gives dns.Unknown, and
// the caller reads again.
package cloudflare

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudflare/cloudflare-go"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// Config says how to reach Cloudflare. Either Token, or Key and Email.
type Config struct {
	Token string // an API token; see docs/goavail/providers.md for its permissions
	Key   string // the global API key
	Email string // of the key's user
	// URL of the API. Default https://api.cloudflare.com/client/v4.
	URL string
	// Zones are the names of the zones to use. Default: all that the credentials can see.
	Zones []string
	// Account is the id of the account with the pools. Default: the only one there is.
	Account string
	// Requests is the most requests per 5 minutes, and about a seventh of it at once.
	// Default 200, for five agents: Cloudflare allows a user 1,200 over all tokens and
	// tools, and then none for 5 minutes.
	Requests int
	// Timeout of one request. Default 15 s.
	Timeout time.Duration
}

// FromEnv adds the credentials that are in the environment: CF_API_TOKEN or
// CLOUDFLARE_API_TOKEN, or else CF_API_KEY and CF_API_EMAIL (CLOUDFLARE_API_KEY
// and CLOUDFLARE_EMAIL).
func (c Config) FromEnv(getenv func(string) string) Config {
	c.Token = cmp.Or(c.Token, getenv("CF_API_TOKEN"), getenv("CLOUDFLARE_API_TOKEN"))
	if c.Token == "" {
		c.Key = cmp.Or(c.Key, getenv("CF_API_KEY"), getenv("CLOUDFLARE_API_KEY"))
		c.Email = cmp.Or(c.Email, getenv("CF_API_EMAIL"), getenv("CLOUDFLARE_EMAIL"))
	}
	return c
}

// Provider is Cloudflare.
type Provider struct {
	api     *cloudflare.API
	pace    *pace.Pace
	account string   // configured
	only    []string // zones, configured

	mu    sync.Mutex
	zones map[string]string // ids by name; nil until they have been read
	read  time.Time         // when
}

// New prepares the client. It does not call Cloudflare.
func New(cfg Config) (*Provider, error) {
	requests := cmp.Or(cfg.Requests, 200)
	p := &Provider{pace: pace.New(float64(requests)/300, max(requests/7, 1)), account: cfg.Account}
	for _, zone := range cfg.Zones {
		p.only = append(p.only, dns.Clean(zone))
	}
	options := []cloudflare.Option{
		cloudflare.BaseURL(cmp.Or(strings.TrimSuffix(cfg.URL, "/"), "https://api.cloudflare.com/client/v4")),
		cloudflare.HTTPClient(&http.Client{
			Transport: &transport{next: &pace.Transport{Next: http.DefaultTransport, Pace: p.pace}, pace: p.pace},
			Timeout:   cmp.Or(cfg.Timeout, 15*time.Second),
		}),
		cloudflare.UserAgent("pancake-goavail"),
		// The transport keeps the pace, and repeating is the caller's business.
		cloudflare.UsingRateLimit(1e6),
		cloudflare.UsingRetryPolicy(0, 0, 0),
	}
	var err error
	switch {
	case cfg.Token != "":
		p.api, err = cloudflare.NewWithAPIToken(cfg.Token, options...)
	case cfg.Key != "" && cfg.Email != "":
		p.api, err = cloudflare.New(cfg.Key, cfg.Email, options...)
	default:
		return nil, pancake.Errorf(pancake.Invalid,
			"no credentials for Cloudflare: set CF_API_TOKEN, or CF_API_KEY and CF_API_EMAIL")
	}
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "set up the client of Cloudflare: %w", err)
	}
	return p, nil
}

// Capabilities say what Cloudflare can do.
func (p *Provider) Capabilities() dns.Capabilities {
	return dns.Capabilities{
		Name: "cloudflare", Types: []string{dns.A, dns.AAAA, dns.CNAME, dns.Pool}, PerValue: true,
	}
}

// Read returns the sets as they are.
func (p *Provider) Read(ctx context.Context, keys []dns.Key) ([]dns.Set, error) {
	out := make([]dns.Set, len(keys))
	byZone := map[string][]int{} // indices of keys by the zone's id
	var pools []rawPool
	for i, key := range keys {
		out[i] = dns.Set{Key: key}
		switch key.Type {
		case dns.Pool:
			var err error
			if pools == nil {
				if pools, err = p.listPools(ctx); err != nil {
					return nil, err
				}
			}
			if out[i], err = poolSet(key, pools); err != nil {
				return nil, err
			}
		case dns.A, dns.AAAA, dns.CNAME:
			if key.Set != "" {
				return nil, refused("%s: Cloudflare has no sets with identifiers", key)
			}
			zone, err := p.zone(ctx, key.Name)
			if err != nil {
				return nil, err
			}
			byZone[zone] = append(byZone[zone], i)
		default:
			return nil, refused("%s: Cloudflare has no sets of type %s", key, key.Type)
		}
	}
	for zone, indices := range byZone {
		var some []dns.Key
		for _, i := range indices {
			some = append(some, keys[i])
		}
		records, err := p.records(ctx, zone, some)
		if err != nil {
			return nil, err
		}
		for _, i := range indices {
			out[i] = recordSet(keys[i], records)
		}
	}
	return out, nil
}

// zonesFor is how long the list of zones is good for when a name is in none of them.
const zonesFor = time.Minute

// zone finds the id of the closest zone above a name.
func (p *Provider) zone(ctx context.Context, name string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id := closest(p.zones, name); id != "" {
		return id, nil
	}
	if p.zones == nil || time.Since(p.read) > zonesFor {
		zones, err := p.listZones(ctx)
		if err != nil {
			return "", err
		}
		p.zones, p.read = zones, time.Now()
	}
	if id := closest(p.zones, name); id != "" {
		return id, nil
	}
	return "", refused("no zone for %s: the credentials for Cloudflare can see %s; add the zone to the token's resources, or to the configured zones",
		name, names(p.zones))
}

// forgetZones makes the next call read them anew: one may have been made anew, with another id.
func (p *Provider) forgetZones() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zones = nil
}

func closest(zones map[string]string, name string) string {
	for rest, more := name, true; more; _, rest, more = strings.Cut(rest, ".") {
		if id := zones[rest]; id != "" {
			return id
		}
	}
	return ""
}

func (p *Provider) listZones(ctx context.Context) (map[string]string, error) {
	queries := []url.Values{{}}
	if len(p.only) > 0 {
		queries = nil
		for _, name := range p.only {
			queries = append(queries, url.Values{"name": {name}})
		}
	}
	out := map[string]string{}
	for _, q := range queries {
		zones, err := list[cloudflare.Zone](ctx, p, "/zones", q, 50)
		if err != nil {
			return nil, err
		}
		for _, z := range zones {
			out[dns.Clean(z.Name)] = z.ID
		}
	}
	return out, nil
}

// maxPages bounds a list: 500,000 records.
const maxPages = 1000

// list reads all pages of a list. A list that changes while its pages are read could
// miss an entry, so that pages which do not fit together are an error.
func list[T any](ctx context.Context, p *Provider, path string, query url.Values, perPage int) ([]T, error) {
	var out []T
	total := -1
	for page := 1; page <= maxPages; page++ {
		q := url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(perPage)}}
		maps.Copy(q, query)
		raw, err := p.call(ctx, http.MethodGet, path+"?"+q.Encode(), nil)
		if err != nil {
			return nil, err
		}
		var some []T
		if err := json.Unmarshal(raw.Result, &some); err != nil {
			return nil, fmt.Errorf("decode what Cloudflare answered to GET %s: %w", path, err)
		}
		out = append(out, some...)
		info := raw.ResultInfo
		if info == nil || info.TotalPages <= 1 && page == 1 {
			return out, nil
		}
		if total >= 0 && info.Total != total {
			return nil, fmt.Errorf("the list at %s changed while its pages were read", path)
		}
		total = info.Total
		if page >= info.TotalPages || len(some) == 0 {
			if len(out) != total {
				return nil, fmt.Errorf("the list at %s came with %d of %d entries", path, len(out), total)
			}
			return out, nil
		}
	}
	return nil, fmt.Errorf("the list at %s has more than %d pages", path, maxPages)
}

// call makes one call and turns its errors into those of package dns.
func (p *Provider) call(ctx context.Context, method, path string, body any) (cloudflare.RawResponse, error) {
	raw, err := p.api.Raw(ctx, method, path, body, nil)
	if err != nil {
		short, _, _ := strings.Cut(path, "?")
		err = explain(method, short, err)
		// Not for the lists of zones and accounts, which are read while p.mu is held.
		if ce, ok := errors.AsType[*cloudflare.Error](err); ok && ce.StatusCode == http.StatusNotFound && strings.HasPrefix(path, "/zones/") {
			p.forgetZones()
		}
	}
	return raw, err
}
