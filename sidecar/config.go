package sidecar

import (
	"cmp"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// Method is a way to find services, by the name that NinesStack Sidecar has for it.
type Method string

// The methods.
const (
	ByDocker     Method = "docker"
	ByStatic     Method = "static"
	ByKubernetes Method = "kubernetes_api"
)

// Config says how a Sidecar works. The zero value is a Sidecar that stands
// alone and announces nothing but containers of Pancake's agents.
type Config struct {
	// Hostname is what this host's services carry. Unique in the cluster.
	// Default: the machine's.
	Hostname string
	// AdvertiseIP is where other hosts reach this one: its gossip and its
	// services. Default BindAddr, or the address from which the machine reaches
	// others; 127.0.0.1 if it reaches none.
	AdvertiseIP string
	// ExcludeIPs are never chosen as AdvertiseIP. Default, if nil: 192.168.168.168, on
	// which proxies listen.
	ExcludeIPs []string

	// BindAddr and BindPort are where gossip listens, TCP and UDP. Defaults 0.0.0.0
	// and 7946; port -1 picks a free one.
	BindAddr string
	BindPort int
	// Version is this program's, and Zone where the host is, such as a rack: both are
	// told to all members.
	Version, Zone string
	// ClusterName keeps clusters apart that can reach each other. Default "default".
	ClusterName string
	// Seeds are some other hosts of the cluster, as host or host:port. They need not be up.
	Seeds []string
	// GossipKeys encrypt gossip with AES: 16, 24 or 32 bytes each, the first to
	// encrypt with, all to decrypt with. SetGossipKeys replaces them. Default: no encryption.
	GossipKeys [][]byte
	// PushPullInterval is how often the list of members is compared with one peer.
	// Default: gossip's.
	PushPullInterval time.Duration

	// Quiet ends without telling the peers. They believe this host and its services
	// alive for the seconds that they need to notice, so that a restart or an upgrade
	// within them takes nothing out of traffic. Default: say goodbye.
	Quiet bool

	// HTTPAddr is where the API listens. Default 127.0.0.1:7777. Listener, if set,
	// is used instead; Run closes it.
	HTTPAddr string
	Listener net.Listener

	// TLSListener, if set, serves the API to other machines as well, over TLS with the
	// certificate of Identity, to those with a certificate of its cluster: any of them
	// may read; to change something takes an operator's. Run closes it.
	TLSListener net.Listener
	Identity    *identity.Source

	// DockerHost is the Docker engine, such as unix:///var/run/docker.sock.
	// Default: DOCKER_HOST, else that socket.
	DockerHost string
	// Engine is used instead of a client for DockerHost, if set.
	Engine discover.Engine
	// Passive announces nothing and needs no Docker.
	Passive bool
	// Discovery says where this host's services are looked for. Default ByDocker alone.
	Discovery []Method
	// Agent is the id of the agent on this node: containers that other agents
	// started on the same engine are left to them. "" announces those of all agents.
	Agent string
	// ForeignContainers also announces containers that no agent of Pancake started.
	ForeignContainers bool
	// Namer is how a container's service is named: discover.NameByLabel, NameByRegex
	// or NameByImage. Default NameByLabel.
	Namer string
	// NameLabel is the label that names a service. Default ServiceName.
	NameLabel string
	// NameMatch is the regular expression of NameByRegex: its first group, in the
	// container's name, names the service.
	NameMatch string
	// StaticFile is the file of ByStatic, in JSON or YAML; its changes count at once.
	StaticFile string
	// Kubernetes is where ByKubernetes looks; AdvertiseIP and Log are filled in, and
	// Node is Hostname by default.
	Kubernetes discover.KubernetesConfig
	// RegistrationsFile keeps what registers itself over the API, so that a restart
	// loses none. Default: memory alone.
	RegistrationsFile string

	// DefaultCheckEndpoint is asked for where no label says how to check. Default /version.
	DefaultCheckEndpoint string
	// CheckInterval is the time between two checks. Default 3 s.
	CheckInterval time.Duration
	// CheckTimeout bounds one check. Default 1 ms less than CheckInterval.
	CheckTimeout time.Duration
	// CheckRise is how many passes in a row make a service Alive, CheckFall how many
	// failures in a row make a healthy one Sick. Default 1.
	CheckRise, CheckFall int

	// ListenerURLs are told of each change of a service, with a POST.
	ListenerURLs []string
	// EnvoyAddr is where Envoy proxies get their configuration, over gRPC. Default: nowhere.
	EnvoyAddr string
	// EnvoyBindIP is where those proxies listen. Default 192.168.168.168.
	EnvoyBindIP string
	// EnvoyUseHostnames has them connect to what a host's name resolves to.
	EnvoyUseHostnames bool

	// DNSAddr is where services are answered over DNS, UDP and TCP. Default: nowhere.
	// DNSDomain is what the names end in. Default pancake.internal.
	DNSAddr, DNSDomain string
	// DNSTTL is how long an answer may be kept. Default 1 s.
	DNSTTL time.Duration

	// TraefikDomain is what the default rule puts behind a service's name. Default "localhost".
	TraefikDomain string
	// TraefikRule is the rule of routers without one. Default traefik.DefaultRule.
	TraefikRule string

	// Transport replaces the network that gossip uses, and Now the clock of the
	// catalogue: for tests. Default: UDP and TCP on BindAddr, and time.Now.
	Transport memberlist.Transport
	Now       func() time.Time

	Log *slog.Logger // default: none
	// Metrics is where the metrics are registered and what /metrics shows.
	// Default: a registry of its own.
	Metrics *prometheus.Registry
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return cfg, pancake.Errorf(pancake.Invalid, "the machine does not say its hostname; set one: %w", err)
		}
		cfg.Hostname = name
	}
	cfg.BindAddr = cmp.Or(cfg.BindAddr, "0.0.0.0")
	bind, err := netip.ParseAddr(cfg.BindAddr)
	if err != nil {
		return cfg, pancake.Errorf(pancake.Invalid, "bind address %q is not an IP address", cfg.BindAddr)
	}
	if cfg.ExcludeIPs == nil {
		cfg.ExcludeIPs = []string{"192.168.168.168"}
	}
	if cfg.AdvertiseIP == "" && !bind.IsUnspecified() {
		cfg.AdvertiseIP = cfg.BindAddr
	}
	cfg.AdvertiseIP = cmp.Or(cfg.AdvertiseIP, ownIP(cfg.ExcludeIPs))
	if ip, err := netip.ParseAddr(cfg.AdvertiseIP); err != nil || ip.IsUnspecified() {
		return cfg, pancake.Errorf(pancake.Invalid, "advertise IP %q is not an address that others could reach", cfg.AdvertiseIP)
	}
	cfg.BindPort = cmp.Or(cfg.BindPort, 7946)
	cfg.ClusterName = cmp.Or(cfg.ClusterName, "default")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.HTTPAddr = cmp.Or(cfg.HTTPAddr, "127.0.0.1:7777")
	if cfg.TLSListener != nil && cfg.Identity == nil {
		return cfg, pancake.Errorf(pancake.Internal, "a listener for TLS needs a certificate")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	return cfg.withSources()
}

// listens is where the API listens, as others are told.
func (cfg Config) listens() string {
	if cfg.Listener != nil {
		return cfg.Listener.Addr().String()
	}
	return cfg.HTTPAddr
}

// ownIP picks the address from which the machine reaches others, or else the
// first private one of its interfaces, or else loopback.
func ownIP(exclude []string) string {
	var candidates []string
	// A UDP socket that is connected shows the address that would be used;
	// nothing is sent. 192.0.2.1 is set aside for documentation.
	if conn, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		if addr, ok := conn.LocalAddr().(*net.UDPAddr); ok {
			candidates = append(candidates, addr.IP.String())
		}
		_ = conn.Close() // nothing was written
	}
	addrs, _ := net.InterfaceAddrs() // without any, loopback is left
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsPrivate() && n.IP.To4() != nil {
			candidates = append(candidates, n.IP.String())
		}
	}
	for _, c := range candidates {
		if !slices.Contains(exclude, c) {
			return c
		}
	}
	return "127.0.0.1"
}
