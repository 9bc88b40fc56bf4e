package main

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/executor/membership"
	"github.com/pancake-stack/pancake/internal/lifecycle"
	"github.com/pancake-stack/pancake/sidecar"
)

type agentFlags struct {
	nodeFlags
	scheduler   string
	advertise   string
	http        string
	https       string
	gossip      string
	seeds       string
	clusterName string
	domain      string
	dataDir     string
	drain       time.Duration
	foreign     bool
	join        string
	secure      bool
	insecure    bool
}

func newAgentCommand(env *environment) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node: the executor that runs tasks, and the Sidecar that announces them",
		Long: `Run a node. Its executor dials the scheduler, offers what the machine has, and
runs tasks as Docker containers; its Sidecar checks them, and tells all other
nodes by gossip. A restart leaves the containers alone and finds them again.
Without a scheduler all goes on as it is; the agent keeps dialling.

A node that others can reach joins the cluster with a token from "pancake token
create --agent": it gets a certificate, with which it knows the scheduler and the
scheduler knows it, and the keys that gossip is encrypted with. It keeps them under
--data-dir, so that a restart needs no token, and renews them by itself.`,
		Example: examples(
			"pancake agent --scheduler 127.0.0.1:7098",
			"pancake agent --scheduler 10.0.0.1:7098 --advertise 10.0.0.2 --join @/run/join-token",
			"pancake agent --advertise 127.0.0.2 --hostname node-2 --data-dir .pancake/node-2 \\",
			"    --attributes 'rack:r1' --resources 'cpus:1;mem:512' --seeds 127.0.0.3:7946",
		),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lookup, err := applyLegacy(cmd, env.lookup)
			if err != nil {
				return err
			}
			return runAgent(cmd.Context(), env, lookup, f)
		},
	}
	flags := cmd.Flags()
	f.addNode(flags)
	flags.StringVar(&f.scheduler, "scheduler", "127.0.0.1:7098", "`addresses` that the schedulers listen on for agents, host:port,…")
	flags.StringVar(&f.advertise, "advertise", "127.0.0.1", "`IP` address at which others reach this node and its tasks")
	flags.StringVar(&f.http, "http", "", "`address` that the Sidecar's API listens on (default: port 7777 of --advertise; of a secure node 127.0.0.1:7777)")
	flags.StringVar(&f.https, "https", "", "`address` that a secure node's Sidecar also listens on for other machines, which need a certificate of the cluster (default: none)")
	flags.StringVar(&f.gossip, "gossip", "", "`address` that gossip listens on (default: port 7946 of --advertise)")
	flags.StringVar(&f.seeds, "seeds", "", "`addresses` of some other nodes' gossip, host:port,…; they need not be up")
	flags.StringVar(&f.clusterName, "cluster-name", "default", "`name` of the cluster; nodes and schedulers of another are not talked to")
	flags.StringVar(&f.domain, "domain", "localhost", "`domain` below which services are routed: <service>.<domain>")
	flags.StringVar(&f.dataDir, "data-dir", ".pancake/agent", "`directory` for what must survive a restart")
	flags.DurationVar(&f.drain, "drain", 10*time.Second, "`time` that traffic gets to move away before a task is stopped")
	flags.BoolVar(&f.foreign, "foreign-containers", true, "also announce containers that Pancake did not start")
	f.addIdentity(flags)
	return cmd
}

func runAgent(ctx context.Context, env *environment, lookup func(string) (string, bool), f agentFlags) error {
	log, err := env.logger()
	if err != nil {
		return err
	}
	if err := f.settle(); err != nil {
		return err
	}
	dir, err := openDataDir(f.dataDir, "agent")
	if err != nil {
		return err
	}
	defer dir.close()
	ports := portSettings{sidecar.PortHTTP: "--http", sidecar.PortGossip: "--gossip", sidecar.PortEnvoy: "ENVOY_GRPC_PORT"}
	n, err := newNode(ctx, lookup, nodeConfig{agentFlags: f, dir: dir, log: log, ports: ports})
	if err != nil {
		return err
	}
	return ports.explain(runParts(ctx, env.say, log, n.parts(env.say), func() {
		env.say("\nPancake is ready: agent %s, Sidecar http://%s", n.id, f.http)
	}))
}

