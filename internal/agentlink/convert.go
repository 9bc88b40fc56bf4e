// Package agentlink is the wire between executors and the scheduler: the
// protobuf messages generated from agent.proto, and their translation from and
// to the words. Whatever comes from the network is checked here, once.
package agentlink

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/pancake-stack/pancake"
)

// Bounds on what the other side may send.
const (
	maxID      = 512       // bytes of an id or a name
	maxText    = 16 << 10  // bytes of a message, a log line or a value
	maxEntries = 1024      // entries of a list or a map
	maxTasks   = 10_000    // tasks of one agent
	MaxMessage = 16 << 20  // bytes of one gRPC message, both directions
	maxWords   = 256 << 10 // bytes of all values of a launch's environment or labels together
	// maxAttributes bounds an agent's attributes, in bytes: an agent is stored as one value.
	maxAttributes = 16 << 10
)

// Assignment is what an executor needs to know to run a task. Of Request and
// Deploy it has the fields that matter on the node.
type Assignment struct {
	Task    pancake.Task    `json:"task"`
	Request pancake.Request `json:"request"`
	Deploy  pancake.Deploy  `json:"deploy"`
}

// NewLaunch says how to run task t of deploy d of request r.
func NewLaunch(t pancake.Task, r pancake.Request, d pancake.Deploy) *Launch {
	c := &Container{
		Image: d.Container.Image, ForcePull: d.Container.ForcePull, Command: d.Container.Command,
		Network: string(d.Container.Network), Env: d.Container.Env, Labels: d.Container.Labels,
	}
	for _, p := range t.Ports {
		c.Ports = append(c.Ports, &PortMapping{
			ContainerPort: uint32(p.ContainerPort), HostPort: uint32(p.HostPort), Protocol: p.Protocol,
		})
	}
	for _, v := range d.Container.Volumes {
		c.Volumes = append(c.Volumes, &Volume{HostPath: v.HostPath, ContainerPath: v.ContainerPath, Mode: v.Mode})
	}
	return &Launch{
		TaskId: t.ID, RequestId: t.RequestID, DeployId: t.DeployID,
		Service: r.Service, Environment: r.Environment, Instances: int32(r.Instances),
		Instance: int32(t.Instance), Tag: d.Tag, User: d.User,
		Resources: newResources(t.Resources), Container: c,
		Health: &Health{Uri: d.Health.URI, PortIndex: int32(d.Health.PortIndex)},
	}
}

// Decode checks a Launch and turns it into words.
func (l *Launch) Decode() (Assignment, error) {
	var a Assignment
	if err := ids(l.GetTaskId(), l.GetRequestId(), l.GetDeployId()); err != nil {
		return a, fmt.Errorf("launch: %w", err)
	}
	c := l.GetContainer()
	container := pancake.Container{
		Image: c.GetImage(), ForcePull: c.GetForcePull(), Command: c.GetCommand(),
		Network: pancake.Network(c.GetNetwork()), Env: c.GetEnv(), Labels: c.GetLabels(),
	}
	if len(c.GetPorts()) > maxEntries || len(c.GetVolumes()) > maxEntries {
		return a, fmt.Errorf("launch %s: more than %d ports or volumes", l.GetTaskId(), maxEntries)
	}
	for _, m := range []map[string]string{container.Env, container.Labels} {
		if err := bounded(m, maxWords); err != nil {
			return a, fmt.Errorf("launch %s: %w", l.GetTaskId(), err)
		}
	}
	for _, p := range c.GetPorts() {
		if p.GetHostPort() > 65535 || p.GetContainerPort() > 65535 {
			return a, fmt.Errorf("launch %s: port %d:%d is above 65535", l.GetTaskId(), p.GetContainerPort(), p.GetHostPort())
		}
		container.Ports = append(container.Ports, pancake.PortMapping{
			ContainerPort: int(p.GetContainerPort()), HostPort: int(p.GetHostPort()), Protocol: p.GetProtocol(),
		})
	}
	for _, v := range c.GetVolumes() {
		container.Volumes = append(container.Volumes, pancake.Volume{
			HostPath: v.GetHostPath(), ContainerPath: v.GetContainerPath(), Mode: v.GetMode(),
		})
	}
	resources, err := l.GetResources().decode()
	if err != nil {
		return a, fmt.Errorf("launch %s: %w", l.GetTaskId(), err)
	}
	a.Request = pancake.Request{
		ID: l.GetRequestId(), Service: l.GetService(), Environment: l.GetEnvironment(), Instances: int(l.GetInstances()),
	}
	a.Deploy = pancake.Deploy{
		ID: l.GetDeployId(), RequestID: l.GetRequestId(), Tag: l.GetTag(), User: l.GetUser(), Container: container,
		Resources: resources, Health: pancake.Health{URI: l.GetHealth().GetUri(), PortIndex: int(l.GetHealth().GetPortIndex())},
	}
	a.Task = pancake.Task{
		ID: l.GetTaskId(), RequestID: l.GetRequestId(), DeployID: l.GetDeployId(), Instance: int(l.GetInstance()),
		Resources: resources, Ports: container.Ports, Desired: pancake.DesiredRun,
	}
	return a, nil
}

// NewStatus reports the status of a task.
func NewStatus(taskID string, s pancake.TaskStatus) *StatusUpdate {
	u := &StatusUpdate{
		TaskId: taskID, Sequence: s.Sequence, State: string(s.State), Reason: utf8Only(s.Reason), Message: utf8Only(s.Message),
		Health: string(s.Health), HealthNote: utf8Only(s.HealthNote), ContainerId: s.ContainerID, ExitCode: int32(s.ExitCode),
		StartedUnixMs: toMillis(s.Started), UpdatedUnixMs: toMillis(s.Updated),
	}
	for _, line := range s.Log {
		u.Log = append(u.Log, utf8Only(line))
	}
	return u
}

