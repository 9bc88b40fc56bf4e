package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/lifecycle"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/bridge"
)

const bridgeLong = `Let a cluster of NinesStack Sidecars and one of ours see each other's services, under
their true host names, while services move from one to the other. The bridge is a member of both: of
ours as a Sidecar that announces nothing itself, of the old one as a Sidecar of its kind. Several may run;
one of them mirrors, and another takes over when it ends.

Where only the API of the old cluster can be reached, --import mirrors from that into ours, one way.

The gossip of the old cluster is neither encrypted nor authenticated: whoever reaches the
bridge's port on that side can announce services. Let only the old hosts reach it.`

// bridgeFlags are the settings of "pancake sidecar bridge" besides those of its Sidecar.
type bridgeFlags struct {
	sidecarFlags
	cluster string
	seeds   []string
	bind    string
	reached string
	imports []string
}

func newSidecarBridgeCommand(env *environment, _ *string) *cobra.Command {
	var f bridgeFlags
	cmd := &cobra.Command{
		Use:   "bridge",
		Short: "Mirror services between a NinesStack Sidecar cluster and ours",
		Long:  bridgeLong,
		Example: examples(
			"pancake sidecar bridge --old-cluster prod --old-seeds 10.0.0.7,10.0.0.8 \\",
			"    --advertise 10.0.0.2 --seeds 10.0.0.3 --gossip-key-file gossip.key",
			"pancake sidecar bridge --old-seeds 10.0.0.7 --old-bind 0.0.0.0:7947 --old-advertise 192.0.2.5 --advertise 10.0.0.2 --seeds 10.0.0.3 --insecure",
			"pancake sidecar bridge --import http://10.0.0.7:7777 --advertise 10.0.0.2 --seeds 10.0.0.3 --gossip-key-file gossip.key",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runBridge(cmd.Context(), env, f) },
	}
	flags := cmd.Flags()
	f.addMember(flags)
	f.cfg.AdvertiseIP = "127.0.0.1"
	flags.StringVar(&f.cfg.HTTPAddr, "http", "127.0.0.1:7778", "`address` that the API of the bridge's own Sidecar listens on")
	flags.StringVar(&f.cluster, "old-cluster", "default", "`name` of the old cluster, its SIDECAR_CLUSTER_NAME")
	flags.StringSliceVar(&f.seeds, "old-seeds", nil, "`addresses` of some Sidecars of the old cluster, host or host:port,…; they need not be up")
	flags.StringVar(&f.bind, "old-bind", "", "`address` that the bridge listens on for the old cluster (default: port 7947 of --advertise)")
	flags.StringVar(&f.reached, "old-advertise", "", "`address` at which the old cluster reaches the bridge, IP or IP:port, where that is another than --old-bind (default: --old-bind)")
	flags.StringSliceVar(&f.imports, "import", nil, "`addresses` of the API of some Sidecars of an old cluster, to mirror from, one way")
	return cmd
}

func runBridge(ctx context.Context, env *environment, f bridgeFlags) error {
	log, err := env.logger()
	if err != nil {
		return err
	}
	if len(f.seeds) == 0 && len(f.imports) == 0 {
		return pancake.Errorf(pancake.Invalid, "say which Sidecars to mirror: --old-seeds, or --import where only their API can be reached")
	}
	f.methods, f.defaultPort = nil, bridgeGossipPort
	f.cfg.Seeds = withPort(f.cfg.Seeds, 7946)
	if f.cfg.Hostname == "" {
		host, err := os.Hostname()
		if err != nil {
			return pancake.Errorf(pancake.Invalid, "the machine has no host name; give one with --hostname: %w", err)
		}
		f.cfg.Hostname = host + "-bridge" // the machine may have a Sidecar of its own
	}
	if err := f.settle(); err != nil {
		return err
	}
	s, parts, err := sidecarParts(ctx, env, f.sidecarFlags, log)
	if err != nil {
		return err
	}
	more, err := f.parts(ctx, s, log, env.say)
	if err != nil {
		return err
	}
	return sidecarPorts.explain(runParts(ctx, env.say, log, append(parts, more...), func() {
		env.say("\nThe bridge is ready. Its Sidecar: http://%s", f.cfg.HTTPAddr)
	}))
}

// bridgeGossipPort is where the Sidecar of a bridge listens: the machine's own has 7946, and
// the old side 7947.
const bridgeGossipPort = 7948

// withPort adds the port of a Sidecar's gossip to the seeds that have none: they are not bridges,
// and by default a seed has the port of whoever joins it.
func withPort(seeds []string, port int) []string {
	out := make([]string, len(seeds))
	for i, seed := range seeds {
		out[i] = seed
		if _, _, err := net.SplitHostPort(seed); err != nil {
			out[i] = net.JoinHostPort(strings.Trim(seed, "[]"), strconv.Itoa(port))
		}
	}
	return out
}

// parts are the bridge, or the import, or both.
func (f *bridgeFlags) parts(ctx context.Context, s *sidecar.Sidecar, log logger, say func(string, ...any)) ([]lifecycle.Part, error) {
	var parts []lifecycle.Part
	if len(f.seeds) > 0 {
		host, port := f.cfg.AdvertiseIP, 7947
		if f.bind != "" {
			var err error
			if host, port, err = splitHostPort("old-bind", f.bind); err != nil {
				return nil, err
			}
		}
		if port == 0 {
			port = -1
		}
		announced, announcedPort, err := f.announced()
		if err != nil {
			return nil, err
		}
		b, err := bridge.New(bridge.Config{
			Ours: s.Ours(), Host: f.cfg.Hostname, Cluster: f.cluster, Seeds: f.seeds, BindAddr: host, BindPort: port,
			AdvertiseAddr: announced, AdvertisePort: announcedPort, Log: log.With("part", "bridge"), Metrics: s.Metrics(),
		})
		if err != nil {
			return nil, err
		}
		if err := b.PortIsFree(ctx); err != nil {
			return nil, pancake.Errorf(pancake.KindOf(err), "%w\nThe address is that of --old-bind.", err)
		}
		parts = append(parts, waiting("bridge", b.Run, b.Ready, say))
	}
	if len(f.imports) > 0 {
		im, err := bridge.NewImporter(bridge.ImportConfig{Ours: s.Ours(), URLs: f.imports, Log: log.With("part", "import"), Metrics: s.Metrics()})
		if err != nil {
			return nil, err
		}
		parts = append(parts, waiting("import", im.Run, im.Ready, say))
	}
	return parts, nil
}

// announced is what --old-advertise says, with port 0 for that of --old-bind.
func (f *bridgeFlags) announced() (host string, port int, err error) {
	host = f.reached
	if host == "" || net.ParseIP(host) != nil {
		return host, 0, nil
	}
	if host, port, err = splitHostPort("old-advertise", f.reached); err != nil || port == 0 || net.ParseIP(host) == nil {
		return "", 0, pancake.Errorf(pancake.Invalid, "--old-advertise %q is neither an IP address nor one with a port, for example 10.0.0.2:7947", f.reached)
	}
	return host, port, nil
}

// waiting is a part that is ready when ready returns nil, however long that takes; say
// tells what it waits for.
func waiting(name string, run func(context.Context) error, ready func() error, say func(string, ...any)) lifecycle.Part {
	poll := func(ctx context.Context) error {
		return lifecycle.Poll(ctx, func(context.Context) error { return ready() })
	}
	return lifecycle.Part{
		Name: name, Run: run, ReadyWithin: lifecycle.AsLongAsItTakes,
		Ready: patiently(poll, func(err error) { say("%-10s waits: %v", name, err) }),
	}
}
