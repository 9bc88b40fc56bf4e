// Package route53 holds record sets and health checks at Amazon Route 53.
//
// Route 53 changes whole record sets. A change deletes the set exactly as it was read
// and creates it anew in the same batch, which Route 53 carries out as one: if
// somebody has changed the set meanwhile, it refuses the batch. A TXT record beside
// the set says who owns it; it is written in that same batch.
//
// Nothing is repeated in here: a call whose answer is lost gives dns.Unknown, and
// the caller reads again.
package route53

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/smithy-go/logging"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// Config says how to reach Route 53. The credentials are those that AWS's tools
// find: environment, shared files, web identity, the role of the container or instance.
type Config struct {
	// Zones are the ids of the hosted zones to use, by name. Default: all public ones
	// of the account, for which the credentials need route53:ListHostedZones.
	Zones map[string]string
	// Checks are the ids of the health checks of each switched set, by the set's name.
	Checks map[string][]string
	// Profile of the shared configuration. Default: AWS_PROFILE, or "default".
	Profile string
	// URL of the API. Default: that of AWS.
	URL string
	// PerSecond is the most requests per second in the long run; ten may go at once.
	// Default 2: Route 53 allows an account 5, over all its users.
	PerSecond float64
	// Timeout of one request. Default 15 s.
	Timeout time.Duration
}

// Provider is Route 53.
type Provider struct {
	api    *route53.Client
	login  aws.CredentialsProvider
	pace   *pace.Pace
	fixed  map[string]string   // zone ids by name, configured
	checks map[string][]string // by the set's name

	mu    sync.Mutex
	zones map[string][]string // ids by name; nil until they have been read
	read  time.Time           // when
}

// New finds the credentials and prepares the client. It does not call Route 53.
func New(ctx context.Context, cfg Config) (*Provider, error) {
	p := &Provider{
		pace:  pace.New(cmp.Or(cfg.PerSecond, 2), 10),
		fixed: map[string]string{}, checks: cfg.Checks,
	}
	for name, id := range cfg.Zones {
		p.fixed[dns.Clean(name)] = strings.TrimPrefix(id, "/hostedzone/")
	}
	options := []func(*config.LoadOptions) error{
		// Repeating is the caller's business.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		// It would write to stderr by itself; what matters is in the errors.
		config.WithLogger(logging.Nop{}),
		// Route 53 is global; its API is in this region.
		config.WithDefaultRegion("us-east-1"),
	}
	if cfg.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(cfg.Profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "load the AWS configuration: %w", err)
	}
	p.login = loaded.Credentials
	p.api = route53.NewFromConfig(loaded, func(o *route53.Options) {
		// AWS_CA_BUNDLE and the like are in the transport that the SDK made.
		next := http.DefaultTransport
		if c, ok := loaded.HTTPClient.(interface{ GetTransport() *http.Transport }); ok {
			next = c.GetTransport()
		}
		o.HTTPClient = &http.Client{
			Transport: &pace.Transport{Next: next, Pace: p.pace},
			Timeout:   cmp.Or(cfg.Timeout, 15*time.Second),
		}
		if cfg.URL != "" {
			o.BaseEndpoint = &cfg.URL
		}
	})
	return p, nil
}

// Capabilities say what Route 53 can do.
func (p *Provider) Capabilities() dns.Capabilities {
	return dns.Capabilities{
		Name: "route53", Types: []string{dns.A, dns.AAAA, dns.CNAME, dns.Check}, Sets: true, Compares: true,
	}
}

// Read returns the sets as they are.
func (p *Provider) Read(ctx context.Context, keys []dns.Key) ([]dns.Set, error) {
	out := make([]dns.Set, len(keys))
	byZone := map[string][]int{} // indices of keys by the zone's id
	for i, key := range keys {
		var err error
		switch key.Type {
		case dns.Check:
			if out[i], err = p.readChecks(ctx, key); err != nil {
				return nil, err
			}
		case dns.A, dns.AAAA, dns.CNAME:
			zone, err := p.zone(ctx, key.Name)
			if err != nil {
				return nil, err
			}
			byZone[zone] = append(byZone[zone], i)
		default:
			return nil, refused("%s: goavail has no sets of type %s at Route 53", key, key.Type)
		}
	}
	for zone, indices := range byZone {
		var some []dns.Key
		for _, i := range indices {
			some = append(some, keys[i])
		}
		sets, err := p.list(ctx, zone, some)
		if err != nil {
			return nil, err
		}
		for _, i := range indices {
			if out[i], err = toSet(keys[i], sets); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// zonesFor is how long the list of zones is good for when a name is in none of them.
const zonesFor = time.Minute

// zone finds the id of the closest zone above a name.
func (p *Provider) zone(ctx context.Context, name string) (string, error) {
	if len(p.fixed) > 0 {
		if at := closest(p.fixed, name); at != "" {
			return p.fixed[at], nil
		}
		return "", refused("no zone for %s: configured are %s", name, names(p.fixed))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := closest(p.zones, name)
	if at == "" && (p.zones == nil || time.Since(p.read) > zonesFor) {
		zones, err := p.listZones(ctx)
		if err != nil {
			return "", err
		}
		p.zones, p.read = zones, time.Now()
		at = closest(p.zones, name)
	}
	switch ids := p.zones[at]; len(ids) {
	case 0:
		return "", refused("no zone for %s: the public hosted zones of the account are %s", name, names(p.zones))
	case 1:
		return ids[0], nil
	default:
		return "", refused("there are %d public hosted zones with the name %s: configure the id of the right one", len(ids), at)
	}
}

// forgetZones makes the next call read them anew: one may have been made anew, with another id.
func (p *Provider) forgetZones() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zones = nil
}

func closest[T any](zones map[string]T, name string) string {
	for rest, more := name, true; more; _, rest, more = strings.Cut(rest, ".") {
		if _, ok := zones[rest]; ok {
			return rest
		}
	}
	return ""
}

// names lists zones for a message.
func names[T any](zones map[string]T) string {
	all := slices.Sorted(maps.Keys(zones))
	switch {
	case len(all) == 0:
		return "none"
	case len(all) > 10:
		return strings.Join(all[:10], ", ") + ", …"
	}
	return strings.Join(all, ", ")
}

// maxPages bounds a list: 300,000 record sets.
const maxPages = 1000

func (p *Provider) listZones(ctx context.Context) (map[string][]string, error) {
	out := map[string][]string{}
	in := &route53.ListHostedZonesInput{}
	for range maxPages {
		page, err := p.api.ListHostedZones(ctx, in)
		if err != nil {
			return nil, explain("list the hosted zones", false, err)
		}
		for _, z := range page.HostedZones {
			if z.Config == nil || !z.Config.PrivateZone {
				name := dns.Clean(aws.ToString(z.Name))
				out[name] = append(out[name], strings.TrimPrefix(aws.ToString(z.Id), "/hostedzone/"))
			}
		}
		if !page.IsTruncated {
			return out, nil
		}
		in.Marker = page.NextMarker
	}
	return nil, explain("list the hosted zones", false, errEndless)
}
