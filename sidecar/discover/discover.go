// Package discover finds the services that run on this host.
package discover

import (
	"context"

	"github.com/pancake-stack/pancake"
)

// Found is one service and how it says it wants to be checked.
type Found struct {
	Service              pancake.Service // Status, Updated and Hostname are left to the catalogue
	CheckType, CheckArgs string
}

// Sink is told what is found. It is called from one goroutine, with the
// context of discovery's Run.
type Sink interface {
	// Up says that a service runs, or that its description is different now.
	Up(ctx context.Context, f Found)
	// Gone says that the service with this ID runs no more.
	Gone(ctx context.Context, id string)
	// Settled says, once, that all services that ran at the start have been told.
	Settled(ctx context.Context)
}
