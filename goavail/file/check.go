package file

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/internal/suggest"
)

// check finds what can be found wrong without looking at anything but the file. What
// only the whole tells, such as whether a provider has a type of record, goavail.Config says.
func (f *File) check() {
	s := &f.Settings
	f.checkPlaces()
	switch {
	case s.Provider.Name == "":
		f.fail("provider.name", "is missing; it is cloudflare, route53 or rfc2136")
	case !slices.Contains(providers, s.Provider.Name):
		f.fail("provider.name", "%q is not a provider; %s", s.Provider.Name, hint(s.Provider.Name, providers))
	default:
		f.checkProvider()
	}
	f.checkTargets()
	f.checkRecords()
	f.checkRest()
}

var providers = []string{Cloudflare, Route53, RFC2136}

func (f *File) checkPlaces() {
	s := &f.Settings
	if len(s.Places) == 0 && s.Place == "" {
		s.Place = "here" // it is alone
	}
	seen, spots := map[string]bool{}, map[[2]string]string{}
	for i, p := range s.Places {
		path := fmt.Sprintf("places[%d]", i)
		spot := [2]string{p.Region, p.Provider}
		if other := spots[spot]; other != "" && spot != [2]string{} {
			f.fail(path, "%s is where %s is, in region %q of %q: what cuts one off cuts off the other, so that they are one place", p.Name, other, p.Region, p.Provider)
		}
		spots[spot] = p.Name
		switch {
		case p.Name == "":
			f.fail(path+".name", "is missing; each place needs a name of its own")
		case seen[p.Name]:
			f.fail(path+".name", "there is a place %q already", p.Name)
		}
		seen[p.Name] = true
		if p.Address != "" {
			f.checkHostPort(path+".address", p.Address)
		}
		if p.Key != "" {
			if key, err := base64.StdEncoding.DecodeString(p.Key); err != nil || len(key) != 32 {
				f.fail(path+".key", "is not a public key as \"pancake goavail keygen --data-dir\" prints it")
			}
		}
	}
}

func (f *File) checkHostPort(path, address string) {
	_, port, err := net.SplitHostPort(address)
	if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 0 || n > 65535 {
		f.fail(path, "%q is not host:port, for example 192.0.2.1:7951", address)
	}
}

// checkProvider points at keys of another provider: they have no effect.
func (f *File) checkProvider() {
	p := f.Settings.Provider
	set := map[string]bool{
		Cloudflare + " token_file": p.TokenFile != "", Cloudflare + " account": p.Account != "", Cloudflare + " requests": p.Requests != 0,
		Route53 + " profile": p.Profile != "", Route53 + " per_second": p.PerSecond != 0,
		RFC2136 + " server": p.Server != "", RFC2136 + " tsig_name": p.TSIGName != "",
		RFC2136 + " tsig_algorithm": p.TSIGAlgorithm != "", RFC2136 + " tsig_key_file": p.TSIGKeyFile != "",
	}
	for key, is := range set {
		if owner, name, _ := strings.Cut(key, " "); is && owner != p.Name {
			f.fail("provider."+name, "is a key of %s, and the provider is %s", owner, p.Name)
		}
	}
	if p.Name == RFC2136 && p.Server == "" {
		f.fail("provider.server", "is missing; it is the address of the primary name server, host:port")
	}
	if p.TSIGKeyFile != "" && p.TSIGName != "" {
		f.fail("provider.tsig_name", "the file that tsig_key_file names has a name already; remove one of the two")
	}
}

func (f *File) checkTargets() {
	s := &f.Settings
	if len(s.Targets) == 0 {
		f.fail("targets", "is missing; list what is to be probed, each with a name and an address")
	}
	seen := map[string]string{}
	for _, group := range []struct {
		path string
		list []Target
	}{{"targets", s.Targets}, {"canaries", s.Canaries}} {
		for i, t := range group.list {
			path := fmt.Sprintf("%s[%d]", group.path, i)
			switch before := seen[t.Name]; {
			case t.Name == "":
				f.fail(path+".name", "is missing; each target and canary needs a name of its own")
			case before != "":
				f.fail(path+".name", "%q is the name of %s already", t.Name, before)
			}
			seen[t.Name] = path
			f.checkTarget(path, t, group.path == "canaries")
		}
	}
}

func (f *File) checkTarget(path string, t Target, canary bool) {
	c := t.Check
	if !t.From.IsZero() {
		f.checkFrom(path, t, canary)
		t.Address = "192.0.2.1" // stands for those that the platform knows
	}
	if t.Address == "" {
		f.fail(path+".address", "is missing; write an IP address or a host name, or from")
		return
	}
	if err := f.Settings.Check.over(c).probe(t.Address).Validate(); err != nil {
		_, why, _ := strings.Cut(err.Error(), ": ")
		f.fail(path, "%s", why)
	}
}

func (f *File) checkFrom(path string, t Target, canary bool) {
	from := t.From
	switch {
	case canary:
		f.fail(path+".from", "a canary has nothing to do with the platform; give it an address")
	case t.Address != "":
		f.fail(path+".address", "there is from as well; remove one of the two")
	case (from.Sidecar != "") == (len(from.Etcd) > 0):
		f.fail(path+".from", "needs either sidecar and service, or etcd and prefix")
	case from.Sidecar != "" && from.Service == "":
		f.fail(path+".from.service", "is missing; it is the name of the service in the sidecar's catalogue")
	case len(from.Etcd) > 0 && !strings.HasPrefix(from.Prefix, "/"):
		f.fail(path+".from.prefix", "has to begin with /, for example /pancake/ingress/")
	}
}

