package executor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/checkpoint"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// CPULimit says what a task's cpus mean to the kernel.
type CPULimit string

// The CPU limits.
const (
	// CPUShares makes cpus a weight: a task may use what others leave idle. It is
	// Mesos' way, and the default.
	CPUShares CPULimit = "shares"
	// CPUHard makes cpus an upper limit as well, by CFS quota.
	CPUHard CPULimit = "hard"
)

// minShares is the smallest weight that the kernel takes.
const minShares = 2

// containerName is unique per task, so that a create that is repeated finds the
// first one's container.
func containerName(taskID string) string { return "pancake-" + checkpoint.ShortID(taskID) }

// containerSpec says which container runs an assignment on an agent.
func containerSpec(a agentlink.Assignment, agent pancake.Agent, address netip.Addr, limit CPULimit) docker.Spec {
	c := a.Deploy.Container
	s := docker.Spec{
		Name: containerName(a.Task.ID), Image: c.Image, Command: c.Command, Volumes: c.Volumes,
		Host:        c.Network == pancake.NetworkHost,
		Env:         environment(a, agent),
		Labels:      labels(a, agent.ID),
		MemoryBytes: a.Task.Resources.MemoryMB << 20,
		CPUShares:   max(minShares, int64(a.Task.Resources.CPUs)*1024/1000),
	}
	if limit == CPUHard {
		s.NanoCPUs = int64(a.Task.Resources.CPUs) * 1e6
	}
	for _, p := range a.Task.Ports {
		for proto := range protocols(p) {
			s.Ports = append(s.Ports, docker.Port{Container: p.ContainerPort, Host: p.HostPort, HostIP: address, Protocol: proto})
		}
	}
	return s
}

// protocols goes through "tcp", "udp" or "tcp,udp"; tcp is the default.
func protocols(p pancake.PortMapping) func(yield func(string) bool) {
	if p.Protocol == "" {
		return slices.Values([]string{"tcp"})
	}
	return strings.SplitSeq(strings.ToLower(p.Protocol), ",")
}

// environment is what Singularity and sidecar-executor put into a task's
// environment. What the spec says wins.
//
// PORT0 to PORTn are the host ports, as with Singularity. PORT is the port to
// listen on: in a network of its own (BRIDGE) the first container port, on the
// host's network (HOST) the first host port.
func environment(a agentlink.Assignment, agent pancake.Agent) map[string]string {
	env := map[string]string{
		"INSTANCE_NO":              strconv.Itoa(a.Task.Instance),
		"TASK_HOST":                agent.Hostname,
		"TASK_RACK_ID":             agent.Rack(),
		"AVAILABILITY_ZONE":        agent.Attributes["zone"],
		"TASK_REQUEST_ID":          a.Task.RequestID,
		"TASK_DEPLOY_ID":           a.Task.DeployID,
		"TASK_ID":                  a.Task.ID,
		"ESTIMATED_INSTANCE_COUNT": strconv.Itoa(a.Request.Instances),
		"DEPLOY_CPUS":              a.Task.Resources.CPUs.String(),
		"DEPLOY_MEM":               strconv.FormatInt(a.Task.Resources.MemoryMB, 10),
		"STARTED_BY_USER":          a.Deploy.User,
		"MESOS_HOSTNAME":           agent.Hostname,
		"SERVICE_NAME":             serviceName(a),
		"ENVIRONMENT":              a.Request.Environment,
		"SERVICE_VERSION":          imageVersion(a.Deploy.Container.Image),
	}
	maps.DeleteFunc(env, func(_, v string) bool { return v == "" })
	for i, p := range a.Task.Ports {
		env["PORT"+strconv.Itoa(i)] = strconv.Itoa(p.HostPort)
		env["MESOS_PORT_"+strconv.Itoa(p.ContainerPort)] = strconv.Itoa(p.HostPort)
	}
	if len(a.Task.Ports) > 0 {
		first := a.Task.Ports[0]
		listen := first.ContainerPort
		if a.Deploy.Container.Network == pancake.NetworkHost {
			listen = first.HostPort
		}
		env["PORT"] = strconv.Itoa(listen)
	}
	maps.Copy(env, a.Deploy.Container.Env)
	return env
}

// imageVersion is the tag or the digest of an image; a registry's port is neither.
func imageVersion(image string) string {
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return digest
	}
	name := image[strings.LastIndex(image, "/")+1:]
	if _, tag, ok := strings.Cut(name, ":"); ok {
		return tag
	}
	return "latest"
}

// serviceName is what Sidecar announces the task as.
func serviceName(a agentlink.Assignment) string {
	if a.Request.Service != "" {
		return a.Request.Service
	}
	return a.Task.RequestID
}

// labels are the spec's, then what Sidecar needs and the spec does not say, then
// ours, which the spec cannot change.
func labels(a agentlink.Assignment, agentID string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, a.Deploy.Container.Labels)
	missing := func(k, v string) {
		if _, ok := out[k]; !ok {
			out[k] = v
		}
	}
	missing(pancake.LabelServiceName, serviceName(a))
	missing(pancake.LabelProxyMode, "http")
	for _, p := range a.Task.Ports {
		missing(pancake.LabelServicePort+strconv.Itoa(p.ContainerPort), strconv.Itoa(p.ContainerPort))
		if a.Deploy.Container.Network == pancake.NetworkHost && p.HostPort != p.ContainerPort {
			// There the engine publishes nothing, so Sidecar takes the ports from
			// the labels: they must name those that the task really listens on.
			from := pancake.LabelServicePort + strconv.Itoa(p.ContainerPort)
			out[pancake.LabelServicePort+strconv.Itoa(p.HostPort)] = out[from]
			delete(out, from)
		}
	}
	if _, ok := out[pancake.LabelHealthCheck]; !ok {
		if check, args := healthCheck(a, out); check != "" {
			out[pancake.LabelHealthCheck], out[pancake.LabelHealthCheckArgs] = check, args
		}
	}
	out[pancake.LabelTask], out[pancake.LabelAgent] = a.Task.ID, agentID
	out[pancake.LabelRequest], out[pancake.LabelDeploy] = a.Task.RequestID, a.Task.DeployID
	return out
}

// healthCheck derives a check from the spec: its URI, or else a TCP connect to
// the first TCP port. Without one there is nothing to check, and Sidecar takes
// the task for healthy. "{{ tcp N }}" is Sidecar's word for the host port that
// service port N became.
func healthCheck(a agentlink.Assignment, labels map[string]string) (check, args string) {
	ports, index := a.Task.Ports, a.Deploy.Health.PortIndex
	hostPort := func(p pancake.PortMapping) string {
		inside := p.ContainerPort
		if a.Deploy.Container.Network == pancake.NetworkHost {
			inside = p.HostPort
		}
		// A port that is not proxied (service port 0) has no name in Sidecar's words.
		servicePort := labels[pancake.LabelServicePort+strconv.Itoa(inside)]
		if n, err := strconv.Atoi(servicePort); err != nil || n <= 0 {
			return strconv.Itoa(p.HostPort)
		}
		return "{{ tcp " + servicePort + " }}"
	}
	if uri := a.Deploy.Health.URI; uri != "" && index >= 0 && index < len(ports) {
		return "HttpGet", fmt.Sprintf("http://{{ host }}:%s/%s", hostPort(ports[index]), strings.TrimPrefix(uri, "/"))
	}
	for _, p := range ports {
		for proto := range protocols(p) {
			if proto == "tcp" {
				return "Tcp", "{{ host }}:" + hostPort(p)
			}
		}
	}
	return "", ""
}
