package goavail

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/vote"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
)

// Config says how an Agent works. Place, Provider, DataDir, Targets and Records are required.
type Config struct {
	// Cluster is what the agents that vote together have in common. Default "default".
	Cluster string
	// Place is this agent's name among Places. Each place has one agent.
	Place string
	// Places are all that vote, this one included; more than half of them have to agree.
	// Default: this one alone.
	Places []Place
	// Owner marks the records that are ours. Default: Cluster.
	Owner string

	Targets []Target
	Records []Record
	// Canaries have nothing to do with the targets. While more than half of them do not
	// answer, this place abstains instead of voting "down". CanaryNeed is how many have to
	// answer instead of that.
	Canaries   []Target
	CanaryNeed int

	// Provider holds the records. Identity tells it apart from others of its kind, such as
	// by its zone: another one has to be confirmed again.
	Provider dns.Provider
	Identity string
	Rules    vote.Rules
	// NoDryRun acts at once. Otherwise a configuration that is new has to be confirmed
	// once, by Agent.Apply on any agent; until then what would be done is only shown.
	NoDryRun bool

	// VoteEvery is how often votes are repeated; changes are told at once. Default 1 s.
	VoteEvery time.Duration
	// VoteTTL is how long a vote holds that is not repeated. Default ten times VoteEvery.
	VoteTTL time.Duration
	// ReadEvery is how often the writer compares the live records with what they should
	// be; others read them five times more seldom. Default 1 min.
	ReadEvery time.Duration
	// Lease is how long a writer that vanished stays the writer. Default 10 s.
	Lease time.Duration
	// RetryMin and RetryMax bound the wait after a failure of the provider, which doubles
	// each time. Defaults 1 s and 1 min.
	RetryMin, RetryMax time.Duration

	// DataDir is where the agent remembers things. Not to be shared.
	DataDir string

	// BindAddr and BindPort are where gossip listens, TCP and UDP. Defaults: 0.0.0.0, or
	// 127.0.0.1 if there is only one place, and 7951; port -1 picks a free one.
	BindAddr      string
	BindPort      int
	AdvertiseAddr string
	AdvertisePort int
	// GossipKeys encrypt gossip with AES: 16, 24 or 32 bytes each, the first to encrypt
	// with, all to decrypt with. Required with several places, unless all are on loopback.
	GossipKeys [][]byte

	// Transport replaces gossip's network, for tests.
	Transport memberlist.Transport

	// Etcd elects the writer, if set, instead of the places themselves. The caller closes it.
	Etcd *clientv3.Client

	// HTTPAddr is where the API listens. Default 127.0.0.1:7950. Listener, if set, is used
	// instead; Run closes it. Beyond loopback a Certificate is required, or PlainHTTP with a
	// Token.
	HTTPAddr string
	Listener net.Listener
	// Token is what all who ask have to bring. It travels as it is: without a Certificate
	// the API is plain HTTP, made for a proxy on this machine that speaks TLS.
	Token string
	// PlainHTTP allows that beyond loopback as well, where whoever sees the traffic can take
	// the Token: for a network that only the proxy is on.
	PlainHTTP bool
	// Certificate, if set, has the API serve TLS with it, to those with one of the same
	// cluster: any of them may read, an operator's may give orders.
	Certificate *identity.Source

	// Resolvers are asked what DNS answers, as host or host:port. Default: the system's.
	Resolvers []string
	// Notify is told what happens here: entries of this agent's own making. It may take its
	// time; what comes meanwhile is queued, and dropped if that is too much.
	Notify func(context.Context, client.Entry)

	Log *slog.Logger // default: none
	// Metrics is where the metrics are registered and what /metrics shows. Default: its own.
	Metrics *prometheus.Registry
}

// Place is somewhere to look from. Places count as different only if they differ in
// region or provider.
type Place struct {
	Name     string
	Region   string
	Provider string            // of the machine there, such as aws
	Address  string            // host:port of its gossip; "" if it calls the others
	Key      ed25519.PublicKey // of its agent; see package gossip for what is checked without
}

