package main

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/config"
	"github.com/pancake-stack/pancake/internal/lifecycle"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// autoAdvertise is the --advertise that asks the machine for its address.
const autoAdvertise = "auto"

// noDiscovery is the --discovery that announces nothing.
const noDiscovery = "none"

const sidecarLong = `Run a Sidecar alone: it finds the services of this machine, checks them, tells all
others by gossip, and serves what it knows of the whole cluster over HTTP. It needs
neither a scheduler nor an agent; "pancake agent" has a Sidecar of its own.

Beyond loopback gossip needs a key, which all Sidecars of the cluster share: a file
with 32 random bytes in base64, a key a line. The first encrypts, all decrypt; the
file is read again when it changes.

The environment variables of NinesStack Sidecar mean here what they mean there. A
flag, the PANCAKE_ variable of a flag, and a settings file go before them.

The commands below it ask a Sidecar that runs, by default the one of this machine.`

// sidecarFlags are the settings of "pancake sidecar".
type sidecarFlags struct {
	cfg      sidecar.Config
	gossip   string
	keyFile  string
	insecure bool
	goodbye  bool
	methods  []string
	// defaultPort is gossip's where none is given.
	defaultPort int
}

func newSidecarCommand(env *environment) *cobra.Command {
	var f sidecarFlags
	cmd := &cobra.Command{
		Use:   "sidecar",
		Short: "Run a Sidecar alone, and ask one that runs",
		Long:  sidecarLong,
		Example: examples(
			"pancake sidecar",
			"openssl rand -base64 32 > gossip.key && chmod 600 gossip.key",
			"pancake sidecar --advertise 10.0.0.2 --seeds 10.0.0.3,10.0.0.4 --gossip-key-file gossip.key",
			"pancake sidecar members",
			"pancake sidecar services --status alive --wide",
		),
		Args:    noSuchCommand,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return f.applyVariables(cmd.Flags(), env.lookup) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return runSidecar(cmd.Context(), env, f) },
	}
	f.add(cmd.Flags())
	var url string
	cmd.PersistentFlags().StringVar(&url, "sidecar", "http://127.0.0.1:7777", "`address` of the Sidecar that the commands below ask; https:// with --cert for an agent's --https")
	for _, construct := range sidecarCommands() {
		cmd.AddCommand(construct(env, &url))
	}
	return cmd
}

