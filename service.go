package pancake

import "time"

// ServiceStatus is Sidecar's status of a service. The numbers are on the wire.
type ServiceStatus int

// The statuses, with Sidecar's numbers.
const (
	Alive     ServiceStatus = 0
	Tombstone ServiceStatus = 1 // gone; kept for a while so that nobody brings it back
	Sick      ServiceStatus = 2 // Sidecar's UNHEALTHY
	Unknown   ServiceStatus = 3
	Draining  ServiceStatus = 4 // still running, takes no new traffic
)

func (s ServiceStatus) String() string {
	switch s {
	case Alive:
		return "Alive"
	case Tombstone:
		return "Tombstone"
	case Sick:
		return "Unhealthy"
	case Draining:
		return "Draining"
	}
	return "Unknown"
}

// Service is one instance that Sidecar announces. The JSON is exactly
// Sidecar's; our own fields come last and are left out when empty.
// The Sidecar on Hostname alone writes it; any other may only tombstone it.
type Service struct {
	ID        string // the first 12 characters of the container's id
	Name      string
	Image     string
	Created   time.Time
	Hostname  string
	Ports     []ServicePort
	Updated   time.Time
	ProxyMode string // "http", "tcp" or "ws"
	Status    ServiceStatus

	// Labels holds the "traefik." labels, from which the routes are made.
	Labels map[string]string `json:",omitempty"`
	// Task is the Pancake task that the container belongs to.
	Task string `json:",omitempty"`
	// Note is the last answer of a failing health check; it is not gossiped.
	Note string `json:",omitempty"`
}

// ServicePort is one published port of a service.
type ServicePort struct {
	Type        string // "tcp" or "udp"
	Port        int64  // on the host
	ServicePort int64  // the port clients know the service by; 0 means it is not proxied
	IP          string

	// ContainerPort is the port inside the container, which
	// traefik.*.loadbalancer.server.port labels name.
	ContainerPort int64 `json:",omitempty"`
}

// The labels that Sidecar and Pancake read from a container.
const (
	LabelServiceName     = "ServiceName"
	LabelServicePort     = "ServicePort_" // + container port
	LabelHealthCheck     = "HealthCheck"
	LabelHealthCheckArgs = "HealthCheckArgs"
	LabelProxyMode       = "ProxyMode"
	LabelSidecarDiscover = "SidecarDiscover"
	// LabelSidecarListener is the service port on which the container wants to be
	// told of every change of the catalogue, by POST to /sidecar/update.
	LabelSidecarListener = "SidecarListener"

	// How a service is checked, beyond Sidecar's labels. Durations are written as 5s or 500ms.
	LabelHealthCheckInterval  = "HealthCheckInterval"      // time between two checks
	LabelHealthCheckTimeout   = "HealthCheckTimeout"       // bound of one check
	LabelHealthCheckRise      = "HealthCheckRise"          // passes in a row that make it Alive
	LabelHealthCheckFall      = "HealthCheckFall"          // failures in a row that make it Sick
	LabelHealthCheckMethod    = "HealthCheckMethod"        // HttpGet: another method than GET
	LabelHealthCheckStatus    = "HealthCheckStatus"        // HttpGet: such as 200-299,401
	LabelHealthCheckBody      = "HealthCheckBody"          // HttpGet: text that the body contains
	LabelHealthCheckBodyMatch = "HealthCheckBodyMatch"     // HttpGet: regular expression that the body matches
	LabelHealthCheckHeader    = "HealthCheckHeader_"       // HttpGet: + name of a header to send
	LabelHealthCheckRedirects = "HealthCheckRedirects"     // HttpGet: same-host, all or none
	LabelHealthCheckTLS       = "HealthCheckTLS"           // true, skip-verify or false
	LabelHealthCheckTLSCA     = "HealthCheckTLSCA"         // file with the authorities to trust, on the host
	LabelHealthCheckTLSName   = "HealthCheckTLSServerName" // name that the certificate is for
	LabelHealthCheckShell     = "HealthCheckShell"         // External: true runs the arguments with /bin/sh -c

	LabelTask    = "pancake.task"    // the task's id
	LabelAgent   = "pancake.agent"   // the id of the agent that runs it
	LabelRequest = "pancake.request" // the request's id
	LabelDeploy  = "pancake.deploy"  // the deploy's id
)
