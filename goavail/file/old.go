package file

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/pancake-stack/pancake"
)

// Old is the file of the goavail that came before. Its keys are matched as it did.
type Old struct {
	FailureThreshold int        `toml:"failure_threshold"`
	Interval         int        `toml:"interval"` // seconds
	Port             int        `toml:"port"`
	SlackAddr        string     `toml:"slack_addr"`
	Members          oldMembers `toml:"Members"`
	Cloudflare       *oldZone   `toml:"Cloudflare"`
	Route53          *oldZone   `toml:"Route53"`
}

type oldMembers struct {
	Peers         []string `toml:"peers"`
	LocalAddr     string   `toml:"local_addr"`
	MembersPort   any      `toml:"members_port"`
	MinPeersAgree int      `toml:"min_peers_agree"`
	CryptoKey     string   `toml:"crypto_key"`
}

type oldZone struct {
	Hostnames   []string `toml:"hostnames"`
	IPAddresses []string `toml:"ip_addresses"`
	Proxied     bool     `toml:"dns_proxied"`
	Domain      string   `toml:"dns_domain"`
	AWSDomain   string   `toml:"aws_domain"`
	TTL         int      `toml:"ttl"`
	ZoneID      string   `toml:"aws_zoneid"`
	Region      string   `toml:"aws_region"`
}

// OldFlags are the command-line flags of the old goavail that belong to its file.
type OldFlags struct {
	Type     string // ip or tcp; default tcp if there is a port
	Provider string // cloudflare or route53; needed if the file has both
}

// Convert turns the old file into Settings, and says what means something else now.
// It fails with Invalid for a file that cannot be read or says too little.
func Convert(name string, text []byte, flags OldFlags) (Settings, []string, error) {
	var old Old
	meta, err := toml.Decode(string(text), &old)
	if err != nil {
		if p, ok := errors.AsType[toml.ParseError](err); ok {
			return Settings{}, nil, pancake.Errorf(pancake.Invalid, "%s:%d: not valid TOML: %s", name, p.Position.Line, p.Message)
		}
		if m := typeError.FindStringSubmatch(err.Error()); m != nil {
			return Settings{}, nil, pancake.Errorf(pancake.Invalid, "%s:%s: %s: not as the old goavail reads it: %s", name, m[1], m[2], m[3])
		}
		return Settings{}, nil, pancake.Errorf(pancake.Invalid, "%s: not as the old goavail reads it: %w", name, err)
	}
	c := conversion{old: old, flags: flags}
	for _, key := range meta.Undecoded() {
		c.warn("%s: goavail never read this key; it has no effect", key)
	}
	if err := c.provider(); err != nil {
		return Settings{}, nil, pancake.Errorf(pancake.Invalid, "%s: %w", name, err)
	}
	c.checks()
	c.members()
	c.targets()
	if old.SlackAddr != "" {
		c.out.Notify.Slack.Env = "GOAVAIL_SLACK_URL"
		c.warn("slack_addr: put the whole address, https://hooks.slack.com/services/ and what slack_addr holds, in GOAVAIL_SLACK_URL; it is a secret and does not go into this file")
	}
	c.warn("dry run: instead of --dry-run, a new configuration is shown first and acted on after \"pancake goavail apply\"; dry_run: false goes without")
	c.warn("the last record of a name is never removed, and when more than half die at once all are kept; see safety")
	return c.out, c.warnings, nil
}

// typeError is how the library says that a value is of the wrong type.
var typeError = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*)"\): (.*)`)

type conversion struct {
	old      Old
	flags    OldFlags
	zone     *oldZone
	out      Settings
	warnings []string
}

func (c *conversion) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

func (c *conversion) provider() error {
	kind := c.flags.Provider
	both := c.old.Cloudflare != nil && c.old.Route53 != nil
	switch {
	case kind == "" && both:
		return errors.New("has both [Cloudflare] and [Route53]; say which one with --dns-provider, and convert twice for two agents")
	case kind == "" && c.old.Cloudflare != nil:
		kind = Cloudflare
	case kind == "":
		kind = Route53
	}
	switch kind {
	case Cloudflare:
		c.zone = c.old.Cloudflare
	case Route53:
		c.zone = c.old.Route53
	default:
		return fmt.Errorf("--dns-provider %q: the old goavail knew cloudflare and route53", kind)
	}
	if c.zone == nil || len(c.zone.Hostnames) == 0 || len(c.zone.IPAddresses) == 0 {
		return fmt.Errorf("says neither in [Cloudflare] nor in [Route53] which hostnames have which ip_addresses; is it the right file?")
	}
	c.out.Provider.Name = kind
	if kind == Cloudflare {
		c.out.Provider.Zones = zones(c.zone.Domain, "")
		c.warn("credentials: CF_API_KEY and CF_API_EMAIL still work; CF_API_TOKEN with an API token for the zone alone is better")
		return nil
	}
	c.out.Provider.Zones = zones(c.zone.AWSDomain, strings.TrimPrefix(c.zone.ZoneID, "/hostedzone/"))
	if c.zone.Region != "" {
		c.warn("Route53.aws_region: Route 53 is global, so that it is not needed any more; AWS_REGION is honoured for other calls")
	}
	c.warn("weights: the old goavail wrote sets with the identifier and weight of its own (name, weight 0); this one manages the set without an identifier: see docs/goavail/configuration.md for weighted sets, and \"pancake goavail plan\" before you apply")
	return nil
}

