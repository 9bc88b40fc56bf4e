package pancake

import (
	"strings"
	"time"
)

// RequestType says how a request is kept running. The values are Singularity's.
type RequestType string

// The request types. This version runs Service and Worker.
const (
	TypeService   RequestType = "SERVICE"   // long-running, reached through its ports
	TypeWorker    RequestType = "WORKER"    // long-running, takes no traffic
	TypeScheduled RequestType = "SCHEDULED" // started by a cron schedule
	TypeOnDemand  RequestType = "ON_DEMAND" // started by hand
	TypeRunOnce   RequestType = "RUN_ONCE"  // started once per deploy
)

// RequestState is where a request is in its life. The values are Singularity's.
type RequestState string

// The request states.
const (
	RequestActive   RequestState = "ACTIVE"
	RequestPaused   RequestState = "PAUSED"
	RequestCooldown RequestState = "SYSTEM_COOLDOWN" // its tasks fail again and again; restarts are slowed down
	RequestFinished RequestState = "FINISHED"
	RequestDeleting RequestState = "DELETING" // its tasks are being stopped; it goes when the last one has
	RequestDeleted  RequestState = "DELETED"
)

// Request is what a user wants kept running: a service or a job.
// The scheduler alone writes it.
type Request struct {
	// ID is normalised from environment and service, for example "dev_hello".
	ID          string       `json:"id"`
	Service     string       `json:"service,omitempty"`
	Environment string       `json:"environment,omitempty"`
	Type        RequestType  `json:"requestType"`
	State       RequestState `json:"state"`
	// Instances is how many tasks are kept running.
	Instances int `json:"instances"`
	// RequiredAttributes must each equal the attribute of the agent. Singularity
	// calls them requiredSlaveAttributes.
	RequiredAttributes map[string]string `json:"requiredAttributes,omitempty"`

	// Group and ReadWriteGroups may read and change it, ReadOnlyGroups may read it.
	// When the first two are empty it belongs to nobody, and so to all.
	Group           string   `json:"group,omitempty"`
	ReadWriteGroups []string `json:"readWriteGroups,omitempty"`
	ReadOnlyGroups  []string `json:"readOnlyGroups,omitempty"`

	// ActiveDeploy is the deploy that serves; PendingDeploy the one on its way in.
	ActiveDeploy  string `json:"activeDeploy,omitempty"`
	PendingDeploy string `json:"pendingDeploy,omitempty"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// Settings are the part of a request that a deploy brings along.
type Settings struct {
	Service            string            `json:"service,omitempty"`
	Environment        string            `json:"environment,omitempty"`
	Instances          int               `json:"instances"`
	RequiredAttributes map[string]string `json:"requiredAttributes,omitempty"`
	Group              string            `json:"group,omitempty"`
	ReadWriteGroups    []string          `json:"readWriteGroups,omitempty"`
	ReadOnlyGroups     []string          `json:"readOnlyGroups,omitempty"`
}

// Grouped reports whether r names any group.
func (r *Request) Grouped() bool {
	return r.Group != "" || len(r.ReadWriteGroups)+len(r.ReadOnlyGroups) > 0
}

// Settings returns the settings of r.
func (r *Request) Settings() *Settings {
	return &Settings{
		Service: r.Service, Environment: r.Environment, Instances: r.Instances, RequiredAttributes: r.RequiredAttributes,
		Group: r.Group, ReadWriteGroups: r.ReadWriteGroups, ReadOnlyGroups: r.ReadOnlyGroups,
	}
}

// As returns a copy of the request as deploy d wants it: with the settings that
// d brings along, if it does. d may be nil.
func (r *Request) As(d *Deploy) *Request {
	c := *r
	if d != nil && d.Settings != nil {
		s := d.Settings
		c.Service, c.Environment, c.Instances, c.RequiredAttributes = s.Service, s.Environment, s.Instances, s.RequiredAttributes
		c.Group, c.ReadWriteGroups, c.ReadOnlyGroups = s.Group, s.ReadWriteGroups, s.ReadOnlyGroups
	}
	return &c
}

// RequestID makes the id of a request as nmesos does: environment and service,
// joined by "-", normalised.
func RequestID(environment, service string) string {
	return Normalize(environment + "-" + service)
}

// Normalize replaces every character other than a–z, A–Z and 0–9 by "_", as
// nmesos does for the ids it hands to Singularity.
func Normalize(s string) string {
	return strings.Map(normal, s)
}

func normal(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return r
	}
	return '_'
}
