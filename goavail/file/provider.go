package file

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/cloudflare"
	"github.com/pancake-stack/pancake/goavail/dns/rfc2136"
	"github.com/pancake-stack/pancake/goavail/dns/route53"
	"github.com/pancake-stack/pancake/goavail/notify"
)

// OpenProvider makes the client of who holds the records. It calls nobody. Credentials
// are from the environment or the files that are named. It fails with Invalid.
func (f *File) OpenProvider(ctx context.Context) (dns.Provider, error) {
	s := f.Settings.Provider
	switch s.Name {
	case Cloudflare:
		cfg := cloudflare.Config{
			Token: f.secret("provider.token_file", s.TokenFile), URL: s.URL, Zones: s.Zones, Account: s.Account,
			Requests: s.Requests, Timeout: time.Duration(s.Timeout),
		}
		if err := f.err(); err != nil {
			return nil, err
		}
		return named(cloudflare.New(cfg.FromEnv(f.getenv)))
	case Route53:
		cfg := route53.Config{
			Zones: map[string]string{}, Checks: map[string][]string{}, Profile: s.Profile, URL: s.URL,
			PerSecond: s.PerSecond, Timeout: time.Duration(s.Timeout),
		}
		for _, z := range s.Zones {
			if name, id, ok := strings.Cut(z, "="); ok {
				cfg.Zones[name] = id
			}
		}
		for _, r := range f.Settings.Records {
			if r.key().Type != dns.Check {
				continue
			}
			for _, m := range r.Targets {
				cfg.Checks[r.key().Name] = append(cfg.Checks[r.key().Name], m.Value)
			}
		}
		return named(route53.New(ctx, cfg))
	case RFC2136:
		key, err := f.tsig()
		if err != nil {
			return nil, err
		}
		return named(rfc2136.New(rfc2136.Config{Server: s.Server, Key: key, Zones: s.Zones, Timeout: time.Duration(s.Timeout)}))
	}
	return nil, pancake.Errorf(pancake.Invalid, "provider %q is not known", s.Name)
}

// tsig is the key that updates are signed with; without a name there is none.
func (f *File) tsig() (rfc2136.Key, error) {
	s := f.Settings.Provider
	if s.TSIGKeyFile != "" {
		f.secret("provider.tsig_key_file", s.TSIGKeyFile)
		if err := f.err(); err != nil {
			return rfc2136.Key{}, err
		}
		return rfc2136.LoadKey(s.TSIGKeyFile)
	}
	key := rfc2136.Key{Name: s.TSIGName, Algorithm: s.TSIGAlgorithm, Secret: f.getenv("GOAVAIL_TSIG_SECRET")}
	if key.Name != "" && key.Secret == "" {
		f.fail("provider.tsig_name", "the variable GOAVAIL_TSIG_SECRET is not set; it holds the secret of this key, in base64")
	}
	return key, f.err()
}

// named keeps a nil pointer from becoming an interface that is not nil.
func named[P dns.Provider](p P, err error) (dns.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Hooks are those who are told what happens, with their secrets. It fails with Invalid.
func (f *File) Hooks() ([]notify.Hook, error) {
	var out []notify.Hook
	n := f.Settings.Notify
	if h := n.Webhook; !h.IsZero() {
		hook := notify.Hook{Kind: notify.Webhook, URL: h.URL, Events: h.Events}
		if secret := f.hookSecret("notify.webhook", h); hook.URL == "" {
			hook.URL = secret
		} else {
			hook.Key = secret
		}
		out = append(out, hook)
	}
	if h := n.Slack; !h.IsZero() {
		out = append(out, notify.Hook{Kind: notify.Slack, URL: f.hookSecret("notify.slack", h), Events: h.Events})
	}
	if h := n.PagerDuty; !h.IsZero() {
		out = append(out, notify.Hook{Kind: notify.PagerDuty, URL: h.URL, Key: f.hookSecret("notify.pagerduty", h), Events: h.Events})
	}
	for _, h := range out {
		if u, err := url.Parse(h.URL); h.URL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			f.fail("notify."+h.Kind, "what was given is not the whole address, with https:// in front")
		}
	}
	return out, f.err()
}