func zones(name, id string) []string {
	name = strings.TrimSuffix(name, ".")
	switch {
	case name == "":
		return nil
	case id != "":
		return []string{name + "=" + id}
	}
	return []string{name}
}

func (c *conversion) checks() {
	kind := c.flags.Type
	if kind == "" {
		kind = "tcp"
		if c.old.Port == 0 {
			kind = "ip"
		}
	}
	c.out.Check.Kind, c.out.Check.Port = "tcp", c.old.Port
	if kind == "ip" {
		c.out.Check.Kind, c.out.Check.Port = "icmp", 0
	}
	if c.old.Interval > 0 {
		c.out.Check.Interval = Duration(time.Duration(c.old.Interval) * time.Second)
	}
	if c.old.FailureThreshold > 0 {
		samples := c.old.FailureThreshold + 1
		c.out.Check.Fall, c.out.Check.Rise = samples, samples
		c.warn("failure_threshold %d: the old goavail acted on one sample more than that, so fall and rise are %d; %d is usually enough for fall", c.old.FailureThreshold, samples, c.old.FailureThreshold)
	}
	if kind == "tcp" {
		c.warn("timeout: the old goavail waited 10 s for a connection; now it is the interval, at most 5 s; set timeout to change that")
	}
}

// gossipPort is where agents listen now.
const gossipPort = 7951

func (c *conversion) members() {
	m := c.old.Members
	if m.MembersPort != nil {
		c.warn("Members.members_port: it was never used; agents talk on TCP and UDP port %d now", gossipPort)
	}
	if m.LocalAddr == "" && len(m.Peers) == 0 {
		c.out.Place = "here"
		return
	}
	for _, address := range slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(m.Peers), m.LocalAddr)))) {
		if address == "" {
			continue
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		name := strings.NewReplacer(".", "-", ":", "-").Replace(host)
		if address == m.LocalAddr {
			c.out.Place = name
		}
		c.out.Places = append(c.out.Places, Place{Name: name, Address: net.JoinHostPort(host, strconv.Itoa(gossipPort))})
	}
	c.warn("Members: agents talk on TCP and UDP port %d now instead of %s; give each place its region and provider", gossipPort, strings.Join(append(slices.Clone(m.Peers), m.LocalAddr), ", "))
	quorum := len(c.out.Places)/2 + 1
	c.warn("min_peers_agree %d: a change now needs more than half of all places, %d of %d, this one included", m.MinPeersAgree, quorum, len(c.out.Places))
	if len(c.out.Places)%2 == 0 {
		c.warn("%d places: an odd number stands more; with this one both halves of a split stop", len(c.out.Places))
	}
	c.out.Gossip.KeyFile = "goavail-gossip.key"
	if m.CryptoKey != "" {
		c.warn("Members.crypto_key: it was seen by whoever read the old file, and is not taken over")
	}
	c.warn("gossip.key_file: make the key with \"pancake goavail keygen goavail-gossip.key\", and give all agents the same")
}

func (c *conversion) targets() {
	var names []Member
	for _, ip := range c.zone.IPAddresses {
		name := "ip-" + strings.NewReplacer(".", "-", ":", "-").Replace(ip)
		c.out.Targets = append(c.out.Targets, Target{Name: name, Address: ip})
		names = append(names, Member{Target: name})
	}
	domain := strings.TrimSuffix(c.zone.Domain+c.zone.AWSDomain, ".")
	for _, host := range c.zone.Hostnames {
		full := strings.TrimSuffix(host, ".")
		if domain != "" && full != domain && !strings.HasSuffix(full, "."+domain) {
			full += "." + domain
		}
		c.out.Records = append(c.out.Records, Record{
			Name: full, Type: "A", TTL: Duration(time.Duration(c.zone.TTL) * time.Second), Proxied: c.zone.Proxied, Targets: names,
		})
	}
}
