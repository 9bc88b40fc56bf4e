// Package file reads what an agent of goavail is told in a YAML file, and the TOML of
// the goavail that came before. Every mistake is reported with its place in the file;
// secrets are never in the file itself, only the names of files and variables that hold them.
package file

import (
	"time"
)

// Settings are the keys of the file. docs/goavail/configuration.md explains each.
type Settings struct {
	Cluster string  `yaml:"cluster,omitempty"`
	Owner   string  `yaml:"owner,omitempty"`
	Place   string  `yaml:"place,omitempty"`
	Places  []Place `yaml:"places,omitempty"`
	DataDir string  `yaml:"data_dir,omitempty"`
	DryRun  *bool   `yaml:"dry_run,omitempty"`

	API    API      `yaml:"api,omitempty"`
	Gossip Gossip   `yaml:"gossip,omitempty"`
	Etcd   []string `yaml:"etcd,omitempty"`
	// EtcdAccess is for every etcd that is named here.
	EtcdAccess EtcdAccess `yaml:"etcd_access,omitempty"`
	Provider   Provider   `yaml:"provider,omitempty"`

	Check      Check    `yaml:"check,omitempty"`
	Targets    []Target `yaml:"targets,omitempty"`
	Canaries   []Target `yaml:"canaries,omitempty"`
	CanaryNeed int      `yaml:"canary_need,omitempty"`
	Records    []Record `yaml:"records,omitempty"`

	Safety    Safety   `yaml:"safety,omitempty"`
	Timing    Timing   `yaml:"timing,omitempty"`
	Resolvers []string `yaml:"resolvers,omitempty"`
	Notify    Notify   `yaml:"notify,omitempty"`
}

// Place is one vantage point.
type Place struct {
	Name     string `yaml:"name"`
	Region   string `yaml:"region,omitempty"`
	Provider string `yaml:"provider,omitempty"`
	Address  string `yaml:"address,omitempty"`
	Key      string `yaml:"key,omitempty"` // base64 of the 32 bytes
}

// API is where the agent answers.
type API struct {
	Listen    string `yaml:"listen,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
	PlainHTTP bool   `yaml:"plain_http,omitempty"` // beyond loopback, with the token
	Identity  string `yaml:"identity,omitempty"`   // directory with identity.pem and ca.pem
}

// EtcdAccess is what an etcd asks of its clients: see etcd.Access.
type EtcdAccess struct {
	CA           string `yaml:"ca,omitempty"`
	Cert         string `yaml:"cert,omitempty"`
	Key          string `yaml:"key,omitempty"`
	User         string `yaml:"user,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
}

// Gossip is how agents talk to each other.
type Gossip struct {
	Listen    string `yaml:"listen,omitempty"`
	Advertise string `yaml:"advertise,omitempty"`
	KeyFile   string `yaml:"key_file,omitempty"`
}

// The providers.
const (
	Cloudflare = "cloudflare"
	Route53    = "route53"
	RFC2136    = "rfc2136"
)

// Provider says who holds the records.
type Provider struct {
	Name    string   `yaml:"name"`
	Zones   []string `yaml:"zones,omitempty"` // Route 53: also name=id
	URL     string   `yaml:"url,omitempty"`
	Timeout Duration `yaml:"timeout,omitempty"`

	// Of Cloudflare:
	TokenFile string `yaml:"token_file,omitempty"`
	Account   string `yaml:"account,omitempty"`
	Requests  int    `yaml:"requests,omitempty"` // per 5 minutes
	// Of Route 53:
	Profile   string  `yaml:"profile,omitempty"`
	PerSecond float64 `yaml:"per_second,omitempty"`
	// Of RFC 2136:
	Server        string `yaml:"server,omitempty"`
	TSIGKeyFile   string `yaml:"tsig_key_file,omitempty"` // as tsig-keygen prints it, or
	TSIGName      string `yaml:"tsig_name,omitempty"`     // with the secret in GOAVAIL_TSIG_SECRET
	TSIGAlgorithm string `yaml:"tsig_algorithm,omitempty"`
}

// Check is how a target is probed; what is left out is as in Settings.Check.
type Check struct {
	Kind       string   `yaml:"kind,omitempty"`
	Port       int      `yaml:"port,omitempty"`
	Interval   Duration `yaml:"interval,omitempty"`
	Timeout    Duration `yaml:"timeout,omitempty"`
	Recheck    Duration `yaml:"recheck,omitempty"`
	Fall       int      `yaml:"fall,omitempty"`
	Rise       int      `yaml:"rise,omitempty"`
	Path       string   `yaml:"path,omitempty"`
	Method     string   `yaml:"method,omitempty"`
	Host       string   `yaml:"host,omitempty"`
	Status     string   `yaml:"status,omitempty"`
	Body       string   `yaml:"body,omitempty"`
	SNI        string   `yaml:"sni,omitempty"`
	CA         string   `yaml:"ca,omitempty"`
	SkipVerify *bool    `yaml:"skip_verify,omitempty"`
	CertValid  Duration `yaml:"cert_valid,omitempty"`
	Follow     *bool    `yaml:"follow,omitempty"`
	Service    string   `yaml:"service,omitempty"`
	TLS        *bool    `yaml:"tls,omitempty"`
	Query      string   `yaml:"query,omitempty"`
	Type       string   `yaml:"type,omitempty"`
	Answer     string   `yaml:"answer,omitempty"`
}

