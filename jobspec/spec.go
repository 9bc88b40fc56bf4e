package jobspec

import (
	"crypto/sha1" //nolint:gosec // the ids of nmesos are made with it; nothing rests on its strength
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/pancake-stack/pancake"
)

// Spec is one environment of a job file, merged with common, checked, and with
// the defaults filled in. The names of the sections and keys are the file's.
type Spec struct {
	Service     string // the name of the file without its folder and ending
	Environment string

	Resources   Resources
	Container   Container
	Executor    Executor
	Singularity Singularity

	hash string // of the text of the whole file
}

// Resources are what one instance takes, and how many of them there are.
type Resources struct {
	CPUs      float64
	MemoryMB  int // mebibytes
	Instances int // default 1
}

// Container says what runs.
type Container struct {
	Image            string // without a tag
	Command          string // run by /bin/sh -c; "" runs the image's own
	ForcePull        bool
	Ports            []pancake.PortMapping
	Labels           map[string]string
	EnvVars          map[string]string
	Volumes          []pancake.Volume
	Network          pancake.Network // default NetworkBridge
	DockerParameters map[string]string
	DeployFreeze     bool // nothing may be deployed for now
}

// Executor holds settings for Mesos' executor. Pancake has one of its own.
type Executor struct {
	CustomCommand string
	EnvVars       map[string]string
}

// Singularity says how the service is deployed and placed.
type Singularity struct {
	URL         string // of nmesos' Singularity; Pancake's scheduler is a flag
	Schedule    string
	RequestType pancake.RequestType // default TypeService

	InstancesPerStep     int  // 0 means all at once
	StepWaitMillis       int  // pause between two steps
	HealthTimeoutSeconds int  // 0 means the scheduler's default
	AutoAdvance          bool // default true

	HealthcheckURI                    string
	HealthcheckPortIndex              int
	HealthcheckMaxRetries             int
	HealthcheckTimeoutSeconds         int
	HealthcheckMaxTotalTimeoutSeconds int

	RequiredRole       string
	RequiredAttributes map[string]string
	AllowedAttributes  map[string]string
	Placement          string // default OPTIMISTIC

	// Who may change and see the service; all may when the first two are empty.
	Group           string
	ReadWriteGroups []string
	ReadOnlyGroups  []string
}

// newSpec returns a Spec with the defaults of nmesos and Singularity.
func newSpec(service, environment, hash string) *Spec {
	return &Spec{
		Service:     service,
		Environment: environment,
		Resources:   Resources{Instances: 1},
		Container:   Container{Network: pancake.NetworkBridge},
		Singularity: Singularity{RequestType: pancake.TypeService, AutoAdvance: true, Placement: "OPTIMISTIC"},
		hash:        hash,
	}
}

// tagPattern is what a Docker registry takes as a tag.
var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// Release makes the words for one version of the service: the image with the
// tag. Releasing the same tag of the same file again makes the same deploy id.
// The user is whoever asks for it. A tag that no registry takes is Invalid, a
// service with deploy_freeze a Conflict.
func (s *Spec) Release(tag, user string) (pancake.Request, pancake.Deploy, error) {
	if tag == "" {
		return pancake.Request{}, pancake.Deploy{}, pancake.Errorf(pancake.Invalid,
			"a tag is required: the version of the image %s to release, for example 1.0", s.Container.Image)
	}
	if !tagPattern.MatchString(tag) {
		return pancake.Request{}, pancake.Deploy{}, pancake.Errorf(pancake.Invalid,
			"%s is not an image tag: it has up to 128 letters, digits, _, . and -, and begins with none of . and -", quoted(tag))
	}
	if s.Container.DeployFreeze {
		return pancake.Request{}, pancake.Deploy{}, pancake.Errorf(pancake.Conflict,
			"%s is frozen in %s: remove container.deploy_freeze from its job file to deploy it", s.Service, s.Environment)
	}
	request := s.request()
	return request, s.deploy(request.ID, tag, user), nil
}

// ForceRelease is Release with a deploy id that is new at every second, so
// that what has been deployed already is deployed again.
func (s *Spec) ForceRelease(tag, user string, now time.Time) (pancake.Request, pancake.Deploy, error) {
	request, deploy, err := s.Release(tag, user)
	if err != nil {
		return request, deploy, err
	}
	// nmesos counts from here, in local time.
	epoch := time.Date(2016, time.December, 1, 0, 0, 0, 0, now.Location())
	deploy.ID = pancake.Normalize(deploy.ID + "-" + strconv.FormatInt(now.Unix()-epoch.Unix(), 10))
	return request, deploy, nil
}

func (s *Spec) request() pancake.Request {
	return pancake.Request{
		ID:                 pancake.RequestID(s.Environment, s.Service),
		Service:            s.Service,
		Environment:        s.Environment,
		Type:               s.Singularity.RequestType,
		Instances:          s.Resources.Instances,
		RequiredAttributes: maps.Clone(s.Singularity.RequiredAttributes),
		Group:              s.Singularity.Group,
		ReadWriteGroups:    slices.Clone(s.Singularity.ReadWriteGroups),
		ReadOnlyGroups:     slices.Clone(s.Singularity.ReadOnlyGroups),
	}
}

func (s *Spec) deploy(requestID, tag, user string) pancake.Deploy {
	c := s.Container
	return pancake.Deploy{
		ID:        pancake.Normalize(tag + "-" + s.hash),
		RequestID: requestID,
		Tag:       tag,
		User:      user,
		Container: pancake.Container{
			Image:     c.Image + ":" + tag,
			ForcePull: c.ForcePull,
			Command:   c.Command,
			Network:   c.Network,
			Ports:     slices.Clone(c.Ports),
			Env:       maps.Clone(c.EnvVars),
			Labels:    maps.Clone(c.Labels),
			Volumes:   slices.Clone(c.Volumes),
		},
		Resources: pancake.Resources{CPUs: pancake.CPUs(s.Resources.CPUs), MemoryMB: int64(s.Resources.MemoryMB)},
		Health: pancake.Health{
			URI:            s.Singularity.HealthcheckURI,
			PortIndex:      s.Singularity.HealthcheckPortIndex,
			TimeoutSeconds: s.Singularity.HealthTimeoutSeconds,
		},
		Strategy: pancake.Strategy{
			InstancesPerStep: s.Singularity.InstancesPerStep,
			StepWaitMillis:   s.Singularity.StepWaitMillis,
		},
	}
}

// hashLength is how many hexadecimal digits of the hash nmesos takes.
const hashLength = 7

// textHash tells the texts of job files apart, as nmesos does: comments count.
func textHash(text []byte) string {
	sum := sha1.Sum(text) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])[:hashLength]
}
