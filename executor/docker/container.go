package docker

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
)

// Spec is a container to create. It is never privileged.
type Spec struct {
	Name    string
	Image   string
	Command string // run by /bin/sh -c in place of the image's entry point; "" leaves the image's
	Env     map[string]string
	Labels  map[string]string
	Host    bool // share the host's network; Ports are then not published
	Ports   []Port
	Volumes []pancake.Volume

	MemoryBytes int64 // hard limit, swap included; 0 means none
	CPUShares   int64 // weight against other containers, 1024 per CPU
	NanoCPUs    int64 // hard limit; 0 means none
}

// Port publishes a port of the container.
type Port struct {
	Container int
	Host      int
	HostIP    netip.Addr
	Protocol  string // "tcp" or "udp"
}

// Container is what the engine says of a container.
type Container struct {
	ID        string
	Labels    map[string]string
	State     State
	ExitCode  int  // of an exited one; not filled in by List
	OOM       bool // killed for its memory; not filled in by List
	StartedAt time.Time
}

// State is what a container is doing.
type State string

// The states that matter to the executor.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
)

// LogLimits keep a chatty container from filling the disk.
var logLimits = map[string]string{"max-size": "10m", "max-file": "2"}

// Create creates a container and returns its id. If one of that name exists
// and carries the same labels, an earlier Create succeeded without our
// hearing of it: its id is returned. NotFound means that the image is missing.
func (e *Engine) Create(ctx context.Context, s Spec) (string, error) {
	if _, err := reference.ParseNormalizedNamed(s.Image); err != nil {
		return "", pancake.Errorf(pancake.Invalid, "image %q: %w", s.Image, err)
	}
	opts, err := s.options()
	if err != nil {
		return "", err
	}
	res, err := e.api.ContainerCreate(ctx, opts)
	if errdefs.IsConflict(err) {
		if c, lookErr := e.Inspect(ctx, s.Name); lookErr == nil && carries(c.Labels, s.Labels) {
			return c.ID, nil
		}
	}
	if err != nil {
		return "", e.failed(err, "create container of image "+s.Image)
	}
	return res.ID, nil
}

func carries(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func (s *Spec) options() (client.ContainerCreateOptions, error) {
	cfg := &container.Config{Image: s.Image, Labels: s.Labels, ExposedPorts: network.PortSet{}}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		cfg.Env = append(cfg.Env, k+"="+s.Env[k])
	}
	if s.Command != "" {
		cfg.Entrypoint, cfg.Cmd = []string{"/bin/sh"}, []string{"-c", s.Command}
	}
	host := &container.HostConfig{
		LogConfig:    container.LogConfig{Type: "json-file", Config: logLimits},
		PortBindings: network.PortMap{},
		Resources: container.Resources{
			Memory: s.MemoryBytes, MemorySwap: s.MemoryBytes, CPUShares: s.CPUShares, NanoCPUs: s.NanoCPUs,
		},
	}
	for _, v := range s.Volumes {
		host.Mounts = append(host.Mounts, mount.Mount{
			Type: mount.TypeBind, Source: v.HostPath, Target: v.ContainerPath, ReadOnly: v.Mode == "RO",
		})
	}
	if s.Host {
		host.NetworkMode = network.NetworkHost
		return client.ContainerCreateOptions{Config: cfg, HostConfig: host, Name: s.Name}, nil
	}
	for _, p := range s.Ports {
		port, ok := network.PortFrom(uint16(p.Container), network.IPProtocol(p.Protocol))
		if !ok || p.Container <= 0 || p.Container > math.MaxUint16 {
			return client.ContainerCreateOptions{}, pancake.Errorf(pancake.Invalid, "container port %d/%s is not a port", p.Container, p.Protocol)
		}
		cfg.ExposedPorts[port] = struct{}{}
		host.PortBindings[port] = append(host.PortBindings[port],
			network.PortBinding{HostIP: p.HostIP, HostPort: strconv.Itoa(p.Host)})
	}
	return client.ContainerCreateOptions{Config: cfg, HostConfig: host, Name: s.Name}, nil
}

// Start starts a created container. Conflict means that a host port is taken;
// the message names it.
func (e *Engine) Start(ctx context.Context, id string) error {
	_, err := e.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	if err == nil {
		return nil
	}
	if addr, taken := portTaken(err.Error()); taken {
		return pancake.Errorf(pancake.Conflict,
			"port %s is already in use by something else; stop that, or let the scheduler pick the port (hostPort 0)", addr)
	}
	return e.failed(err, "start container "+short(id))
}

// hostPort finds the address in what the engine says of a port that is taken:
// "listen tcp4 127.0.0.1:80: bind: address already in use" or
// "Bind for 127.0.0.1:80 failed: port is already allocated".
var hostPort = regexp.MustCompile(`(?:tcp[46]?|udp[46]?|for) ((?:[0-9.]+|\[[0-9a-fA-F:.]+\]|::):\d+)`)

func portTaken(text string) (addr string, taken bool) {
	if !strings.Contains(text, "address already in use") && !strings.Contains(text, "port is already allocated") {
		return "", false
	}
	if m := hostPort.FindStringSubmatch(text); m != nil {
		return m[1], true
	}
	return "of the task", true
}

// Stop sends SIGTERM, and SIGKILL after grace (rounded up to seconds, which is
// what the engine counts in). It returns when the container has stopped; one
// that has stopped before is no error.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	seconds := int(math.Ceil(grace.Seconds()))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+30*time.Second)
	defer cancel()
	if _, err := e.api.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &seconds}); err != nil {
		return e.failed(err, "stop container "+short(id))
	}
	return nil
}

// Remove removes a container and its anonymous volumes, running or not. One
// that does not exist is no error, and one that is being removed is waited for.
func (e *Engine) Remove(ctx context.Context, id string) error {
	_, err := e.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsConflict(err) {
		wait := e.api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
		select {
		case <-wait.Result:
			return nil
		case err = <-wait.Error:
		}
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return e.failed(err, "remove container "+short(id))
	}
	return nil
}

// Inspect looks at one container, by id or name. NotFound means there is none.
func (e *Engine) Inspect(ctx context.Context, id string) (Container, error) {
	res, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return Container{}, e.failed(err, "inspect container "+short(id))
	}
	c := Container{ID: res.Container.ID, State: Exited}
	if res.Container.Config != nil {
		c.Labels = res.Container.Config.Labels
	}
	if s := res.Container.State; s != nil {
		c.State, c.ExitCode, c.OOM = stateOf(s.Status), s.ExitCode, s.OOMKilled
		c.StartedAt, _ = time.Parse(time.RFC3339Nano, s.StartedAt) // zero when the engine writes something else
	}
	return c, nil
}

// List finds the containers that carry a label, running or not.
func (e *Engine) List(ctx context.Context, label, value string) ([]Container, error) {
	res, err := e.api.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", label+"="+value),
	})
	if err != nil {
		return nil, e.failed(err, "list containers")
	}
	out := make([]Container, 0, len(res.Items))
	for _, c := range res.Items {
		out = append(out, Container{ID: c.ID, Labels: c.Labels, State: stateOf(c.State)})
	}
	return out, nil
}

// stateOf folds the engine's states into ours: a paused or restarting container
// still holds its place, one being removed or dead will not run again.
func stateOf(s container.ContainerState) State {
	switch s {
	case container.StateCreated:
		return Created
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return Running
	}
	return Exited
}

func short(id string) string { return fmt.Sprintf("%.12s", id) }
