package sidecar

import (
	"cmp"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/sidecar/discover"
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
	// ExcludeIPs are never chosen as AdvertiseIP.
	ExcludeIPs []string

	// BindAddr and BindPort are where gossip listens, TCP and UDP. Defaults 0.0.0.0
	// and 7946; port -1 picks a free one.
	BindAddr string
	BindPort int
	// ClusterName keeps clusters apart that can reach each other. Default "default".
	ClusterName string
	// Seeds are some other hosts of the cluster, as host or host:port. They need not be up.
	Seeds []string
	// GossipKeys encrypt gossip with AES: 16, 24 or 32 bytes each, the first to
	// encrypt with, all to decrypt with. SetGossipKeys replaces them. Default: no encryption.
	GossipKeys [][]byte
	// PushPullInterval is how often everything is compared with one peer. Default 20 s.
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
	// Agent is the id of the agent on this node: containers that other agents
	// started on the same engine are left to them. "" announces those of all agents.
	Agent string
	// ForeignContainers also announces containers that no agent of Pancake started.
	ForeignContainers bool
	// NameLabel is the label that names a service. Default ServiceName.
	NameLabel string

	// DefaultCheckEndpoint is asked for where no label says how to check. Default /version.
	DefaultCheckEndpoint string
	// CheckInterval is the time between two checks. Default 3 s.
	CheckInterval time.Duration
	// CheckFall is how many failures in a row make a healthy service Sick. Default 1.
	CheckFall int

	// TraefikDomain is what the default rule puts behind a service's name. Default "localhost".
	TraefikDomain string
	// TraefikRule is the rule of routers without one. Default traefik.DefaultRule.
	TraefikRule string

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
	if cfg.AdvertiseIP == "" && !bind.IsUnspecified() {
		cfg.AdvertiseIP = cfg.BindAddr
	}
	cfg.AdvertiseIP = cmp.Or(cfg.AdvertiseIP, ownIP(cfg.ExcludeIPs))
	if ip, err := netip.ParseAddr(cfg.AdvertiseIP); err != nil || ip.IsUnspecified() {
		return cfg, pancake.Errorf(pancake.Invalid, "advertise IP %q is not an address that others could reach", cfg.AdvertiseIP)
	}
	cfg.BindPort = cmp.Or(cfg.BindPort, 7946)
	cfg.ClusterName = cmp.Or(cfg.ClusterName, "default")
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
	return cfg, nil
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

// FromEnv takes the settings that NinesStack Sidecar reads from its environment
// into cfg, where they are set. It fails on one that this Sidecar cannot honour.
func FromEnv(getenv func(string) string, cfg *Config) error {
	texts := map[string]*string{
		"SIDECAR_CLUSTER_NAME":           &cfg.ClusterName,
		"SIDECAR_ADVERTISE_IP":           &cfg.AdvertiseIP,
		"SIDECAR_DEFAULT_CHECK_ENDPOINT": &cfg.DefaultCheckEndpoint,
		"SERVICES_NAME_LABEL":            &cfg.NameLabel,
		"DOCKER_URL":                     &cfg.DockerHost,
	}
	for name, field := range texts {
		*field = cmp.Or(getenv(name), *field)
	}
	for name, field := range map[string]*[]string{"SIDECAR_SEEDS": &cfg.Seeds, "SIDECAR_EXCLUDE_IPS": &cfg.ExcludeIPs} {
		if list := splitList(getenv(name)); len(list) > 0 {
			*field = list
		}
	}
	if v := getenv("SIDECAR_BIND_PORT"); v != "" {
		port, err := strconv.ParseUint(v, 10, 16)
		if err != nil || port == 0 {
			return pancake.Errorf(pancake.Invalid, "SIDECAR_BIND_PORT: %q is not a port", v)
		}
		cfg.BindPort = int(port)
	}
	if v := getenv("SIDECAR_PUSH_PULL_INTERVAL"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Second {
			return pancake.Errorf(pancake.Invalid, "SIDECAR_PUSH_PULL_INTERVAL: %q is not a duration of a second or more, such as 20s", v)
		}
		cfg.PushPullInterval = d
	}
	for _, method := range splitList(getenv("SIDECAR_DISCOVERY")) {
		if method != "docker" {
			return pancake.Errorf(pancake.Invalid, "SIDECAR_DISCOVERY: %q is not supported; docker is", method)
		}
	}
	if v := getenv("SERVICES_NAMER"); v != "" && v != "docker_label" {
		return pancake.Errorf(pancake.Invalid, "SERVICES_NAMER: %q is not supported; docker_label is", v)
	}
	return nil
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
