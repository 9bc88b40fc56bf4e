package bridge

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/url"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/bridge/mirror"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// ImportConfig says how an Importer works. Ours and URLs are required.
type ImportConfig struct {
	Ours Ours
	// URLs are some Sidecars of one old cluster, such as http://old:7777. The first
	// that answers is watched.
	URLs []string
	// PollInterval is how often the state is fetched besides: an old Sidecar's watch
	// says nothing of services that are repeated unchanged. Default 10 s.
	PollInterval time.Duration
	Log          *slog.Logger          // default: none
	Metrics      prometheus.Registerer // default: none
}

const (
	// pollFor bounds one answer: an old Sidecar with 2,000 services was seen to
	// take 36 s, and the next poll comes soon enough.
	pollFor = 15 * time.Second
	// absence is for how long a host or a service has to be missing in the answers
	// before it counts as gone: a Sidecar that was restarted knows only itself.
	absence = 15 * time.Second
	// maxRetry is the longest pause before the next Sidecar is tried.
	maxRetry = 30 * time.Second
)

// Importer mirrors the services of an old cluster into ours, over HTTP alone.
// Any number of them may do so.
type Importer struct {
	cfg    ImportConfig
	report *report
	loop   *loop

	mu      sync.Mutex
	seen    map[string]mirror.Presence
	left    map[string]time.Time    // when the hosts that have gone did
	missing map[[2]string]time.Time // since when, by host and service; "" for the host
	known   map[[2]string]pancake.Service
}

// NewImporter checks cfg and makes an Importer. Run starts it.
func NewImporter(cfg ImportConfig) (*Importer, error) {
	if cfg.Ours == nil {
		return nil, pancake.Errorf(pancake.Internal, "an import needs a Sidecar of ours")
	}
	if len(cfg.URLs) == 0 {
		return nil, pancake.Errorf(pancake.Invalid, "name at least one Sidecar to import from")
	}
	for _, u := range cfg.URLs {
		if parsed, err := url.Parse(u); err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
			return nil, pancake.Errorf(pancake.Invalid, "%q is not the address of a Sidecar; write http://host:7777", u)
		}
	}
	cfg.PollInterval = cmp.Or(cfg.PollInterval, 10*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := newReport("http", cfg.Log, cfg.Metrics)
	im := &Importer{
		cfg: cfg, report: r, loop: newLoop("pancake-import", "", cfg.Ours, defaultRefresh, r),
		seen: map[string]mirror.Presence{}, left: map[string]time.Time{}, missing: map[[2]string]time.Time{}, known: map[[2]string]pancake.Service{},
	}
	im.loop.theirs, im.loop.oneWay = im, true
	return im, nil
}

// Run works until ctx ends.
func (im *Importer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return im.loop.run(ctx) })
	group.Go(func() error { return im.follow(ctx) })
	return group.Wait()
}

// Ready says what the Importer waits for, nil for nothing.
func (im *Importer) Ready() error {
	if im.loop.status().Members == 0 {
		return pancake.Errorf(pancake.Unavailable, "none of %v has told its services yet", im.cfg.URLs)
	}
	return nil
}

// follow watches and polls one Sidecar after the other.
func (im *Importer) follow(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 500*time.Millisecond, maxRetry
	for turn := 0; ; turn++ {
		from := im.cfg.URLs[turn%len(im.cfg.URLs)]
		answered, err := im.session(ctx, from)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if answered {
			wait.Reset()
			turn-- // it is the one to go on with
			im.report.log.DebugContext(ctx, "an old Sidecar stopped answering", "url", from, "err", err)
		} else {
			im.report.refuse(ctx, "unreachable", from, "an old Sidecar does not answer; what it told ends 80 s after it was last heard of", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// session watches and polls one Sidecar until it does not answer a poll; that
// its watch works is not needed. It reports whether any answer came.
func (im *Importer) session(ctx context.Context, from string) (answered bool, err error) {
	c := &client.Client{URL: from, Timeout: pollFor}
	var mu sync.Mutex
	take := func(s *client.State) error {
		mu.Lock()
		defer mu.Unlock()
		answered = true
		im.take(ctx, s, time.Now())
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			_ = c.Watch(ctx, take) // an old Sidecar is silent while nothing changes, which looks like an end
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(watchAgain):
			}
		}
	})
	group.Go(func() error {
		for {
			s, err := c.State(ctx)
			if err != nil {
				return err
			}
			_ = take(s) // never fails
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(im.cfg.PollInterval):
			}
		}
	})
	err = group.Wait()
	return answered, err
}

// take gives a state to the loop: what is in it, and the end of what is not any more.
func (im *Importer) take(ctx context.Context, s *client.State, now time.Time) {
	im.report.received.WithLabelValues("poll").Inc()
	var records []pancake.Service
	present := map[[2]string]pancake.Service{}
	im.mu.Lock()
	hosts := map[string]bool{}
	for name, server := range s.Servers {
		if server == nil {
			continue
		}
		hosts[name] = true
		im.seen[name] = mirror.Present
		delete(im.left, name)
		delete(im.missing, [2]string{name})
		for _, svc := range server.Services {
			if svc == nil {
				continue
			}
			id := [2]string{svc.Hostname, svc.ID}
			delete(im.missing, id)
			present[id] = *svc
			records = append(records, *svc)
		}
	}
	for name, p := range im.seen {
		if p == mirror.Present && !hosts[name] && im.lost([2]string{name}, now) {
			im.seen[name], im.left[name] = mirror.Gone, now
		}
	}
	records = append(records, im.vanished(present, now)...)
	im.mu.Unlock()
	select {
	case im.loop.incoming <- records:
	case <-ctx.Done():
	}
	im.loop.poke()
}

// vanished returns the tombstones of services that have been missing for too
// long, and remembers those that are there.
func (im *Importer) vanished(present map[[2]string]pancake.Service, now time.Time) []pancake.Service {
	var ended []pancake.Service
	for id, svc := range im.known {
		if _, ok := present[id]; ok {
			continue
		}
		if !im.lost(id, now) {
			present[id] = svc
			continue
		}
		if svc.Status != pancake.Tombstone {
			svc.Status, svc.Updated = pancake.Tombstone, svc.Updated.Add(time.Second)
			ended = append(ended, svc)
		}
	}
	im.known = present
	return ended
}

// lost reports whether something has been missing for long enough.
func (im *Importer) lost(id [2]string, now time.Time) bool {
	since, ok := im.missing[id]
	if !ok {
		since = now
		im.missing[id] = since
	}
	if now.Sub(since) < absence {
		return false
	}
	delete(im.missing, id)
	return true
}

// hosts implements oldSide.
func (im *Importer) hosts(now time.Time) (map[string]mirror.Presence, map[string]string) {
	im.mu.Lock()
	defer im.mu.Unlock()
	for name, at := range im.left {
		if now.Sub(at) > rememberGone {
			delete(im.left, name)
			delete(im.seen, name)
		}
	}
	return maps.Clone(im.seen), nil
}

// send implements oldSide: an Importer only reads.
func (im *Importer) send([]pancake.Service) {}

var _ oldSide = (*Importer)(nil)
