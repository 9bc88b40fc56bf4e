// Package bridge connects a Pancake Sidecar with a cluster of NinesStack
// Sidecars, so that both run side by side while services move from one to the
// other. Each sees the services of both, under their true host names.
//
// A Bridge is a member of the old cluster: it keeps the catalogue of that side
// by the rules of that side, compares it with ours and evens out the
// differences (see package mirror). Several bridges may run; one mirrors. An
// Importer only reads, from the HTTP API of an old Sidecar.
package bridge

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/bridge/wire"
)

// Config says how a Bridge works. Ours, Host, Cluster and Seeds are required.
type Config struct {
	Ours Ours
	// Host is the name of this host in our cluster.
	Host string
	// Name is the bridge's name as a member of the old cluster. It must differ from
	// the name of every host: when a member leaves, the services of the host with
	// its name are ended there. Default "pancake-bridge-" and Host.
	Name string
	// Cluster is the name of the old cluster, SIDECAR_CLUSTER_NAME there.
	Cluster string
	// Seeds are some Sidecars of the old cluster, as host or host:port; the port is
	// 7946 by default. They need not be up.
	Seeds []string
	// BindAddr and BindPort are where the bridge listens, TCP and UDP. Defaults
	// 0.0.0.0 and 7947, since 7946 is our own gossip's; port -1 picks a free one.
	BindAddr string
	BindPort int
	// AdvertiseAddr and AdvertisePort are what the Sidecars connect to. Defaults: BindAddr,
	// or a private address of this host if that is 0.0.0.0, and BindPort.
	AdvertiseAddr string
	AdvertisePort int
	// PushPull is how often the state is exchanged with one Sidecar. It bounds how
	// late a drain of theirs is noticed, which they do not gossip. Default 10 s.
	PushPull time.Duration
	// Refresh is how old a record of ours may become there before it is repeated:
	// they end what they have not heard of for 80 s. Default 45 s.
	Refresh time.Duration
	// Quiet ends without a goodbye, so that a restart within seconds changes
	// nothing. Default: say goodbye, so that another bridge takes over at once.
	Quiet   bool
	Log     *slog.Logger          // default: none
	Metrics prometheus.Registerer // default: none
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Ours == nil || cfg.Host == "" {
		return cfg, pancake.Errorf(pancake.Internal, "a bridge needs a Sidecar of ours and its host's name")
	}
	if len(cfg.Seeds) == 0 {
		return cfg, pancake.Errorf(pancake.Invalid, "name at least one Sidecar of the old cluster to join")
	}
	cfg.Name = cmp.Or(cfg.Name, "pancake-bridge-"+cfg.Host)
	if cfg.Name == cfg.Host {
		return cfg, pancake.Errorf(pancake.Invalid, "the bridge needs a name other than that of its host, %q", cfg.Host)
	}
	cfg.BindAddr = cmp.Or(cfg.BindAddr, "0.0.0.0")
	if net.ParseIP(cfg.BindAddr) == nil {
		return cfg, pancake.Errorf(pancake.Invalid, "bind address %q is not an IP address", cfg.BindAddr)
	}
	if ip := net.ParseIP(cfg.AdvertiseAddr); cfg.AdvertiseAddr != "" && (ip == nil || ip.IsUnspecified()) {
		return cfg, pancake.Errorf(pancake.Invalid, "advertise address %q is not an IP address that others could reach", cfg.AdvertiseAddr)
	}
	cfg.BindPort = max(cmp.Or(cfg.BindPort, 7947), 0)
	cfg.PushPull = cmp.Or(cfg.PushPull, 10*time.Second)
	cfg.Refresh = cmp.Or(cfg.Refresh, defaultRefresh)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

// defaultRefresh, with the sixth that mirror adds and the seconds that gossip
// takes, is well below the 80 s after which a NinesStack Sidecar ends a record.
const defaultRefresh = 45 * time.Second

// Bridge is a member of the old cluster that mirrors services.
type Bridge struct {
	cfg    Config
	report *report
	member *member
	loop   *loop
}

// New checks cfg and makes a Bridge. Run starts it.
func New(cfg Config) (*Bridge, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	cluster, err := wire.NewCluster(cfg.Cluster)
	if err != nil {
		return nil, err
	}
	b := &Bridge{cfg: cfg, report: newReport("gossip", cfg.Log, cfg.Metrics)}
	b.loop = newLoop(cfg.Name, cfg.Cluster, cfg.Ours, cfg.Refresh, b.report)
	if b.member, err = newMember(cfg, cluster, b.loop, b.report); err != nil {
		return nil, err
	}
	b.loop.theirs = b.member
	return b, nil
}

// PortIsFree fails, with Conflict, if another program has the bridge's port. Run does so too;
// this is for who wants to know before something else is started.
func (b *Bridge) PortIsFree(ctx context.Context) error { return b.member.portIsFree(ctx) }

// Run works until ctx ends; then it says goodbye. It fails at once if it cannot listen.
func (b *Bridge) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.member.run(ctx) })
	group.Go(func() error { return b.loop.run(ctx) })
	return group.Wait()
}

// Status says what a bridge is doing.
type Status struct {
	Leading bool   // this bridge mirrors
	Leader  string // the member of the old cluster that does, "" while there is none
	Members int    // of the old cluster that are alive, bridges included
	Address string // host:port where the old cluster reaches this bridge, "" before it listens
}

// Status returns what the bridge is doing.
func (b *Bridge) Status() Status {
	s := b.loop.status()
	s.Address = b.member.address()
	return s
}

// Ready says what the bridge waits for, nil for nothing.
func (b *Bridge) Ready() error {
	if b.Status().Leader == "" {
		return pancake.Errorf(pancake.Unavailable, "no Sidecar of the old cluster answers; are %v up, and of the cluster %q?", b.cfg.Seeds, b.cfg.Cluster)
	}
	return nil
}

// seedAddress adds the default port of Sidecar's gossip.
func seedAddress(seed string) string {
	if _, _, err := net.SplitHostPort(seed); err == nil {
		return seed
	}
	return net.JoinHostPort(seed, strconv.Itoa(7946))
}