// Target is something that is probed, or with From many such things.
type Target struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address,omitempty"`
	From    From   `yaml:"from,omitempty"`
	Check   `yaml:",inline"`
}

// From says that the platform knows the addresses of a target.
type From struct {
	Sidecar     string            `yaml:"sidecar,omitempty"` // URL
	Service     string            `yaml:"service,omitempty"`
	ServicePort int               `yaml:"service_port,omitempty"`
	Etcd        []string          `yaml:"etcd,omitempty"`
	Prefix      string            `yaml:"prefix,omitempty"`
	Addresses   map[string]string `yaml:"addresses,omitempty"` // public, by host
}

// IsZero says that the addresses are listed by hand.
func (f From) IsZero() bool {
	return f.Sidecar == "" && f.Service == "" && len(f.Etcd) == 0 && f.Prefix == ""
}

// Record is one set.
type Record struct {
	Name       string   `yaml:"name"`
	Type       string   `yaml:"type,omitempty"` // default A
	Set        string   `yaml:"set,omitempty"`
	TTL        Duration `yaml:"ttl,omitempty"`
	Proxied    bool     `yaml:"proxied,omitempty"`
	Policy     Policy   `yaml:"policy,omitempty"`
	MinHealthy int      `yaml:"min_healthy,omitempty"`
	Serve      int      `yaml:"serve,omitempty"`
	MayEmpty   bool     `yaml:"may_empty,omitempty"`
	Targets    []Member `yaml:"targets"`
}

// Policy is how Route 53 picks among the sets of one name.
type Policy struct {
	Kind      string `yaml:"kind,omitempty"`
	Weight    int    `yaml:"weight,omitempty"`
	Region    string `yaml:"region,omitempty"`
	Failover  string `yaml:"failover,omitempty"`
	Continent string `yaml:"continent,omitempty"`
	Country   string `yaml:"country,omitempty"`
	State     string `yaml:"state,omitempty"`
	CheckID   string `yaml:"check_id,omitempty"`
}

// Member is a target's name, or that and another value than its address.
type Member struct {
	Target string `yaml:"target"`
	Value  string `yaml:"value,omitempty"`
}

func (m *Member) setText(s string) { m.Target = s }

// MarshalYAML writes just the name where that is all.
func (m Member) MarshalYAML() (any, error) {
	if m.Value == "" {
		return m.Target, nil
	}
	return map[string]string{"target": m.Target, "value": m.Value}, nil
}

// Safety bounds what is done.
type Safety struct {
	MinHealthy     int      `yaml:"min_healthy,omitempty"` // of records that do not say
	PanicPercent   int      `yaml:"panic_percent,omitempty"`
	PanicWindow    Duration `yaml:"panic_window,omitempty"`
	ChangesPerHour int      `yaml:"changes_per_hour,omitempty"`
	BreakerPercent int      `yaml:"breaker_percent,omitempty"`
	Damping        Damping  `yaml:"damping,omitempty"`
}

// Damping holds back what comes and goes.
type Damping struct {
	Off      bool     `yaml:"off,omitempty"`
	HalfLife Duration `yaml:"half_life,omitempty"`
	Suppress float64  `yaml:"suppress,omitempty"`
	Reuse    float64  `yaml:"reuse,omitempty"`
}

// Timing is how often things are done.
type Timing struct {
	VoteEvery Duration `yaml:"vote_every,omitempty"`
	VoteTTL   Duration `yaml:"vote_ttl,omitempty"`
	ReadEvery Duration `yaml:"read_every,omitempty"`
	Lease     Duration `yaml:"lease,omitempty"`
	RetryMin  Duration `yaml:"retry_min,omitempty"`
	RetryMax  Duration `yaml:"retry_max,omitempty"`
}

// Notify says whom to tell what happens.
type Notify struct {
	Webhook   Hook `yaml:"webhook,omitempty"`
	Slack     Hook `yaml:"slack,omitempty"`
	PagerDuty Hook `yaml:"pagerduty,omitempty"`
}

// Hook is one of them. What Slack and PagerDuty know an account by is a secret: a file or
// a variable has it.
type Hook struct {
	URL    string   `yaml:"url,omitempty"` // not of Slack
	File   string   `yaml:"secret_file,omitempty"`
	Env    string   `yaml:"secret_env,omitempty"`
	Events []string `yaml:"events,omitempty"`
}

// IsZero says that there is none.
func (h Hook) IsZero() bool { return h.URL == "" && h.File == "" && h.Env == "" }

// Duration is written as 1s or 5m.
type Duration time.Duration

// MarshalYAML writes it as it is read.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }
