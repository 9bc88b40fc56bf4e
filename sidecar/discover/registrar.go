package discover

import (
	"context"

	"github.com/pancake-stack/pancake"
)

// Registrar takes services from processes that are not containers. It is what the
// API calls for
//
//	PUT    /api/services/<id>       Register
//	DELETE /api/services/<id>       Deregister
//	PUT    /api/services/<id>/ttl   Beat
//
// Its errors have kinds: Invalid for a body or an id that is no good, NotFound for an
// id that is not registered, Conflict for one that another source of discovery uses,
// NoRoom when there are too many, Unavailable when it cannot be written down.
type Registrar interface {
	// Register announces a service, or changes what is announced. The body is JSON,
	// MaxBody bytes at most, and is decoded and checked here. It returns the service
	// as it is announced.
	Register(ctx context.Context, id string, body []byte) (pancake.Service, error)
	// Deregister ends a service.
	Deregister(ctx context.Context, id string) error
	// Beat is a sign of life: the service lives for another TTL, and, where heart beats are
	// its check, has the status Alive, Sick or Unknown from now on. note says why it is not Alive.
	Beat(ctx context.Context, id string, status pancake.ServiceStatus, note string) error
}

// MaxBody bounds the body of a registration, in bytes.
const MaxBody = 64 << 10
