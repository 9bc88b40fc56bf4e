package pancake

import (
	"fmt"
	"strings"
	"time"
)

// TaskState is what a task is doing. The values are Mesos'.
type TaskState string

// The task states, in the order in which a task goes through them.
const (
	TaskStaging     TaskState = "TASK_STAGING"  // committed; the executor has not answered yet, or pulls the image
	TaskStarting    TaskState = "TASK_STARTING" // the container is being created
	TaskRunning     TaskState = "TASK_RUNNING"  // the container runs
	TaskKilling     TaskState = "TASK_KILLING"  // it is being drained and stopped
	TaskFinished    TaskState = "TASK_FINISHED" // exit code 0, by itself
	TaskFailed      TaskState = "TASK_FAILED"
	TaskKilled      TaskState = "TASK_KILLED" // stopped because the scheduler asked
	TaskError       TaskState = "TASK_ERROR"  // it can never start: bad image name, missing host path, …
	TaskLost        TaskState = "TASK_LOST"   // its agent does not know it any more
	TaskUnreachable TaskState = "TASK_UNREACHABLE"
	TaskGone        TaskState = "TASK_GONE"
)

// Terminal reports whether the task will never run again.
func (s TaskState) Terminal() bool {
	switch s {
	case TaskFinished, TaskFailed, TaskKilled, TaskError, TaskLost, TaskUnreachable, TaskGone:
		return true
	}
	return false
}

// Desired is what the scheduler wants of a task.
type Desired string

// What the scheduler may want.
const (
	DesiredRun  Desired = "RUN"
	DesiredKill Desired = "KILL"
)

// HealthState is what Sidecar says of a task.
type HealthState string

// The health states.
const (
	HealthUnknown   HealthState = ""          // Sidecar has not said anything yet
	Healthy         HealthState = "HEALTHY"   // ALIVE
	Unhealthy       HealthState = "UNHEALTHY" // checked, and failing
	HealthDraining  HealthState = "DRAINING"
	HealthUnwatched HealthState = "UNWATCHED" // SidecarDiscover=false: running long enough decides
)

// Task is one container of a deploy on one agent.
// The scheduler alone writes it, except Status, which repeats what the
// executor on AgentID observed.
type Task struct {
	ID        string `json:"id"`
	RequestID string `json:"requestId"`
	DeployID  string `json:"deployId"`
	AgentID   string `json:"agentId"`
	Hostname  string `json:"hostname"`
	// Instance is the slot of the request that the task fills, from 1.
	Instance int `json:"instanceNo"`
	// Resources are what the task was given; Ports what its PortMappings became.
	Resources Resources     `json:"resources"`
	Ports     []PortMapping `json:"portMappings,omitempty"`

	Desired Desired `json:"desired"`
	// KillReason says why Desired is KILL, in plain words.
	KillReason string    `json:"killReason,omitempty"`
	Created    time.Time `json:"created"`
	// FirstHealthy is when the task first counted as healthy; for one that
	// Sidecar does not watch, when it will have run for ConsiderHealthyAfter.
	FirstHealthy time.Time `json:"firstHealthy,omitzero"`
	// Restarts is how many tasks of this instance failed in a row before this one.
	Restarts int `json:"restarts,omitempty"`

	Status TaskStatus `json:"status"`
}

// TaskStatus is what the executor observed of a task.
// The executor on the task's agent alone writes it; the scheduler writes it
// only for tasks whose agent is lost.
type TaskStatus struct {
	State TaskState `json:"state"`
	// Sequence grows by one with each status of a task; an older one never replaces a newer one.
	Sequence uint64 `json:"sequence"`
	// Reason is a short word for machines, such as "image_pull" or "port_in_use".
	Reason string `json:"reason,omitempty"`
	// Message says the same to people, and what to do.
	Message     string      `json:"message,omitempty"`
	Health      HealthState `json:"health,omitempty"`
	HealthNote  string      `json:"healthNote,omitempty"` // the last answer of a failing check
	ContainerID string      `json:"containerId,omitempty"`
	ExitCode    int         `json:"exitCode,omitempty"`
	// Log holds the last lines of a task that failed, 20 at most.
	Log     []string  `json:"log,omitempty"`
	Started time.Time `json:"started,omitzero"` // the container's start
	Updated time.Time `json:"updated,omitzero"`
}

// Reasons that the scheduler reacts to; see TaskStatus.Reason.
const (
	ReasonImagePull     = "image_pull"     // the registry refused or does not know the image
	ReasonPortInUse     = "port_in_use"    // something else listens on the host port
	ReasonCreate        = "create"         // Docker refused to create the container
	ReasonStart         = "start"          // Docker refused to start it
	ReasonExited        = "exited"         // the container ended by itself
	ReasonOOM           = "out_of_memory"  // the kernel killed it for exceeding its memory limit
	ReasonContainerGone = "container_gone" // somebody else removed the container
	ReasonUnhealthy     = "unhealthy"      // Sidecar called it unhealthy for too long
	ReasonNoDocker      = "no_docker"      // the Docker engine does not answer
	ReasonKilled        = "killed"         // the scheduler asked for it
	ReasonAgentLost     = "agent_lost"     // the agent is unreachable
	ReasonUnknownTask   = "unknown_task"   // the agent came back without it
)

// Live reports whether the task still holds, or may still hold, its place on its agent.
func (t *Task) Live() bool { return !t.Status.State.Terminal() }

// TaskID makes the id of a task as Singularity does:
// request-deploy-startedAt-instance-host-rack, with "-" in host and rack
// replaced by "_". So is what has no place in a path, and both are cut at 100 characters.
func TaskID(request, deploy string, started time.Time, instance int, host, rack string) string {
	clean := func(s string) string {
		s = strings.Map(func(r rune) rune {
			if r == '.' {
				return r
			}
			return normal(r)
		}, s)
		return s[:min(len(s), 100)]
	}
	if rack == "" {
		rack = "DEFAULT" // Singularity's name for an agent without a rack
	}
	return fmt.Sprintf("%s-%s-%d-%d-%s-%s", request, deploy, started.UnixMilli(), instance, clean(host), clean(rack))
}
