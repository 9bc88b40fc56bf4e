package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/pancake-stack/pancake"
)

// Filter says which services are asked for: those of which all is true. The zero
// value asks for all that are not gone.
type Filter struct {
	Name, Host, Task []string // any of them; empty for all
	// Status are the statuses that are asked for. Empty: all but Tombstone.
	Status []pancake.ServiceStatus
	// Label are labels that a service has to have, all of them: "key" or "key=value".
	Label []string
	// Sort is the order: "name", "host", "status", "created" or "updated", with a
	// "-" in front for the reverse. Default "name".
	Sort string
}

func (f Filter) query() url.Values {
	q := url.Values{"name": f.Name, "host": f.Host, "task": f.Task, "label": f.Label}
	names := map[pancake.ServiceStatus]string{
		pancake.Alive: "alive", pancake.Tombstone: "tombstone", pancake.Sick: "unhealthy", pancake.Unknown: "unknown", pancake.Draining: "draining",
	}
	for _, s := range f.Status {
		q.Add("status", names[s])
	}
	if f.Sort != "" {
		q.Set("sort", f.Sort)
	}
	return q
}

// Services lists services.
func (c *Client) Services(ctx context.Context, f Filter) ([]pancake.Service, error) {
	var out struct{ Services []pancake.Service }
	err := c.call(ctx, http.MethodGet, "/v1/services?"+f.query().Encode(), nil, &out)
	return out.Services, err
}

// Registration describes a service that is no container.
type Registration struct {
	// Service is what is announced. Name and Ports are needed; the ports of one
	// without an IP are on the Sidecar's host. The Sidecar fills in the rest.
	Service pancake.Service
	// Check says how the service is checked: "Type", "Args", "Interval" and so on,
	// as the labels of containers do. Default: by Beat if there is a TTL, and else
	// as a container without labels.
	Check map[string]string `json:",omitempty"`
	// ListenPort is a port of the host that wants to be told of changes; 0 for none.
	ListenPort int64 `json:",omitempty"`
	// TTL is how long the registration lives without a Beat, such as "30s". Default: for ever.
	TTL string `json:",omitempty"`
}

// Register announces a service, under an ID of the caller's choice. Calling it
// again replaces what was registered.
func (c *Client) Register(ctx context.Context, id string, registration Registration) (pancake.Service, error) {
	var out pancake.Service
	err := c.call(ctx, http.MethodPut, servicePath(id), registration, &out)
	return out, err
}

// Deregister ends a service that was registered.
func (c *Client) Deregister(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, servicePath(id), nil, nil)
}

// Beat is the sign of life of a service that was registered with a time to live:
// Alive, Sick or Unknown, and why.
func (c *Client) Beat(ctx context.Context, id string, status pancake.ServiceStatus, note string) error {
	return c.call(ctx, http.MethodPut, servicePath(id)+"/ttl", struct {
		Status pancake.ServiceStatus
		Note   string `json:",omitempty"`
	}{status, note}, nil)
}

func servicePath(id string) string { return "/api/services/" + url.PathEscape(id) }