// Target is something whose health decides about records.
type Target struct {
	Name string
	// Check says how it is probed. Check.Address is also the value of records that give none.
	Check probe.Check
	// Drain takes it out of service, as far as others are left: it is about to go.
	Drain bool
}

// Record is one set of records, or a switched set.
type Record struct {
	dns.Key
	TTL     int // of what is created, in seconds. Default: the provider's
	Policy  dns.Policy
	Proxied bool
	Members []Member // in the order of preference
	// MinHealthy is how many members stay in service, come what may. Default 1. While there
	// are fewer, such as when the platform has lost some, none is taken out, not even one
	// that is not listed any more.
	MinHealthy int
	// Serve is how many members are in service at a time: the first that are up.
	// Default: all; of a CNAME 1.
	Serve int
	// MayEmpty allows to empty the set while another of the same name and type has enough
	// members that are up.
	MayEmpty bool
}

// Member is one value of a set.
type Member struct {
	Target string
	Value  string // default: the address of the target
}

func (cfg Config) withDefaults() Config {
	cfg.Cluster = cmp.Or(cfg.Cluster, "default")
	cfg.Owner = cmp.Or(cfg.Owner, cfg.Cluster)
	if len(cfg.Places) == 0 {
		cfg.Places = []Place{{Name: cfg.Place}}
	}
	if len(cfg.Places) == 1 {
		cfg.BindAddr = cmp.Or(cfg.BindAddr, "127.0.0.1")
	}
	cfg.BindAddr = cmp.Or(cfg.BindAddr, "0.0.0.0")
	cfg.VoteEvery = cmp.Or(cfg.VoteEvery, time.Second)
	cfg.VoteTTL = cmp.Or(cfg.VoteTTL, 10*cfg.VoteEvery)
	cfg.ReadEvery = cmp.Or(cfg.ReadEvery, time.Minute)
	cfg.Lease = cmp.Or(cfg.Lease, 10*time.Second)
	cfg.RetryMin, cfg.RetryMax = cmp.Or(cfg.RetryMin, time.Second), cmp.Or(cfg.RetryMax, time.Minute)
	cfg.HTTPAddr = cmp.Or(cfg.HTTPAddr, "127.0.0.1:7950")
	cfg.Targets, cfg.Records = targetDefaults(cfg.Targets), recordDefaults(cfg.Records, cfg.Targets)
	cfg.Canaries = targetDefaults(cfg.Canaries)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	return cfg
}

func targetDefaults(targets []Target) []Target {
	targets = slices.Clone(targets)
	for i, t := range targets {
		targets[i].Check = t.Check.WithDefaults()
	}
	return targets
}

func recordDefaults(records []Record, targets []Target) []Record {
	address := map[string]string{}
	for _, t := range targets {
		address[t.Name] = t.Check.Address
	}
	records = slices.Clone(records)
	for i := range records {
		r := &records[i]
		if r.Type = strings.ToUpper(r.Type); !r.Switched() {
			r.Name = dns.Clean(r.Name)
		}
		r.MinHealthy = cmp.Or(r.MinHealthy, 1)
		if r.Type == dns.CNAME {
			r.Serve = 1
		}
		r.Members = slices.Clone(r.Members)
		for j, m := range r.Members {
			m.Value = cmp.Or(m.Value, address[m.Target])
			if r.Type == dns.CNAME {
				m.Value = dns.Clean(m.Value)
			}
			r.Members[j] = m
		}
	}
	return records
}