// node is the executor and the Sidecar of one machine.
type node struct {
	id         string
	sidecarURL string
	executor   *executor.Executor
	sidecar    *sidecar.Sidecar
	member     *membership.Member // nil when the node is not secure
}

// parts are the Sidecar first, for the executor learns its tasks' health there.
func (n *node) parts(say func(string, ...any)) []lifecycle.Part {
	parts := []lifecycle.Part{sidecarPart(n.sidecar)}
	if n.member != nil {
		parts = append(parts, lifecycle.Part{Name: "identity", Run: n.member.Run})
	}
	return append(parts, executorPart(n.executor, say))
}

// nodeConfig is what newNode builds from.
type nodeConfig struct {
	agentFlags
	dir   *dataDir
	log   logger
	ports portSettings
}

// newNode checks the settings, asks Docker whether it is there, and takes the
// addresses, so that whatever is in the way is said before anything starts.
func newNode(ctx context.Context, lookup func(string) (string, bool), cfg nodeConfig) (*node, error) {
	attributes, resources, err := cfg.words()
	if err != nil {
		return nil, err
	}
	hostname, err := cfg.host()
	if err != nil {
		return nil, err
	}
	gossipHost, gossipPort, err := splitHostPort("gossip", cfg.gossip)
	if err != nil {
		return nil, err
	}
	id, err := executor.AgentID(cfg.dir.path)
	if err != nil {
		return nil, err
	}
	engine := docker.Config{Host: cfg.docker}
	if err := pingDocker(ctx, engine); err != nil {
		return nil, err
	}
	n := &node{id: id, sidecarURL: "http://" + cfg.http}
	metrics := prometheus.NewRegistry() // of the whole node; the Sidecar serves it
	if err := n.enter(ctx, cfg, hostname, metrics); err != nil {
		return nil, err
	}
	side := sidecar.Config{
		Hostname: hostname, AdvertiseIP: cfg.advertise, BindAddr: gossipHost, BindPort: gossipPort,
		ClusterName: cfg.clusterName, Seeds: list(cfg.seeds), DockerHost: cfg.docker,
		Agent: id, ForeignContainers: cfg.foreign, TraefikDomain: cfg.domain,
		RegistrationsFile: cfg.dir.join("registrations.json"), Version: buildVersion(),
		Quiet: true, // the containers go on without us, so a restart must not take them out of traffic
		Log:   cfg.log.With("part", "sidecar"), Metrics: metrics,
	}
	if err := sidecar.FromEnv(lookup, &side); err != nil {
		return nil, err
	}
	if err := findsTasks(side); err != nil {
		return nil, err
	}
	if side.Listener, err = cfg.ports.listen(ctx, sidecar.PortHTTP, cfg.http); err != nil {
		return nil, err
	}
	if err := n.secureSidecar(ctx, cfg.https, &side); err != nil {
		return nil, err
	}
	if n.sidecar, err = sidecar.New(side); err != nil {
		return nil, err
	}
	exec := executor.Config{
		DataDir: cfg.dir.path, AgentID: id, Hostname: hostname, Address: cfg.advertise,
		SchedulerAddrs: list(cfg.scheduler), Attributes: attributes, Resources: resources, Version: buildVersion(),
		Docker: engine, CPULimit: executor.CPULimit(cfg.cpuLimit), SidecarURL: n.sidecarURL, DrainDuration: cfg.drain,
		Log: cfg.log.With("part", "executor"), Metrics: metrics,
	}
	if err := n.secureLink(&exec); err != nil {
		return nil, err
	}
	n.executor, err = executor.New(exec)
	return n, err
}

// findsTasks refuses a Sidecar that would never tell how the agent's tasks are.
func findsTasks(cfg sidecar.Config) error {
	if cfg.Passive || cfg.Discovery != nil && !slices.Contains(cfg.Discovery, sidecar.ByDocker) {
		return pancake.Errorf(pancake.Invalid, "SIDECAR_DISCOVERY: an agent's tasks are found by docker; have it among the methods, or unset the variable")
	}
	return nil
}

// pingDocker says early and plainly when there is no Docker engine.
func pingDocker(ctx context.Context, cfg docker.Config) error {
	engine, err := docker.New(cfg)
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return engine.Ping(ctx)
}
