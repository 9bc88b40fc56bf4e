package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// Run announces what is registered until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	defer close(r.ended)
	r.load(ctx, time.Now())
	r.sink.Settled(ctx)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		r.arm(timer)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), r.saveStatuses())
		case c := <-r.calls:
			r.batch(ctx, c)
		case now := <-timer.C:
			r.expire(ctx, now)
		}
	}
}

// arm sets the timer to what is due next.
func (r *Registry) arm(timer *time.Timer) {
	next := r.next
	if next.IsZero() || !r.saveAt.IsZero() && r.saveAt.Before(next) {
		next = r.saveAt
	}
	wait := time.Hour
	if !next.IsZero() {
		wait = max(0, time.Until(next))
	}
	timer.Reset(wait)
}

// batch does a call and those that wait behind it. What they change is written
// down once, and told after that.
func (r *Registry) batch(ctx context.Context, first call) {
	b := &batch{entries: r.entries, now: time.Now()}
	calls, errs, writers := []call{first}, []error{}, []int{}
	for len(calls) < maxRegistryBatch {
		select {
		case c := <-r.calls:
			calls = append(calls, c)
			continue
		default:
		}
		break
	}
	for i, c := range calls {
		b.wrote = false
		errs = append(errs, c.do(b))
		if b.wrote {
			writers = append(writers, i)
		}
	}
	if len(b.touched) > 0 {
		if err := r.save(b.entries); err == nil {
			r.entries = b.entries
			r.tell(ctx, b.touched)
		} else {
			err = pancake.Errorf(pancake.Unavailable, "registrations cannot be written down: %w", err)
			for _, i := range writers {
				errs[i] = err
			}
		}
	}
	for _, beat := range b.beats {
		r.alive(ctx, beat, b.now)
	}
	for i, c := range calls {
		c.done <- errs[i]
	}
}

// tell tells the sink of entries that are different now.
func (r *Registry) tell(ctx context.Context, ids []string) {
	for _, id := range ids {
		e, ok := r.entries[id]
		switch l := r.lives[id]; {
		case ok:
			if l == nil {
				l = &life{status: pancake.Alive} // as it is written down
				r.lives[id] = l
			}
			l.told = false
			r.sink.Up(ctx, e.found(r.cfg.AdvertiseIP))
		case l != nil:
			delete(r.lives, id)
			r.sink.Gone(ctx, id)
		}
	}
}

// alive takes a sign of life.
func (r *Registry) alive(ctx context.Context, b beat, now time.Time) {
	e, l := r.entries[b.id], r.lives[b.id]
	if l == nil {
		return // its registration could not be written down, or it is gone again
	}
	l.beat, l.stale = now, false
	r.due(&e, now)
	r.status(ctx, &e, l, b.status, b.note, now)
}

// status tells the sink how a service is whose check are heart beats, if it does not know.
func (r *Registry) status(ctx context.Context, e *Entry, l *life, status pancake.ServiceStatus, text string, now time.Time) {
	if e.Check.Type != health.TTL || l.told && l.status == status && l.note == text {
		return
	}
	if (l.status != status || l.note != text) && r.saveAt.IsZero() {
		r.saveAt = now.Add(saveStatusAfter)
	}
	l.told, l.status, l.note = true, status, text
	r.sink.Status(ctx, e.Service.ID, status, text)
}

// due notes when an entry that has shown life at the given time has to be looked at again.
func (r *Registry) due(e *Entry, at time.Time) {
	stale, _ := e.stale() // checked when it was registered
	for _, d := range []time.Duration{stale, time.Duration(e.TTL)} {
		if due := at.Add(d); d > 0 && (r.next.IsZero() || due.Before(r.next)) {
			r.next = due
		}
	}
}

