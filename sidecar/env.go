package sidecar

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// FromEnv takes the settings that NinesStack Sidecar reads from its environment
// into cfg, where they count: lookup is os.LookupEnv, or says the same of another
// environment. It fails on one that this Sidecar cannot honour and whose neglect would
// change which services are announced; Ignored lists the others.
func FromEnv(lookup func(string) (string, bool), cfg *Config) error {
	getenv := func(name string) string {
		v, _ := lookup(name)
		return v
	}
	texts := map[string]*string{
		"SIDECAR_CLUSTER_NAME": &cfg.ClusterName,
		"SIDECAR_ADVERTISE_IP": &cfg.AdvertiseIP,
		"SERVICES_NAME_LABEL":  &cfg.NameLabel,
		"SERVICES_NAME_MATCH":  &cfg.NameMatch,
		"DOCKER_URL":           &cfg.DockerHost,
		"STATIC_CONFIG_FILE":   &cfg.StaticFile,
		"ENVOY_BIND_IP":        &cfg.EnvoyBindIP,
		"K8S_KUBE_API_IP":      &cfg.Kubernetes.Host,
		"K8S_NAMESPACE":        &cfg.Kubernetes.Namespace,
		"K8S_CREDS_PATH":       &cfg.Kubernetes.CredsPath,
	}
	for name, field := range texts {
		*field = cmp.Or(getenv(name), *field)
	}
	for name, field := range map[string]*[]string{"SIDECAR_SEEDS": &cfg.Seeds, "LISTENERS_URLS": &cfg.ListenerURLs} {
		if list := splitList(getenv(name)); len(list) > 0 {
			*field = list
		}
	}
	if err := emptiesFromEnv(lookup, cfg); err != nil {
		return err
	}
	if v := getenv("SIDECAR_BIND_PORT"); v != "" {
		port, err := portOf("SIDECAR_BIND_PORT", v)
		if err != nil {
			return err
		}
		cfg.BindPort = port
	}
	if v := getenv("SIDECAR_PUSH_PULL_INTERVAL"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Second {
			return pancake.Errorf(pancake.Invalid, "SIDECAR_PUSH_PULL_INTERVAL: %q is not a duration of a second or more, such as 20s", v)
		}
		cfg.PushPullInterval = d
	}
	if v := getenv("SERVICES_NAMER"); v != "" {
		if v != discover.NameByLabel && v != discover.NameByRegex {
			return pancake.Errorf(pancake.Invalid, "SERVICES_NAMER: %q is not supported; %s and %s are", v, discover.NameByLabel, discover.NameByRegex)
		}
		cfg.Namer = v
	}
	if err := kubernetesFromEnv(getenv, cfg); err != nil {
		return err
	}
	return envoyFromEnv(getenv, cfg)
}

// Counts reports whether a variable that is set to value has a meaning. For most, an empty
// value is as none: NinesStack Sidecar has no use for it, or does not start with it.
func Counts(variable, value string) bool {
	switch variable {
	case "SIDECAR_DISCOVERY", "SIDECAR_EXCLUDE_IPS", "SIDECAR_DEFAULT_CHECK_ENDPOINT":
		return true
	}
	return value != ""
}

// emptiesFromEnv takes the settings of which an empty one is not the default.
func emptiesFromEnv(lookup func(string) (string, bool), cfg *Config) error {
	if v, set := lookup("SIDECAR_DISCOVERY"); set { // empty: none at all
		methods, err := Methods(splitList(v))
		if err != nil {
			return pancake.Errorf(pancake.Invalid, "SIDECAR_DISCOVERY: %w", err)
		}
		cfg.Discovery, cfg.Passive = methods, len(methods) == 0
	}
	if v, set := lookup("SIDECAR_EXCLUDE_IPS"); set { // empty: any may be chosen
		cfg.ExcludeIPs = append([]string{}, splitList(v)...)
	}
	if v, set := lookup("SIDECAR_DEFAULT_CHECK_ENDPOINT"); set { // empty: http://host:port, which asks for /
		cfg.DefaultCheckEndpoint = cmp.Or(v, "/")
	}
	return nil
}