// add adds all settings.
func (f *sidecarFlags) add(flags *pflag.FlagSet) {
	f.addMember(flags)
	c := &f.cfg
	flags.StringVar(&c.HTTPAddr, "http", "127.0.0.1:7777", "`address` that the API listens on")
	flags.StringSliceVar(&f.methods, "discovery", []string{"docker"}, "`methods` by which services are found: docker, static, kubernetes_api; none announces nothing")
	flags.StringVar(&c.StaticFile, "static-file", "", "`file` with the services of --discovery static, in JSON or YAML; changes count at once")
	flags.StringVar(&c.Kubernetes.Host, "kubernetes-host", "127.0.0.1", "`host` of Kubernetes' API, for --discovery kubernetes_api")
	flags.IntVar(&c.Kubernetes.Port, "kubernetes-port", 8080, "`port` of Kubernetes' API; 443 and 6443 are TLS")
	flags.StringVar(&c.Kubernetes.Namespace, "kubernetes-namespace", "default", "`namespace` whose services are announced")
	flags.StringVar(&c.Kubernetes.Node, "kubernetes-node", "", "`name` of this machine's node (default: --hostname)")
	flags.BoolVar(&c.Kubernetes.AllNodes, "kubernetes-all-nodes", false, "announce the pods of all nodes")
	flags.StringVar(&c.Kubernetes.CredsPath, "kubernetes-creds", "/var/run/secrets/kubernetes.io/serviceaccount", "`directory` with token and ca.crt")
	flags.DurationVar(&c.Kubernetes.Timeout, "kubernetes-timeout", 3*time.Second, "`time` that a question to Kubernetes may take")
	flags.StringVar(&c.RegistrationsFile, "registrations-file", "", "`file` to keep in what registers itself over the API (default: memory alone)")
	flags.StringVar(&c.DockerHost, "docker", "", "`address` of the Docker engine (default: DOCKER_HOST, else unix:///var/run/docker.sock)")
	flags.BoolVar(&c.ForeignContainers, "foreign-containers", true, "also announce containers that Pancake did not start")
	flags.StringVar(&c.Namer, "namer", discover.NameByLabel, "`way` in which a container's service is named: docker_label, regex or image")
	flags.StringVar(&c.NameMatch, "name-match", "", "regular `expression` of --namer regex: its first group, in the container's name")
	flags.StringVar(&c.NameLabel, "name-label", pancake.LabelServiceName, "`label` of a container that names its service")
	flags.StringVar(&c.DefaultCheckEndpoint, "default-check-endpoint", "/version", "`path` that is asked for where no label says how to check")
	flags.DurationVar(&c.CheckInterval, "check-interval", 3*time.Second, "`time` between two checks of a service")
	flags.DurationVar(&c.CheckTimeout, "check-timeout", 0, "`time` that one check may take (default: a little less than --check-interval)")
	flags.IntVar(&c.CheckRise, "check-rise", 1, "`number` of passes in a row from which a service counts as alive")
	flags.IntVar(&c.CheckFall, "check-fall", 1, "`number` of failures in a row from which a service counts as unhealthy")
	flags.StringSliceVar(&c.ListenerURLs, "listeners-urls", nil, "`addresses` that are told of each change, with a POST")
	flags.StringVar(&c.EnvoyAddr, "envoy", "", "`address` where Envoy proxies get their configuration, over gRPC, such as 127.0.0.1:7776 (default: nowhere)")
	flags.StringVar(&c.EnvoyBindIP, "envoy-bind-ip", "192.168.168.168", "`IP` address that those proxies listen on")
	flags.BoolVar(&c.EnvoyUseHostnames, "envoy-use-hostnames", false, "have those proxies connect to what the name of a host resolves to")
	flags.StringVar(&c.DNSAddr, "dns", "", "`address` where services are answered over DNS, such as 127.0.0.1:7753 (default: nowhere)")
	flags.StringVar(&c.DNSDomain, "dns-domain", "pancake.internal", "`domain` of those names: <service>.service.<domain>")
	flags.DurationVar(&c.DNSTTL, "dns-ttl", time.Second, "`time` that an answer may be kept")
	flags.StringVar(&c.TraefikDomain, "domain", "localhost", "`domain` below which services are routed: <service>.<domain>")
	flags.StringVar(&c.TraefikRule, "traefik-rule", "", "`rule` of routes whose service has none")
}

// addMember adds the settings that make a Sidecar a member of its cluster.
func (f *sidecarFlags) addMember(flags *pflag.FlagSet) {
	c := &f.cfg
	flags.StringVar(&c.Hostname, "hostname", "", "`name` of this machine, unique in the cluster (default: the machine's)")
	flags.StringVar(&c.AdvertiseIP, "advertise", "127.0.0.1", "`IP` address at which others reach this machine and its services; auto picks the one from which it reaches others")
	flags.StringSliceVar(&c.ExcludeIPs, "exclude-ips", []string{"192.168.168.168"}, "`addresses` that --advertise auto never picks")
	flags.StringVar(&f.gossip, "gossip", "", "`address` that gossip listens on (default: port 7946 of --advertise, of all addresses with auto)")
	flags.StringSliceVar(&c.Seeds, "seeds", nil, "`addresses` of some other Sidecars' gossip, host or host:port,…; they need not be up")
	flags.StringVar(&c.ClusterName, "cluster-name", "default", "`name` of the cluster; Sidecars of another are not talked to")
	flags.StringVar(&f.keyFile, "gossip-key-file", "", "`file` with the keys that gossip is encrypted with, which nobody else may read")
	flags.BoolVar(&f.insecure, "insecure", false, "be reached by others without authentication and encryption")
	flags.DurationVar(&c.PushPullInterval, "push-pull-interval", 0, "`time` between two comparisons of the list of members (default: it grows with the cluster)")
	flags.StringVar(&c.Zone, "zone", "", "`zone` of this machine, such as a rack, of which all members are told")
	flags.BoolVar(&f.goodbye, "goodbye", true, "tell the others at the end, so that they take this machine's services out of traffic at once; without, a quick restart changes nothing")
}