// cloudflareTTL is the least that Cloudflare takes of enterprises; of others it is 60 s.
const cloudflareTTL = 30 * time.Second

func (f *File) checkRecords() {
	s := &f.Settings
	if len(s.Records) == 0 {
		f.fail("records", "is missing; list the records to manage, each with a name and its targets")
	}
	var known []string
	dynamic := map[string]bool{}
	for _, t := range s.Targets {
		known = append(known, t.Name)
		dynamic[t.Name] = !t.From.IsZero()
	}
	seen := map[dns.Key]int{}
	for i, r := range s.Records {
		path := fmt.Sprintf("records[%d]", i)
		key := r.key()
		if r.Name == "" {
			f.fail(path+".name", "is missing; write the whole domain name, for example www.example.com")
		}
		if before, twice := seen[key]; twice && r.Name != "" {
			f.fail(path, "%s is records[%d] already; sets of one name and type need a set each", key, before)
		}
		seen[key] = i
		if ttl := time.Duration(r.TTL); s.Provider.Name == Cloudflare && ttl > time.Second && ttl < cloudflareTTL {
			f.fail(path+".ttl", "Cloudflare takes 1s, which is automatic, or %s and more", cloudflareTTL)
		}
		if len(r.Targets) == 0 {
			f.fail(path+".targets", "is missing; list the targets whose addresses belong into the record")
		}
		for j, m := range r.Targets {
			at := fmt.Sprintf("%s.targets[%d]", path, j)
			if !slices.Contains(known, m.Target) {
				if near, ok := suggest.Nearest(m.Target, known); ok {
					f.fail(at, "there is no target %q; did you mean %s?", m.Target, near)
				} else {
					f.fail(at, "there is no target %q; list it under targets", m.Target)
				}
			}
			if dynamic[m.Target] && m.Value != "" {
				f.fail(at+".value", "%s are many; their own addresses are the values", m.Target)
			}
		}
		least := cmp.Or(r.MinHealthy, s.Safety.MinHealthy)
		if n := len(r.Targets); least > n && n > 0 && !slices.ContainsFunc(r.Targets, func(m Member) bool { return dynamic[m.Target] }) {
			f.fail(path, "min_healthy %d is more than the %d targets", least, n)
		}
		if r.Type == dns.Check && slices.ContainsFunc(r.Targets, func(m Member) bool { return m.Value == "" }) {
			f.fail(path+".targets", "each needs a value: the id of its health check")
		}
	}
}

// checkAPI sees to it that no token travels where others could read it, but on demand.
func (f *File) checkAPI() {
	api := f.Settings.API
	const advice = "for others to reach it, name an identity, or put a proxy that speaks TLS on this machine in front of 127.0.0.1, with a token_file; " +
		"plain_http: true, with the token_file, is for a network that only the proxy is on"
	switch {
	case api.Identity != "" && (api.TokenFile != "" || api.PlainHTTP):
		f.fail("api", "the API takes either certificates (identity) or a token (token_file, plain_http); remove one of the two")
	case api.Identity != "" || api.Listen == "" || serve.Loopback(api.Listen):
	case api.TokenFile == "":
		f.fail("api.listen", "%s can be reached by others, and the API would ask nobody who they are; %s", api.Listen, advice)
	case !api.PlainHTTP:
		f.fail("api.listen", "%s can be reached by others, who could read the token on the way: without an identity the API is plain HTTP; %s", api.Listen, advice)
	}
}

func (f *File) checkRest() {
	s := &f.Settings
	f.checkAPI()
	if len(s.Places) > 1 && s.Gossip.KeyFile == "" && !serve.Loopback(s.Gossip.Listen) {
		f.fail("gossip.key_file", "is missing; agents that talk over a network need a key: \"pancake goavail keygen goavail-gossip.key\" makes one, for all places")
	}
	for path, address := range map[string]string{
		"api.listen": s.API.Listen, "gossip.listen": s.Gossip.Listen, "gossip.advertise": s.Gossip.Advertise,
	} {
		if address != "" {
			f.checkHostPort(path, address)
		}
	}
	for path, percent := range map[string]int{"safety.panic_percent": s.Safety.PanicPercent, "safety.breaker_percent": s.Safety.BreakerPercent} {
		if percent < 0 || percent > 100 {
			f.fail(path, "%d is not between 1 and 100", percent)
		}
	}
	if s.Safety.ChangesPerHour < 0 || s.Safety.MinHealthy < 0 {
		f.fail("safety", "takes no negative numbers")
	}
	for path, h := range map[string]Hook{"webhook": s.Notify.Webhook, "slack": s.Notify.Slack, "pagerduty": s.Notify.PagerDuty} {
		f.checkHook("notify."+path, h)
	}
}

// Events are what hooks can ask for: the kinds of entries of the history.
var Events = []string{"change", "plan", "drift", "order", "writer", "alert"}

func (f *File) checkHook(path string, h Hook) {
	if h.File != "" && h.Env != "" {
		f.fail(path, "has both secret_file and secret_env; remove one of the two")
	}
	if h.URL != "" && path == "notify.slack" {
		f.fail(path+".url", "the address of a Slack webhook is a secret: put it in a file or a variable, and name that as secret_file or secret_env")
	}
	for i, e := range h.Events {
		if !slices.Contains(Events, e) {
			f.fail(fmt.Sprintf("%s.events[%d]", path, i), "%q is no event; %s", e, hint(e, Events))
		}
	}
}