// kubernetesFromEnv takes the settings of ByKubernetes that are no texts.
func kubernetesFromEnv(getenv func(string) string, cfg *Config) (err error) {
	kube := &cfg.Kubernetes
	if v := getenv("K8S_KUBE_API_PORT"); v != "" {
		if kube.Port, err = portOf("K8S_KUBE_API_PORT", v); err != nil {
			return err
		}
	}
	if v := getenv("K8S_KUBE_TIMEOUT"); v != "" {
		if kube.Timeout, err = time.ParseDuration(v); err != nil || kube.Timeout <= 0 {
			return pancake.Errorf(pancake.Invalid, "K8S_KUBE_TIMEOUT: %q is not a duration, such as 3s", v)
		}
	}
	if v := getenv("ANNOUNCE_ALL_NODES"); v != "" {
		if kube.AllNodes, err = strconv.ParseBool(v); err != nil {
			return pancake.Errorf(pancake.Invalid, "ANNOUNCE_ALL_NODES: %q is neither true nor false", v)
		}
	}
	return nil
}

// envoyFromEnv takes the settings of the control plane. Where one of them is set it is
// wanted, as it always is with NinesStack Sidecar.
func envoyFromEnv(getenv func(string) string, cfg *Config) error {
	flags := map[string]bool{}
	for _, name := range []string{"ENVOY_USE_GRPC_API", "ENVOY_USE_HOSTNAMES"} {
		if v := getenv(name); v != "" {
			on, err := strconv.ParseBool(v)
			if err != nil {
				return pancake.Errorf(pancake.Invalid, "%s: %q is neither true nor false", name, v)
			}
			flags[name] = on
		}
	}
	cfg.EnvoyUseHostnames = cfg.EnvoyUseHostnames || flags["ENVOY_USE_HOSTNAMES"]
	port := 7776
	if v := getenv("ENVOY_GRPC_PORT"); v != "" {
		var err error
		if port, err = portOf("ENVOY_GRPC_PORT", v); err != nil {
			return err
		}
	}
	if on, said := flags["ENVOY_USE_GRPC_API"]; on || !said && getenv("ENVOY_GRPC_PORT") != "" {
		cfg.EnvoyAddr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return nil
}

// Methods turns names into methods. It fails with Invalid for one that there is not.
func Methods(names []string) ([]Method, error) {
	known := []Method{ByDocker, ByStatic, ByKubernetes}
	var out []Method
	for _, name := range names {
		m := Method(name)
		if !slices.Contains(known, m) {
			return nil, pancake.Errorf(pancake.Invalid, "%q is not supported; these are: %v", name, known)
		}
		out = append(out, m)
	}
	return out, nil
}

func portOf(name, text string) (int, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, pancake.Errorf(pancake.Invalid, "%s: %q is not a port", name, text)
	}
	return int(port), nil
}

// Neglected is a variable of NinesStack Sidecar that is set and has no effect.
type Neglected struct{ Name, Why string }

// Ignored lists the variables of NinesStack Sidecar that are set and have no
// effect here, by name.
func Ignored(getenv func(string) string) []Neglected {
	const (
		haproxy = "there is no HAProxy here: Traefik takes its routes from /api/traefik"
		pace    = "changes are told at once, and how fast gossip goes adapts to the cluster"
		logging = "use --log-level and --log-format"
	)
	var out []Neglected
	for name, why := range map[string]string{
		"SIDECAR_STATS_ADDR":               "metrics are at /metrics, for Prometheus",
		"SIDECAR_GOSSIP_MESSAGES":          pace,
		"SIDECAR_GOSSIP_INTERVAL":          pace,
		"SIDECAR_HANDOFF_QUEUE_DEPTH":      pace,
		"SIDECAR_DISCOVERY_SLEEP_INTERVAL": "Docker tells of changes at once",
		"SIDECAR_LOGGING_FORMAT":           logging,
		"SIDECAR_LOGGING_LEVEL":            logging,
		"SIDECAR_DEBUG":                    logging,
		"ENVOY_LOGGING_LEVEL":              logging,
		"HAPROXY_RELOAD_COMMAND":           haproxy,
		"HAPROXY_VERIFY_COMMAND":           haproxy,
		"HAPROXY_BIND_IP":                  haproxy,
		"HAPROXY_TEMPLATE_FILE":            haproxy,
		"HAPROXY_CONFIG_FILE":              haproxy,
		"HAPROXY_PID_FILE":                 haproxy,
		"HAPROXY_USER":                     haproxy,
		"HAPROXY_GROUP":                    haproxy,
		"HAPROXY_USE_HOSTNAMES":            haproxy,
	} {
		if getenv(name) != "" {
			out = append(out, Neglected{name, why})
		}
	}
	slices.SortFunc(out, func(a, b Neglected) int { return cmp.Compare(a.Name, b.Name) })
	return out
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