// sidecarVariables are the variables of NinesStack Sidecar and the flags of the same meaning.
var sidecarVariables = map[string]string{
	"SIDECAR_ADVERTISE_IP":           "advertise",
	"SIDECAR_EXCLUDE_IPS":            "exclude-ips",
	"SIDECAR_BIND_PORT":              "gossip",
	"SIDECAR_SEEDS":                  "seeds",
	"SIDECAR_CLUSTER_NAME":           "cluster-name",
	"SIDECAR_DISCOVERY":              "discovery",
	"SIDECAR_PUSH_PULL_INTERVAL":     "push-pull-interval",
	"SIDECAR_DEFAULT_CHECK_ENDPOINT": "default-check-endpoint",
	"DOCKER_URL":                     "docker",
	"STATIC_CONFIG_FILE":             "static-file",
	"SERVICES_NAMER":                 "namer",
	"SERVICES_NAME_LABEL":            "name-label",
	"SERVICES_NAME_MATCH":            "name-match",
	"LISTENERS_URLS":                 "listeners-urls",
	"K8S_KUBE_API_IP":                "kubernetes-host",
	"K8S_KUBE_API_PORT":              "kubernetes-port",
	"K8S_NAMESPACE":                  "kubernetes-namespace",
	"K8S_CREDS_PATH":                 "kubernetes-creds",
	"K8S_KUBE_TIMEOUT":               "kubernetes-timeout",
	"ANNOUNCE_ALL_NODES":             "kubernetes-all-nodes",
	"ENVOY_USE_GRPC_API":             "envoy",
	"ENVOY_GRPC_PORT":                "envoy",
	"ENVOY_BIND_IP":                  "envoy-bind-ip",
	"ENVOY_USE_HOSTNAMES":            "envoy-use-hostnames",
}

// applyVariables takes the variables of NinesStack Sidecar over into the flags that
// were not set: the configuration is where both put what they say.
func (f *sidecarFlags) applyVariables(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	if port, _ := lookup("SIDECAR_BIND_PORT"); port != "" && !flags.Changed("gossip") {
		f.gossip = "" // it is made of the port, when the address is known
	}
	err := sidecar.FromEnv(func(variable string) (string, bool) {
		if flag, known := sidecarVariables[variable]; known && flags.Changed(flag) {
			return "", false
		}
		return lookup(variable)
	}, &f.cfg)
	if err != nil {
		return err
	}
	switch {
	case f.cfg.Passive:
		f.methods = []string{noDiscovery}
	case f.cfg.Discovery != nil:
		f.methods = nil
		for _, m := range f.cfg.Discovery {
			f.methods = append(f.methods, string(m))
		}
	}
	for variable, flag := range sidecarVariables {
		if value, set := lookup(variable); !set || !sidecar.Counts(variable, value) || flags.Changed(flag) {
			continue
		}
		if err := config.SetOrigin(flags, flag, "env "+variable); err != nil {
			return pancake.Errorf(pancake.Internal, "%s: %w", variable, err)
		}
	}
	return nil
}

// settle fills in the addresses, and refuses those that others could reach where
// nothing keeps them out.
func (f *sidecarFlags) settle() error {
	c := &f.cfg
	bind := c.AdvertiseIP
	if c.AdvertiseIP == autoAdvertise {
		c.AdvertiseIP, bind = "", "0.0.0.0"
	}
	f.gossip = cmp.Or(f.gossip, net.JoinHostPort(bind, strconv.Itoa(cmp.Or(c.BindPort, f.defaultPort, 7946))))
	var err error
	if c.BindAddr, c.BindPort, err = splitHostPort("gossip", f.gossip); err != nil {
		return err
	}
	if c.BindPort == 0 {
		c.BindPort = -1 // any that is free
	}
	for flag, addr := range map[string]string{"http": c.HTTPAddr, "envoy": c.EnvoyAddr, "dns": c.DNSAddr} {
		if addr == "" && flag != "http" {
			continue // nowhere
		}
		if _, _, err := splitHostPort(flag, addr); err != nil {
			return err
		}
	}
	if err := f.checkNumbers(); err != nil {
		return err
	}
	c.Quiet = !f.goodbye
	if slices.Equal(f.methods, []string{noDiscovery}) || len(f.methods) == 0 {
		c.Passive = true
	} else if c.Discovery, err = sidecar.Methods(f.methods); err != nil {
		return pancake.Errorf(pancake.Invalid, "--discovery: %w", err)
	}
	if f.insecure {
		if f.keyFile != "" {
			return pancake.Errorf(pancake.Invalid, "--insecure does not go with --gossip-key-file: gossip is encrypted, or it is not")
		}
		return nil
	}
	open := !serve.Loopback(f.gossip) || c.AdvertiseIP == "" || !serve.Loopback(c.AdvertiseIP)
	if open && f.keyFile == "" {
		return pancake.Errorf(pancake.Invalid,
			"gossip on %s can be reached by others, and needs a key: make one with \"openssl rand -base64 32\", and give the file to all Sidecars of the cluster with --gossip-key-file; or use --insecure on a network that you trust", f.gossip)
	}
	if !open {
		if i := slices.IndexFunc(c.Seeds, func(s string) bool { return !serve.Loopback(s) }); i >= 0 {
			return pancake.Errorf(pancake.Invalid, "seed %s could not reach this Sidecar at %s; say with --advertise where it can, or --advertise auto", c.Seeds[i], c.AdvertiseIP)
		}
	}
	return loopbackOnly(false, map[string]string{"http": c.HTTPAddr, "envoy": c.EnvoyAddr, "dns": c.DNSAddr})
}

