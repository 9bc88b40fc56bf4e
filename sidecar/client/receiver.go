package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
)

// HoldDown is the least time between two calls of a Receiver's onUpdate, so that a
// deployment that rolls through the cluster is not a call for every service.
const HoldDown = 5 * time.Second

// maxAhead is how far ahead the time of a state may be that makes older updates count as old:
// beyond, it is of a host whose clock is wrong.
const maxAhead = time.Minute

// Receiver takes the updates that a Sidecar posts to its listeners, and calls back
// when a service that it is subscribed to becomes available or goes away. Mount
// UpdateHandler where the Sidecar posts, /sidecar/update, and run Run.
type Receiver struct {
	// HoldDown replaces the constant of that name, if set before Run.
	HoldDown time.Duration

	onUpdate func(*State)
	calling  sync.Mutex    // held while onUpdate is called
	pending  chan struct{} // what has come since the last callback

	mu            sync.Mutex
	state         *State
	subscriptions []string
}

// NewReceiver makes a Receiver. onUpdate gets a copy of the newest state that is
// its own, and is called once at a time. Up to capacity updates, and one at least, wait
// for a callback and share it; those beyond share it too.
func NewReceiver(capacity int, onUpdate func(*State)) *Receiver {
	return &Receiver{onUpdate: onUpdate, pending: make(chan struct{}, max(capacity, 1))}
}

// Subscribe asks for updates of a service. Without any subscription all are
// asked for.
func (r *Receiver) Subscribe(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.subscriptions, name) {
		r.subscriptions = append(r.subscriptions, name)
	}
}

// IsSubscribed reports whether updates of a service are asked for.
func (r *Receiver) IsSubscribed(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscribed(name)
}

func (r *Receiver) subscribed(name string) bool {
	return len(r.subscriptions) == 0 || slices.Contains(r.subscriptions, name)
}

// State returns a copy of the newest state, nil before the first.
func (r *Receiver) State() *State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Clone()
}

// ShouldNotify reports whether a change of status concerns whoever uses the
// service: it became available, goes out of service, or fails having been well.
func ShouldNotify(before, now pancake.ServiceStatus) bool {
	switch now {
	case pancake.Alive, pancake.Tombstone, pancake.Draining:
		return true
	case pancake.Unknown, pancake.Sick:
		return before == pancake.Alive
	}
	return false
}

// FetchInitialState fetches the state of the Sidecar at url, such as
// http://127.0.0.1:7777/api/state.json, and calls onUpdate with it, or with a newer one
// that was posted meanwhile.
func (r *Receiver) FetchInitialState(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r.mu.Lock()
	before := r.state
	r.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "state address %q: %w", url, err)
	}
	resp, err := defaultHTTP.Do(req)
	if err != nil {
		return pancake.Errorf(pancake.Unavailable, "fetch the state from %s: %w", url, unwrapURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return pancake.Errorf(pancake.Unavailable, "fetch the state from %s: %s", url, resp.Status)
	}
	var s State
	if err := json.NewDecoder(bound(resp.Body)).Decode(&s); err != nil {
		return pancake.Errorf(pancake.Unavailable, "%s answered with something unreadable: %w", url, err)
	}
	r.mu.Lock()
	// What was posted while the answer was on its way may be newer than that.
	if r.state == before || !r.state.covers(s.LastChanged) {
		r.state = &s
	}
	r.mu.Unlock()
	r.call()
	return nil
}

// covers reports whether a state has what happened at the given time.
func (s *State) covers(at time.Time) bool {
	return s != nil && !s.LastChanged.Before(at) && time.Until(s.LastChanged) < maxAhead
}

// call calls onUpdate with the newest state. One call at a time: those that wait see
// what is newest when it is their turn, so none ends with an older one.
func (r *Receiver) call() {
	r.calling.Lock()
	defer r.calling.Unlock()
	r.onUpdate(r.State())
}

// UpdateHandler takes the updates: POST a StateChangedEvent. An update that is no
// newer than what is known changes nothing.
func (r *Receiver) UpdateHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var e StateChangedEvent
		err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxDocument)).Decode(&e)
		if err == nil && e.State == nil {
			err = errors.New("an update without a state")
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {err.Error()}}) // a client that left cannot be told
			return
		}
		r.take(&e)
	})
}

// take keeps the state of an update and sees whether anybody wants to know.
func (r *Receiver) take(e *StateChangedEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.state
	if before.covers(e.ChangeEvent.Time) {
		return
	}
	r.state = e.State
	svc := &e.ChangeEvent.Service
	wanted := r.subscribed(svc.Name) && ShouldNotify(e.ChangeEvent.PreviousStatus, svc.Status)
	// A Sidecar that could not keep up leaves out changes, never their outcome.
	if wanted || before != nil && r.differs(before, e.State) {
		select {
		case r.pending <- struct{}{}:
		default: // a callback is due anyway, and it gets the newest state
		}
	}
}

// differs reports whether a service that is subscribed to is of another status,
// in a way that matters.
func (r *Receiver) differs(before, now *State) bool {
	for host, server := range now.Servers {
		if server == nil {
			continue
		}
		var old map[string]*pancake.Service
		if h := before.Servers[host]; h != nil {
			old = h.Services
		}
		for id, svc := range server.Services {
			if svc == nil || !r.subscribed(svc.Name) {
				continue
			}
			status := pancake.Unknown
			if o := old[id]; o != nil {
				status = o.Status
			}
			if status != svc.Status && ShouldNotify(status, svc.Status) {
				return true
			}
		}
	}
	return false
}

// Run calls onUpdate after updates, and then not before the hold-down has passed,
// until ctx ends.
func (r *Receiver) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.pending:
		}
		for range len(r.pending) { // these are in the state that follows
			<-r.pending
		}
		r.call()
		if err := sleep(ctx, cmp.Or(r.HoldDown, HoldDown)); err != nil {
			return err
		}
	}
}
