package sidecar

import (
	"context"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// registrar is a registry that answers with what the catalogue makes of a registration.
type registrar struct {
	*discover.Registry
	owner *owner
}

// Register announces a service and returns its record when all who ask are shown it.
func (r registrar) Register(ctx context.Context, id string, body []byte) (pancake.Service, error) {
	svc, err := r.Registry.Register(ctx, id, body)
	if err != nil {
		return svc, err
	}
	r.owner.flush(ctx)
	snap := r.owner.Snapshot()
	if h := snap.Hosts[snap.Self]; h != nil && h.Services[id] != nil {
		svc = *h.Services[id]
	}
	return svc, nil
}
