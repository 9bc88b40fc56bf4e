package executor

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/checkpoint"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// Config is everything an executor needs to know.
type Config struct {
	// DataDir is where the executor keeps its memory, under executor/. Required.
	DataDir string
	// SchedulerAddrs are host:port of the schedulers' gRPC; any of them will do. Required.
	SchedulerAddrs []string
	// Credentials secure the link to the scheduler. Default: none, in clear.
	Credentials credentials.TransportCredentials
	// TakeCredentials gets what the scheduler sends over the link when the CAs or the
	// gossip keys of the cluster change. It must not block. Default: they are ignored.
	TakeCredentials func(context.Context, *agentlink.Credentials) error

	// AgentID overrides the id kept in DataDir.
	AgentID string
	// Hostname is the name that the node's Sidecar announces. Default: the host's.
	Hostname string
	// Address is the IP address on which the ports of tasks are published and reached. Default 127.0.0.1.
	Address    string
	Attributes map[string]string
	// Resources are what the agent offers. What is zero defaults, as with Mesos, to all CPUs, to
	// the memory less 1 GiB (less half when there are not 2 GiB), and to the ports 31000-32000.
	Resources pancake.Resources
	Version   string

	// Docker says how to reach the engine.
	Docker docker.Config
	// CPULimit is what cpus mean. Default CPUShares.
	CPULimit CPULimit
	// SidecarURL is where the node's Sidecar listens. Default http://127.0.0.1:7777.
	SidecarURL string

	// DrainDuration is the time between drain and SIGTERM. Default 10 s,
	// sidecar-executor's EXECUTOR_SIDECAR_DRAINING_DURATION.
	DrainDuration time.Duration
	// KillGrace is the time between SIGTERM and SIGKILL when a kill names none.
	// Default 5 s, sidecar-executor's EXECUTOR_KILL_TASK_TIMEOUT.
	KillGrace time.Duration
	// UnhealthyAfter is how long a task that was healthy may be unhealthy before
	// it is given up. Default 90 s: three polls of sidecar-executor, 30 s each.
	UnhealthyAfter time.Duration
	// PullTimeout bounds one pull of an image. Default 15 min.
	PullTimeout time.Duration
	// Reconcile is how often all containers are listed, in case an event was missed. Default 30 s, as Sidecar's.
	Reconcile time.Duration

	// Log takes what the executor has to say. Default: nothing is logged.
	Log *slog.Logger
	// Metrics takes the executor's metrics. Default: nowhere.
	Metrics prometheus.Registerer
}

// Mesos' defaults for what an agent offers.
var defaultPorts = pancake.PortSet{{First: 31000, Last: 32000}}

const reservedMemoryMB = 1024 // for the system

func (c Config) withDefaults() Config {
	c.Address = cmp.Or(c.Address, "127.0.0.1")
	c.Credentials = cmp.Or(c.Credentials, insecure.NewCredentials())
	c.CPULimit = cmp.Or(c.CPULimit, CPUShares)
	c.DrainDuration = cmp.Or(c.DrainDuration, 10*time.Second)
	c.KillGrace = cmp.Or(c.KillGrace, 5*time.Second)
	c.UnhealthyAfter = cmp.Or(c.UnhealthyAfter, 90*time.Second)
	c.PullTimeout = cmp.Or(c.PullTimeout, 15*time.Minute)
	c.Reconcile = cmp.Or(c.Reconcile, 30*time.Second)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

func (c Config) validate() error {
	switch {
	case c.DataDir == "":
		return pancake.Errorf(pancake.Invalid, "executor: no data directory; set --data-dir")
	case len(c.SchedulerAddrs) == 0:
		return pancake.Errorf(pancake.Invalid, "executor: no scheduler address; set --scheduler host:port")
	case c.CPULimit != CPUShares && c.CPULimit != CPUHard:
		return pancake.Errorf(pancake.Invalid, "executor: CPU limit %q is neither %q nor %q", c.CPULimit, CPUShares, CPUHard)
	case min(c.DrainDuration, c.KillGrace, c.UnhealthyAfter, c.PullTimeout, c.Reconcile) < 0:
		return pancake.Errorf(pancake.Invalid, "executor: a duration is negative")
	}
	for _, addr := range c.SchedulerAddrs {
		// The link tries for ever, so what can never work is said at once.
		host, port, err := net.SplitHostPort(addr)
		if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || host == "" {
			return pancake.Errorf(pancake.Invalid, "executor: scheduler address %q is not the host:port that a scheduler listens on for agents, for example 127.0.0.1:7098", addr)
		}
	}
	return nil
}

// dir is where the executor of a data directory keeps its files.
func dir(dataDir string) string { return filepath.Join(dataDir, "executor") }

// AgentID returns the id of the agent whose data directory this is, and makes
// one if there is none.
func AgentID(dataDir string) (string, error) { return checkpoint.AgentID(dir(dataDir)) }

// agent says who we are and what we have.
func (c Config) agent(ctx context.Context, engine *docker.Engine) (pancake.Agent, error) {
	a := pancake.Agent{
		ID: c.AgentID, Hostname: c.Hostname, Address: c.Address, Attributes: c.Attributes,
		Resources: c.Resources, Version: c.Version,
	}
	var err error
	if a.ID == "" {
		if a.ID, err = AgentID(c.DataDir); err != nil {
			return a, err
		}
	}
	if a.Hostname == "" {
		if a.Hostname, err = os.Hostname(); err != nil {
			return a, pancake.Errorf(pancake.Invalid, "executor: the host has no name: %w; set --hostname", err)
		}
	}
	a.Resources, err = offered(ctx, a.Resources, engine)
	return a, err
}

// offered fills in what the configuration leaves open.
func offered(ctx context.Context, r pancake.Resources, engine *docker.Engine) (pancake.Resources, error) {
	if len(r.Ports) == 0 {
		r.Ports = defaultPorts
	}
	if r.CPUs != 0 && r.MemoryMB != 0 {
		return r, nil
	}
	cpus, memory, err := engine.Capacity(ctx)
	if err != nil {
		return r, err
	}
	if r.CPUs == 0 {
		r.CPUs = pancake.CPUs(float64(cpus))
	}
	if r.MemoryMB == 0 {
		mb := memory >> 20
		r.MemoryMB = max(mb-reservedMemoryMB, mb/2)
	}
	return r, nil
}

func parseAddress(address string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ip, pancake.Errorf(pancake.Invalid, "executor: address %q is not an IP address; ports of tasks are published on it, so set --advertise to one of this node's", address)
	}
	return ip, nil
}