// hash tells configurations apart that would write different things: where to, which
// sets, and within which bounds. Targets may come and go without.
func (cfg Config) hash() string {
	keys := []string{cfg.Provider.Capabilities().Name, cfg.Identity, cfg.Cluster, cfg.Owner}
	for _, r := range cfg.Records {
		line, _ := json.Marshal([]any{r.Key, r.MinHealthy, r.Serve, r.MayEmpty}) // strings and numbers always can be
		keys = append(keys, string(line))
	}
	slices.Sort(keys[4:])
	rules, _ := json.Marshal(cfg.Rules) // numbers always can be
	var places []string
	for _, p := range cfg.Places {
		places = append(places, p.Name)
	}
	slices.Sort(places)
	keys = append(keys, places...)
	sum := sha256.Sum256([]byte(strings.Join(append(keys, string(rules)), "\x00")))
	return hex.EncodeToString(sum[:8])
}

func (cfg Config) validate() error {
	invalid := func(format string, args ...any) error { return pancake.Errorf(pancake.Invalid, format, args...) }
	switch {
	case cfg.Place == "":
		return invalid("a name for this place is needed")
	case cfg.Provider == nil:
		return invalid("a provider that holds the records is needed")
	case cfg.DataDir == "":
		return invalid("a data directory is needed")
	case len(cfg.Owner) > 64: // Cloudflare's comments have 100 characters with the free plan
		return invalid("owner %q is longer than 64 bytes", cfg.Owner)
	case strings.ContainsAny(cfg.Owner, ",\" \t\r\n;"):
		return invalid("owner %q must not contain blanks, commas, quotes or semicolons", cfg.Owner)
	case cfg.VoteEvery < 50*time.Millisecond || cfg.VoteTTL < 2*cfg.VoteEvery:
		return invalid("votes have to be repeated at most every 50ms, and to hold for at least twice as long as that")
	case cfg.Lease < time.Second || cfg.Lease > 5*time.Minute:
		return invalid("lease %s is not between 1s and 5m", cfg.Lease)
	case min(cfg.Rules.PanicPercent, cfg.Rules.BreakerPercent, cfg.Rules.ChangesPerHour) < 0 || cfg.Rules.PanicWindow < 0,
		max(cfg.Rules.PanicPercent, cfg.Rules.BreakerPercent) > 100:
		return invalid("the rules for panic, breaker and budget have to be percentages and numbers of at least 0")
	case cfg.ReadEvery < 100*time.Millisecond || cfg.ReadEvery > 24*time.Hour:
		return invalid("the live records have to be read between every 100ms and every 24h, not every %s", cfg.ReadEvery)
	case cfg.RetryMin < time.Millisecond || cfg.RetryMax < cfg.RetryMin || cfg.RetryMax > time.Hour:
		return invalid("what failed is tried again after %s to %s, which have to be between 1ms and 1h", cfg.RetryMin, cfg.RetryMax)
	}
	if err := cfg.validateAPI(); err != nil {
		return err
	}
	if err := cfg.validatePlaces(); err != nil {
		return err
	}
	return validateTargets(cfg.Targets, cfg.Canaries, cfg.Records, cfg.Provider.Capabilities())
}

func (cfg Config) validateAPI() error {
	switch {
	case cfg.Certificate != nil && cfg.Token != "":
		return pancake.Errorf(pancake.Invalid, "the API takes certificates or a token; choose one")
	case cfg.Listener != nil || cfg.Certificate != nil || serve.Loopback(cfg.HTTPAddr) || cfg.Token != "" && cfg.PlainHTTP:
		return nil
	case cfg.Token != "":
		return pancake.Errorf(pancake.Invalid, "the API at %s would take its token over plain HTTP; give it a certificate, keep it on loopback, or allow plain HTTP", cfg.HTTPAddr)
	}
	return pancake.Errorf(pancake.Invalid, "the API at %s can be reached by others; give it a certificate or keep it on loopback", cfg.HTTPAddr)
}

