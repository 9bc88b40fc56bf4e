package pancake

import "time"

// DeployState is how far a deploy has come. The values are Singularity's.
type DeployState string

// The deploy states. All but Waiting are final.
const (
	DeployWaiting   DeployState = "WAITING"   // tasks are being started and watched
	DeploySucceeded DeployState = "SUCCEEDED" // it became the active deploy
	DeployFailed    DeployState = "FAILED"    // a task failed; the deploy before it goes on
	DeployOverdue   DeployState = "OVERDUE"   // not healthy within its time
	DeployCanceled  DeployState = "CANCELED"
)

// Final reports whether the state is never left again.
func (s DeployState) Final() bool { return s != DeployWaiting && s != "" }

// Deploy is one version of a request. Its specification never changes; the
// scheduler alone writes State, Progress, Message and Failures.
type Deploy struct {
	// ID is normalised from the tag and the hash of the spec file, for example "1_4f2ab31".
	ID        string    `json:"id"`
	RequestID string    `json:"requestId"`
	Tag       string    `json:"tag,omitempty"`
	User      string    `json:"user,omitempty"`
	Container Container `json:"container"`
	Resources Resources `json:"resources"` // of one task
	Health    Health    `json:"health"`
	Strategy  Strategy  `json:"strategy"`
	// Settings are what the request takes over when the deploy succeeds; one
	// that does not changes nothing of it. nil once State is final.
	Settings *Settings `json:"settings,omitempty"`

	State    DeployState     `json:"state"`
	Progress Progress        `json:"progress"`
	Message  string          `json:"message,omitempty"`
	Failures []DeployFailure `json:"failures,omitempty"`
	Created  time.Time       `json:"created"`
	Finished time.Time       `json:"finished,omitzero"`
}

// Container says what a task runs.
type Container struct {
	Image     string `json:"image"` // with its tag
	ForcePull bool   `json:"forcePullImage,omitempty"`
	// Command replaces the image's command; it is run by "/bin/sh -c" as Mesos does with shell=true.
	Command string            `json:"command,omitempty"`
	Network Network           `json:"network"`
	Ports   []PortMapping     `json:"portMappings,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Volumes []Volume          `json:"volumes,omitempty"`
}

// Network is the network mode of a container.
type Network string

// The network modes.
const (
	NetworkBridge Network = "BRIDGE"
	NetworkHost   Network = "HOST"
)

// PortMapping publishes one port of a container.
type PortMapping struct {
	ContainerPort int `json:"containerPort"`
	// HostPort is fixed by the spec, or 0: then the scheduler picks one from the agent's offer.
	HostPort int    `json:"hostPort,omitempty"`
	Protocol string `json:"protocol"` // "tcp", "udp" or "tcp,udp"
}

// Volume mounts a path of the agent into the container.
type Volume struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	Mode          string `json:"mode"` // "RW" or "RO"
}

// Health says when a task of the deploy counts as healthy. What Sidecar says
// decides; these settings say how it checks and how long that may take.
type Health struct {
	// URI is asked for with GET on the port named by PortIndex; "" means that
	// the labels say how to check, and failing these, that a TCP connect does.
	URI       string `json:"healthcheckUri,omitempty"`
	PortIndex int    `json:"healthcheckPortIndex,omitempty"`
	// TimeoutSeconds bounds the wait for all tasks of a step, from launch to
	// healthy. Default DefaultHealthTimeoutSeconds.
	TimeoutSeconds int `json:"deployHealthTimeoutSeconds,omitempty"`
}

// DefaultHealthTimeoutSeconds is Singularity's deployHealthTimeoutSeconds.
const DefaultHealthTimeoutSeconds = 120

// ConsiderHealthyAfter is how long a task that Sidecar does not watch must run
// to count as healthy: Singularity's considerHealthyAfterRunningForSeconds.
const ConsiderHealthyAfter = 5 * time.Second

// Strategy says how a deploy replaces the one before.
type Strategy struct {
	// InstancesPerStep is how many instances are replaced at a time; 0 means all.
	InstancesPerStep int `json:"deployInstanceCountPerStep,omitempty"`
	// StepWaitMillis is the pause between two steps.
	StepWaitMillis int `json:"deployStepWaitTimeMs,omitempty"`
}

// Progress is how far a rolling deploy has come.
type Progress struct {
	// Target is how many instances of the new deploy this step aims for.
	Target int `json:"targetActiveInstances"`
	// StepStarted is when the step began; StepHealthy when all of it was healthy.
	StepStarted time.Time `json:"stepStarted,omitzero"`
	StepHealthy time.Time `json:"stepHealthy,omitzero"`
	// Before is how many instances of the active deploy there were when this
	// one was submitted; they go as the new ones take over.
	Before int `json:"instancesBefore,omitempty"`
}

// FailureReason says why a deploy failed. The values are Singularity's.
type FailureReason string

// The failure reasons.
const (
	FailedOnStartup     FailureReason = "TASK_FAILED_ON_STARTUP"
	FailedHealth        FailureReason = "TASK_FAILED_HEALTH_CHECKS"
	FailedToSchedule    FailureReason = "TASK_COULD_NOT_BE_SCHEDULED"
	FailedNeverRan      FailureReason = "TASK_NEVER_ENTERED_RUNNING"
	FailedFinished      FailureReason = "TASK_EXPECTED_RUNNING_FINISHED"
	FailedByRequest     FailureReason = "PENDING_DEPLOY_REMOVED"
	FailedDeployAborted FailureReason = "DEPLOY_CANCELLED"
)

// DeployFailure says which task made a deploy fail, why, and what it last printed.
type DeployFailure struct {
	Reason  FailureReason `json:"reason"`
	TaskID  string        `json:"taskId,omitempty"` // "" when no task could be placed
	Message string        `json:"message"`
	Log     []string      `json:"log,omitempty"`
}
