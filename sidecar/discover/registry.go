package discover

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// RegistryConfig says how registrations are kept.
type RegistryConfig struct {
	// Path is the file that keeps them, so that a restart loses none. "" keeps them in memory alone.
	Path string
	// AdvertiseIP is where ports without an IP are reached; Hostname is what answers carry.
	AdvertiseIP, Hostname string
	// Taken says whether another source of discovery has a service of that ID. Default: none has.
	Taken func(id string) bool
	// Max bounds how many services may be registered. Default 4,096.
	Max int
	Log *slog.Logger // default: none
}

const (
	// maxRegistryBatch is how many calls are written down together.
	maxRegistryBatch = 256
	// saveStatusAfter is how long a change of health may wait to be written down.
	saveStatusAfter = time.Second
	// registryPatience bounds how long a call waits for its turn.
	registryPatience = 10 * time.Second
	// idRule says what an ID is.
	idRule = "an ID has 1 to 128 letters, digits and . _ : - and begins with a letter or a digit"
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

func validID(id string) bool { return idPattern.MatchString(id) }

// Registry announces services that register themselves. Its methods are safe for
// concurrent use and work while Run does.
type Registry struct {
	cfg   RegistryConfig
	log   *slog.Logger
	sink  Sink
	calls chan call
	ended chan struct{} // closed when Run has ended

	// The rest is owned by Run.
	entries map[string]Entry // replaced, never modified
	lives   map[string]*life
	next    time.Time // when something is due; zero: nothing is
	saveAt  time.Time // when changes of health are due to be written; zero: there are none
}

// life is how a registered service is.
type life struct {
	beat   time.Time // the last sign of life
	stale  bool      // it is too long ago
	told   bool      // the sink knows the rest
	status pancake.ServiceStatus
	note   string
}

// call is one method call on its way to Run.
type call struct {
	do   func(*batch) error
	done chan error // has room for the answer
}

// batch is what some calls change together.
type batch struct {
	entries map[string]Entry
	touched []string // the IDs of entries that are different now
	wrote   bool     // the call that is being done has changed entries
	beats   []beat   // in order
	now     time.Time
}

// beat is a sign of life.
type beat struct {
	id     string
	status pancake.ServiceStatus
	note   string
}

func (b *batch) set(id string, e Entry) {
	b.touch(id)
	b.entries[id] = e
}

func (b *batch) remove(id string) {
	b.touch(id)
	delete(b.entries, id)
}

func (b *batch) touch(id string) {
	if len(b.touched) == 0 {
		b.entries = maps.Clone(b.entries) // the old ones count if the new cannot be written
	}
	b.touched, b.wrote = append(b.touched, id), true
}

// NewRegistry makes a Registry that tells sink of what is registered.
func NewRegistry(cfg RegistryConfig, sink Sink) *Registry {
	cfg.Max = cmp.Or(cfg.Max, 4096)
	if cfg.Taken == nil {
		cfg.Taken = func(string) bool { return false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{
		cfg: cfg, log: cfg.Log, sink: sink, calls: make(chan call), ended: make(chan struct{}),
		entries: map[string]Entry{}, lives: map[string]*life{},
	}
}

var _ Registrar = (*Registry)(nil)

// Register is Registrar's.
func (r *Registry) Register(ctx context.Context, id string, body []byte) (pancake.Service, error) {
	e, err := ParseRegistration(body, r.cfg.AdvertiseIP)
	if err != nil {
		return pancake.Service{}, err
	}
	return r.Put(ctx, id, e)
}

// ParseRegistration reads the body of a registration. Without a check it is a
// heart beat if it has a TTL, and Sidecar's default if not.
func ParseRegistration(body []byte, advertiseIP string) (Entry, error) {
	if len(body) > MaxBody {
		return Entry{}, pancake.Errorf(pancake.Invalid, "a registration of more than %d bytes", MaxBody)
	}
	e, err := decodeEntry(body)
	if err == nil {
		err = e.complete(advertiseIP)
	}
	if err == nil {
		err = e.completeRegistration()
	}
	return e, err
}

func (e *Entry) completeRegistration() error {
	if e.TTL != 0 && (time.Duration(e.TTL) < minTTL || time.Duration(e.TTL) > maxTTL) {
		return pancake.Errorf(pancake.Invalid, "TTL is %s; it can be from %s to %s", time.Duration(e.TTL), minTTL, maxTTL)
	}
	if e.TTL != 0 && e.Check.Type == "" && e.Check.Args == "" && len(e.Check.Options) == 0 {
		e.Check.Type = health.TTL
	}
	switch e.Check.Type {
	case health.External:
		return pancake.Errorf(pancake.Invalid, "a registration may not have programs run: use HttpGet, Tcp, Grpc or Ttl, or a file of services")
	case health.Docker:
		return pancake.Errorf(pancake.Invalid, "a check of type Docker is for containers")
	case health.TTL:
		stale, err := e.stale()
		if err != nil {
			return err
		}
		if stale == 0 && e.TTL == 0 {
			return pancake.Errorf(pancake.Invalid, "a check of type Ttl needs TTL, or a duration as Check.Args")
		}
	}
	return nil
}

// stale is after how long without a heart beat the service is Sick; 0 for never.
func (e *Entry) stale() (time.Duration, error) {
	if e.Check.Type != health.TTL || e.Check.Args == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(e.Check.Args)
	if err != nil || d < minTTL || d > maxTTL {
		return 0, pancake.Errorf(pancake.Invalid, "Check.Args of type Ttl is %q; it is a duration from %s to %s", clip(e.Check.Args), minTTL, maxTTL)
	}
	return d, nil
}

// Put announces a service, or changes what is announced. It counts as a sign of life.
func (r *Registry) Put(ctx context.Context, id string, e Entry) (pancake.Service, error) {
	if !validID(id) {
		return pancake.Service{}, pancake.Errorf(pancake.Invalid, "ID %q: %s", clip(id), idRule)
	}
	err := r.call(ctx, func(b *batch) error {
		old, known := b.entries[id]
		switch {
		case !known && len(b.entries) >= r.cfg.Max:
			return pancake.Errorf(pancake.NoRoom, "%d services are registered, which is as many as may be", r.cfg.Max)
		case !known && r.cfg.Taken(id):
			return pancake.Errorf(pancake.Conflict, "another source of discovery has a service with ID %q; choose another ID", id)
		}
		e.Service.ID = id
		if e.Service.Created.IsZero() {
			e.Service.Created = b.now.Round(0).UTC()
			if known {
				e.Service.Created = old.Service.Created
			}
		}
		same := known && reflect.DeepEqual(old, e)
		if !same {
			b.set(id, e)
		}
		b.beats = append(b.beats, beat{id, pancake.Alive, ""})
		return nil
	})
	svc := e.Service
	svc.ID, svc.Hostname = id, r.cfg.Hostname
	if e.Check.Type == health.TTL {
		svc.Status = pancake.Alive
	}
	return svc, err
}

// Deregister is Registrar's.
func (r *Registry) Deregister(ctx context.Context, id string) error {
	return r.call(ctx, func(b *batch) error {
		if _, ok := b.entries[id]; !ok {
			return unregistered(id)
		}
		b.remove(id)
		return nil
	})
}

// Beat is Registrar's.
func (r *Registry) Beat(ctx context.Context, id string, status pancake.ServiceStatus, text string) error {
	if status != pancake.Alive && status != pancake.Sick && status != pancake.Unknown {
		return pancake.Errorf(pancake.Invalid, "a heart beat says Alive, Unhealthy or Unknown, not %s", status)
	}
	return r.call(ctx, func(b *batch) error {
		if _, ok := b.entries[id]; !ok {
			return unregistered(id)
		}
		b.beats = append(b.beats, beat{id, status, note(text)})
		return nil
	})
}

func unregistered(id string) error {
	return pancake.Errorf(pancake.NotFound, "no service is registered with ID %q; it was deleted or its TTL has passed: register it again", clip(id))
}

// call has Run do something.
func (r *Registry) call(ctx context.Context, do func(*batch) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, registryPatience, pancake.Errorf(pancake.Unavailable, "registrations are not taken yet; try again"))
	defer cancel()
	c := call{do, make(chan error, 1)}
	select {
	case r.calls <- c:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.ended:
		return pancake.Errorf(pancake.Unavailable, "this Sidecar is ending")
	}
	return <-c.done // what Run has taken it answers, within one batch
}