// expire ends services whose TTL has passed, makes those Sick whose heart beat is
// late, and writes down how services are if that is due.
func (r *Registry) expire(ctx context.Context, now time.Time) {
	r.next = time.Time{}
	var ended []string
	for id, e := range r.entries {
		l := r.lives[id]
		quiet := now.Sub(l.beat)
		stale, _ := e.stale() // checked when it was registered
		switch ttl := time.Duration(e.TTL); {
		case ttl > 0 && quiet >= ttl:
			ended = append(ended, id)
			continue
		case stale > 0 && quiet >= stale && !l.stale:
			l.stale = true
			r.status(ctx, &e, l, pancake.Sick, fmt.Sprintf("no heart beat for %s", stale), now)
		}
		if ttl := time.Duration(e.TTL); !l.stale {
			r.due(&e, l.beat)
		} else if due := l.beat.Add(ttl); ttl > 0 && (r.next.IsZero() || due.Before(r.next)) {
			r.next = due
		}
	}
	if len(ended) > 0 {
		left := maps.Clone(r.entries)
		for _, id := range ended {
			delete(left, id)
			r.log.InfoContext(ctx, "a registration was not renewed; it ends", "id", id, "service", r.entries[id].Service.Name, "ttl", time.Duration(r.entries[id].TTL))
		}
		r.entries, r.saveAt = left, now
		r.tell(ctx, ended)
	}
	if !r.saveAt.IsZero() && !now.Before(r.saveAt) {
		if err := r.saveStatuses(); err != nil {
			r.log.ErrorContext(ctx, "registrations cannot be written down; a restart would know them as they were", "err", err)
			r.saveAt = now.Add(10 * saveStatusAfter)
		}
	}
}

// registered is a registration on disk.
type registered struct {
	Entry
	Status pancake.ServiceStatus
	Note   string `json:",omitempty"`
}

// registryFile is all of them.
type registryFile struct {
	Version int
	// AdvertiseIP is where ports were reached that said no IP.
	AdvertiseIP string `json:",omitempty"`
	Services    map[string]registered
}

const (
	registryVersion = 1
	// maxRegistryFile bounds what is read, in bytes: as many registrations as there may
	// be, of the largest size.
	maxRegistryFile = 4096 * MaxBody
	damaged         = ".damaged"
)

func (r *Registry) saveStatuses() error {
	if r.saveAt.IsZero() {
		return nil
	}
	err := r.save(r.entries)
	if err == nil {
		r.saveAt = time.Time{}
	}
	return err
}

// save writes entries, and how they are, in place of those before.
func (r *Registry) save(entries map[string]Entry) error {
	if r.cfg.Path == "" {
		return nil
	}
	file := registryFile{registryVersion, r.cfg.AdvertiseIP, make(map[string]registered, len(entries))}
	for id, e := range entries {
		saved := registered{Entry: e, Status: pancake.Alive}
		if l := r.lives[id]; l != nil {
			saved.Status, saved.Note = l.status, l.note
		}
		file.Services[id] = saved
	}
	b, err := json.Marshal(file)
	if err != nil {
		return err
	}
	return identity.WritePrivate(r.cfg.Path, b)
}

// load announces what was registered before a restart. Each has its whole TTL again:
// signs of life that came meanwhile went unheard.
func (r *Registry) load(ctx context.Context, now time.Time) {
	file, err := r.read()
	if err != nil {
		r.log.ErrorContext(ctx, "the file of registrations cannot be read; services have to register again", "file", r.cfg.Path, "err", err)
		if err := os.Rename(r.cfg.Path, r.cfg.Path+damaged); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.log.ErrorContext(ctx, "the damaged file of registrations could not be put aside", "err", err)
		}
		return
	}
	for id, saved := range file.Services {
		e := saved.Entry
		for i := range e.Service.Ports {
			if p := &e.Service.Ports[i]; p.IP == file.AdvertiseIP {
				p.IP = "" // where the host is reached may be different now
			}
		}
		err := e.complete(r.cfg.AdvertiseIP)
		if err == nil {
			err = e.completeRegistration()
		}
		if err == nil && (!validID(id) || r.cfg.Taken(id)) {
			err = pancake.Errorf(pancake.Conflict, "the ID is no good, or another source of discovery has it")
		}
		if err != nil {
			r.log.ErrorContext(ctx, "a registration is not taken over; the service has to register again", "id", clip(id), "err", err)
			continue
		}
		e.Service.ID = id
		r.entries[id] = e
		r.tell(ctx, []string{id})
		r.alive(ctx, beat{id, saved.Status, note(saved.Note)}, now)
	}
	r.saveAt = time.Time{}
}

func (r *Registry) read() (registryFile, error) {
	var file registryFile
	if r.cfg.Path == "" {
		return file, nil
	}
	f, err := os.Open(r.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return file, err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxRegistryFile)).Decode(&file); err != nil {
		return file, err
	}
	if file.Version != registryVersion {
		return file, fmt.Errorf("version %d; this program knows %d", file.Version, registryVersion)
	}
	return file, nil
}