// checkNumbers refuses those that make no sense, within the bounds of the labels of the same meaning.
// 0 is the default, and what a bridge has that checks nothing.
func (f *sidecarFlags) checkNumbers() error {
	c := &f.cfg
	for flag, d := range map[string]struct{ is, least, most time.Duration }{
		"check-interval":     {c.CheckInterval, 100 * time.Millisecond, time.Hour},
		"check-timeout":      {c.CheckTimeout, time.Millisecond, 10 * time.Minute},
		"push-pull-interval": {c.PushPullInterval, time.Second, 24 * time.Hour},
		"dns-ttl":            {c.DNSTTL, time.Second, time.Hour},
	} {
		if d.is != 0 && (d.is < d.least || d.is > d.most) {
			return pancake.Errorf(pancake.Invalid, "--%s %s: it can be from %s to %s", flag, d.is, d.least, d.most)
		}
	}
	for flag, n := range map[string]int{"check-rise": c.CheckRise, "check-fall": c.CheckFall} {
		if n < 0 {
			return pancake.Errorf(pancake.Invalid, "--%s %d: it is a number from 1", flag, n)
		}
	}
	return nil
}

func runSidecar(ctx context.Context, env *environment, f sidecarFlags) error {
	log, err := env.logger()
	if err != nil {
		return err
	}
	if err := f.settle(); err != nil {
		return err
	}
	_, parts, err := sidecarParts(ctx, env, f, log)
	if err != nil {
		return err
	}
	for _, variable := range sidecar.Ignored(env.getenv) {
		log.WarnContext(ctx, "a variable of NinesStack Sidecar has no effect here", "variable", variable.Name, "why", variable.Why)
	}
	return sidecarPorts.explain(runParts(ctx, env.say, log, parts, func() {
		env.say("\nSidecar is ready: http://%s", f.cfg.HTTPAddr)
	}))
}

// sidecarPorts are the flags of a Sidecar's ports.
var sidecarPorts = portSettings{
	sidecar.PortHTTP: "--http", sidecar.PortGossip: "--gossip", sidecar.PortEnvoy: "--envoy", sidecar.PortDNS: "--dns",
}

// sidecarParts are a Sidecar, and what hands it its keys.
func sidecarParts(ctx context.Context, env *environment, f sidecarFlags, log logger) (*sidecar.Sidecar, []lifecycle.Part, error) {
	cfg := f.cfg
	cfg.Log, cfg.Version = log.With("part", "sidecar"), buildVersion()
	var err error
	if f.keyFile != "" {
		if cfg.GossipKeys, err = readGossipKeys(f.keyFile); err != nil {
			return nil, nil, err
		}
	}
	if cfg.Listener, err = sidecarPorts.listen(ctx, sidecar.PortHTTP, cfg.HTTPAddr); err != nil {
		return nil, nil, err
	}
	s, err := sidecar.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	part := sidecarPart(s)
	// Docker may come later, and a Sidecar serves what others announce until then.
	part.Ready = patiently(part.Ready, func(err error) { env.say("%-10s waits: %v", part.Name, err) })
	part.ReadyWithin = lifecycle.AsLongAsItTakes
	parts := []lifecycle.Part{part}
	if f.keyFile != "" {
		keys := &keyFile{path: f.keyFile, set: s.SetGossipKeys, log: cfg.Log}
		parts = append(parts, lifecycle.Part{Name: "keys", Run: keys.run})
	}
	return s, parts, nil
}
