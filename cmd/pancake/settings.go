package main

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor"
	"github.com/pancake-stack/pancake/internal/etcd"
	"github.com/pancake-stack/pancake/internal/serve"
)

// nodeFlags are the settings of a node that "agent" and "dev" share.
type nodeFlags struct {
	hostname   string
	attributes string
	resources  string
	docker     string
	cpuLimit   string
}

func (f *nodeFlags) addNode(flags *pflag.FlagSet) {
	flags.StringVar(&f.hostname, "hostname", "", "`name` of this node, unique in the cluster (default: the machine's)")
	flags.StringVar(&f.attributes, "attributes", "", "`attributes` of this node that requests can ask for, for example rack:r1;zone:a")
	flags.StringVar(&f.resources, "resources", "", "`resources` that this node offers, for example cpus:4;mem:8192;ports:[31000-32000] (default: all of the machine)")
	flags.StringVar(&f.cpuLimit, "cpu-limit", string(executor.CPUShares), "what cpus mean: shares (a weight; idle CPU may be used) or hard (an upper limit), `mode`")
	flags.StringVar(&f.docker, "docker", "", "`address` of the Docker engine (default: DOCKER_HOST, else unix:///var/run/docker.sock)")
}

// words parses the attributes and resources. What --resources leaves out stays
// zero: the executor asks the machine.
func (f *nodeFlags) words() (map[string]string, pancake.Resources, error) {
	attributes, err := pancake.ParseAttributes(f.attributes)
	if err != nil {
		return nil, pancake.Resources{}, pancake.Errorf(pancake.Invalid, "--attributes: %w", err)
	}
	resources, err := pancake.ParseResources(f.resources, pancake.Resources{})
	if err != nil {
		return nil, pancake.Resources{}, pancake.Errorf(pancake.Invalid, "--resources: %w", err)
	}
	return attributes, resources, nil
}

// host is the node's name.
func (f *nodeFlags) host() (string, error) {
	if f.hostname != "" {
		return f.hostname, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", pancake.Errorf(pancake.Invalid, "the machine has no host name; give one with --hostname: %w", err)
	}
	return host, nil
}

// loopbackOnly refuses addresses that others can reach, for what listens there
// neither authenticates nor encrypts, unless insecure says that this is wanted.
func loopbackOnly(insecure bool, addrs map[string]string) error {
	for flag, addr := range addrs {
		if addr != "" && !insecure && !serve.Loopback(addr) {
			return pancake.Errorf(pancake.Invalid,
				"--%s %s can be reached by others, and what listens there neither authenticates nor encrypts; use a loopback address",
				flag, addr)
		}
	}
	return nil
}

const insecureHelp = "listen on addresses that others can reach, without authentication or encryption"

// splitHostPort splits the address that a flag gives.
func splitHostPort(flag, addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, pancake.Errorf(pancake.Invalid, "--%s %q is not host:port, for example 127.0.0.1:7946", flag, addr)
	}
	return host, port, nil
}

// list splits a comma-separated setting.
func list(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// setFlags are the flags of cmd that have a value other than their default's source.
func setFlags(cmd *cobra.Command) []*pflag.Flag {
	var out []*pflag.Flag
	cmd.Flags().Visit(func(f *pflag.Flag) { out = append(out, f) })
	return out
}

// logger is what the parts get; each is told its name.
type logger = *slog.Logger

// say prints a line to stdout.
func (e *environment) say(format string, args ...any) { e.printf(format+"\n", args...) }

// embedded is the configuration of the embedded etcd.
func (f *etcdFlags) embedded(dir string, log logger) etcd.Config {
	return etcd.Config{
		DataDir: dir, ClientURL: "http://" + f.listen, PeerURL: "http://" + f.peerListen, Log: log.With("part", "etcd"),
	}
}