func (cfg Config) validatePlaces() error {
	names, spots := map[string]bool{}, map[[2]string]string{}
	for _, p := range cfg.Places {
		spot := [2]string{p.Region, p.Provider}
		switch {
		case p.Name == "" || names[p.Name]:
			return pancake.Errorf(pancake.Invalid, "place %q: each place needs a name of its own", p.Name)
		case spot != [2]string{} && spots[spot] != "":
			return pancake.Errorf(pancake.Invalid, "places %s and %s are both in region %q of %q: what cuts one off cuts off the other, so they are one place",
				spots[spot], p.Name, p.Region, p.Provider)
		}
		names[p.Name], spots[spot] = true, p.Name
	}
	switch {
	case !names[cfg.Place]:
		return pancake.Errorf(pancake.Invalid, "place %q is not among the places that are listed", cfg.Place)
	case len(cfg.Places) > 1 && len(cfg.GossipKeys) == 0 && !serve.Loopback(cfg.BindAddr):
		return pancake.Errorf(pancake.Invalid, "agents that talk over a network need a gossip key")
	}
	return nil
}

func validateTargets(targets, canaries []Target, records []Record, can dns.Capabilities) error {
	known := map[string]bool{}
	for _, t := range slices.Concat(targets, canaries) {
		if t.Name == "" || known[t.Name] || len(t.Name) > 128 {
			return pancake.Errorf(pancake.Invalid, "target %q: each target, and canary, needs a name of its own of at most 128 bytes", t.Name)
		}
		known[t.Name] = true
		if err := t.Check.Validate(); err != nil {
			return pancake.Errorf(pancake.Invalid, "target %s: %w", t.Name, err)
		}
	}
	for _, c := range canaries {
		delete(known, c.Name)
	}
	seen := map[dns.Key]bool{}
	for _, r := range records {
		if seen[r.Key] {
			return pancake.Errorf(pancake.Invalid, "record %s is listed twice", r.Key)
		}
		seen[r.Key] = true
		if err := r.validate(known, can); err != nil {
			return err
		}
	}
	return nil
}

func (r Record) validate(targets map[string]bool, can dns.Capabilities) error {
	invalid := func(format string, args ...any) error {
		return pancake.Errorf(pancake.Invalid, "record "+strings.ReplaceAll(r.Key.String(), "%", "%%")+": "+format, args...)
	}
	switch {
	case r.Name == "" || len(r.Key.String()) > 512:
		return invalid("a name is needed")
	case !slices.Contains(can.Types, r.Type):
		return invalid("%s does not have type %q; it has %s", can.Name, r.Type, strings.Join(can.Types, ", "))
	case r.Set != "" && !can.Sets:
		return invalid("%s has no sets of one name", can.Name)
	case r.TTL < 0 || r.TTL > 7*24*3600:
		return invalid("TTL %d is not between 0 and a week", r.TTL)
	case r.Type == dns.CNAME && r.Serve != 1:
		return invalid("a CNAME has one value")
	case r.MinHealthy < 1 || r.Serve < 0 || r.Serve > 0 && r.MinHealthy > r.Serve:
		return invalid("min_healthy %d has to be at least 1, and at most what serves at a time", r.MinHealthy)
	}
	values := map[string]bool{}
	for _, m := range r.Members {
		switch {
		case !targets[m.Target]:
			return invalid("target %q is not listed", m.Target)
		case m.Value == "" || values[m.Value]:
			return invalid("each member needs a value of its own, not %q", m.Value)
		}
		values[m.Value] = true
		if err := checkValue(r.Type, m.Value); err != nil {
			return invalid("%w", err)
		}
	}
	return nil
}

// checkValue sees to it that a value is what the type holds.
func checkValue(kind, value string) error {
	ip := net.ParseIP(value)
	switch {
	case kind == dns.A && (ip == nil || ip.To4() == nil || ip.String() != value):
		return pancake.Errorf(pancake.Invalid, "%q is not an IPv4 address", value)
	case kind == dns.AAAA && (ip == nil || ip.To4() != nil || ip.String() != value):
		return pancake.Errorf(pancake.Invalid, "%q is not an IPv6 address in its shortest form", value)
	case kind == dns.CNAME && ip != nil:
		return pancake.Errorf(pancake.Invalid, "%q is an address; a CNAME holds a name", value)
	}
	return nil
}