// Decode checks a StatusUpdate and turns it into words.
func (u *StatusUpdate) Decode() (taskID string, s pancake.TaskStatus, err error) {
	if err := ids(u.GetTaskId()); err != nil {
		return "", s, fmt.Errorf("status: %w", err)
	}
	s = pancake.TaskStatus{
		State: pancake.TaskState(u.GetState()), Sequence: u.GetSequence(),
		Reason: clip(u.GetReason(), maxID), Message: clip(u.GetMessage(), maxText),
		Health: pancake.HealthState(u.GetHealth()), HealthNote: clip(u.GetHealthNote(), maxID),
		ContainerID: clip(u.GetContainerId(), maxID), ExitCode: int(u.GetExitCode()),
		Started: fromMillis(u.GetStartedUnixMs()), Updated: fromMillis(u.GetUpdatedUnixMs()),
	}
	switch s.State {
	case pancake.TaskStaging, pancake.TaskStarting, pancake.TaskRunning, pancake.TaskKilling:
	default:
		if !s.State.Terminal() {
			return "", s, fmt.Errorf("status of %s: unknown state %q", u.GetTaskId(), clip(u.GetState(), maxID))
		}
	}
	switch s.Health {
	case pancake.HealthUnknown, pancake.Healthy, pancake.Unhealthy, pancake.HealthDraining, pancake.HealthUnwatched:
	default:
		return "", s, fmt.Errorf("status of %s: unknown health %q", u.GetTaskId(), clip(u.GetHealth(), maxID))
	}
	for _, line := range u.GetLog()[:min(len(u.GetLog()), 20)] {
		s.Log = append(s.Log, clip(line, 1024))
	}
	return u.GetTaskId(), s, nil
}

// NewRegister introduces an agent and every task that it holds.
func NewRegister(a pancake.Agent, tasks map[string]pancake.TaskStatus) *Register {
	r := &Register{
		AgentId: a.ID, Hostname: a.Hostname, Address: a.Address, Attributes: a.Attributes,
		Resources: newResources(a.Resources), Version: a.Version,
	}
	for id, s := range tasks {
		r.Tasks = append(r.Tasks, NewStatus(id, s))
	}
	return r
}

// Decode checks a Register and turns it into words.
func (r *Register) Decode() (pancake.Agent, map[string]pancake.TaskStatus, error) {
	var a pancake.Agent
	if err := ids(r.GetAgentId(), r.GetHostname(), r.GetAddress()); err != nil {
		return a, nil, fmt.Errorf("register: %w", err)
	}
	if err := bounded(r.GetAttributes(), maxAttributes); err != nil {
		return a, nil, fmt.Errorf("register of %s: attributes: %w", r.GetAgentId(), err)
	}
	if len(r.GetTasks()) > maxTasks {
		return a, nil, fmt.Errorf("register of %s: more than %d tasks", r.GetAgentId(), maxTasks)
	}
	resources, err := r.GetResources().decode()
	if err != nil {
		return a, nil, fmt.Errorf("register of %s: %w", r.GetAgentId(), err)
	}
	tasks := make(map[string]pancake.TaskStatus, len(r.GetTasks()))
	for _, u := range r.GetTasks() {
		id, s, err := u.Decode()
		if err != nil {
			return a, nil, fmt.Errorf("register of %s: %w", r.GetAgentId(), err)
		}
		tasks[id] = s
	}
	a = pancake.Agent{
		ID: r.GetAgentId(), Hostname: r.GetHostname(), Address: r.GetAddress(), Attributes: r.GetAttributes(),
		Resources: resources, Version: clip(r.GetVersion(), maxID),
	}
	return a, tasks, nil
}

func newResources(r pancake.Resources) *Resources {
	return &Resources{MilliCpus: int64(r.CPUs), MemoryMb: r.MemoryMB, Ports: r.Ports.String()}
}

func (r *Resources) decode() (pancake.Resources, error) {
	out := pancake.Resources{CPUs: pancake.MilliCPU(r.GetMilliCpus()), MemoryMB: r.GetMemoryMb()}
	if out.CPUs < 0 || out.MemoryMB < 0 || out.CPUs > 1e9 || out.MemoryMB > 1e9 {
		return out, fmt.Errorf("resources out of range: %d milli-CPUs, %d MiB", r.GetMilliCpus(), r.GetMemoryMb())
	}
	if len(r.GetPorts()) > maxText {
		return out, fmt.Errorf("resources: port set longer than %d bytes", maxText)
	}
	ports, err := pancake.ParsePortSet(r.GetPorts())
	if err != nil {
		return out, fmt.Errorf("resources: ports: %w", err)
	}
	out.Ports = ports
	return out, nil
}

// ids refuses empty and oversized identifiers, and those that would garble a terminal.
func ids(values ...string) error {
	for _, v := range values {
		if v == "" || len(v) > maxID || strings.ContainsFunc(v, unicode.IsControl) {
			return fmt.Errorf("an id is empty, longer than %d bytes, or not plain text", maxID)
		}
	}
	return nil
}

func bounded(m map[string]string, size int) error {
	if len(m) > maxEntries {
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	total := 0
	for k, v := range m {
		total += len(k) + len(v)
	}
	if total > size {
		return fmt.Errorf("values of more than %d bytes together", size)
	}
	return nil
}

// clip shortens a text to n bytes at most, and never within a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return utf8Only(s[:n])
}

// utf8Only drops what protobuf refuses to carry: one such byte would end the
// link, again and again.
func utf8Only(s string) string { return strings.ToValidUTF8(s, "") }

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
