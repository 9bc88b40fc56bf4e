package discover

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// Engine is what discovery needs of Docker; moby's client is one.
type Engine interface {
	ContainerList(context.Context, client.ContainerListOptions) (client.ContainerListResult, error)
	Events(context.Context, client.EventsListOptions) client.EventsResult
}

// Inspector is an Engine that shows what a failing health check has printed, as
// moby's client does. With any other the note of a failure is without it.
type Inspector interface {
	ContainerInspect(context.Context, string, client.ContainerInspectOptions) (client.ContainerInspectResult, error)
}

// DockerConfig says which containers are announced and how.
type DockerConfig struct {
	// AdvertiseIP is where ports that are bound to all addresses are reached.
	AdvertiseIP string
	// Agent is the id of the agent on this node. Containers with another agent's
	// id in their label pancake.agent are left to that. "" announces them all.
	Agent string
	// ForeignContainers also announces containers without that label.
	ForeignContainers bool
	// Namer is how a service is named: NameByLabel, NameByRegex or NameByImage. Default NameByLabel.
	Namer string
	// NameLabel is the label that names the service. Default ServiceName.
	NameLabel string
	// NameMatch is the regular expression for NameByRegex.
	NameMatch string
	// Reconcile is how often everything is listed again, in case an event was
	// missed. Default 30 s.
	Reconcile time.Duration
	Log       *slog.Logger // default: none
}

// listTimeout bounds each question to Docker. A busy engine takes seconds.
const listTimeout = 10 * time.Second

// Docker watches the containers of one Docker engine.
type Docker struct {
	cfg    DockerConfig
	log    *slog.Logger
	engine Engine
	sink   Sink
	name   func(*container.Summary) string

	known   map[string]told    // what the sink knows, by service ID
	warned  map[[2]string]bool // what the log has said of it, by service ID and label
	settled bool
}

// told is what the sink has been told of a service.
type told struct {
	found  Found
	health condition // if the check is Docker's own
}

// NewDocker makes a Docker that tells sink what it finds. It fails with Invalid for
// a regular expression that does not parse.
func NewDocker(cfg DockerConfig, engine Engine, sink Sink) (*Docker, error) {
	name, err := namer(cfg)
	if err != nil {
		return nil, err
	}
	cfg.Reconcile = cmp.Or(cfg.Reconcile, 30*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Docker{cfg: cfg, log: cfg.Log, engine: engine, sink: sink, name: name, known: map[string]told{}, warned: map[[2]string]bool{}}, nil
}

// Run watches until ctx ends. While Docker does not answer, what was found
// stays as it is, and Docker is tried again with growing pauses.
func (d *Docker) Run(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, 10*time.Second
	down := false
	for {
		err := d.watch(ctx, func() {
			if down {
				d.log.InfoContext(ctx, "docker answers again")
			}
			down = false
			wait.Reset()
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !down {
			down = true // once: the rest is the same
			d.log.WarnContext(ctx, "docker does not answer; services stay as they are until it does", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// listing is the answer to one question to Docker.
type listing struct {
	asked   map[string]bool // the containers that were asked for; nil: all
	items   []container.Summary
	outputs map[string]string // of health checks that fail, by full id
	err     error
}

// session is one connection to Docker's events.
type session struct {
	d       *Docker
	answers chan listing // has room for the one question that is open
	asking  bool
	wanted  map[string]bool // containers to ask for, by full id
	all     bool            // everything is to be asked for
	// died and judged are the containers that have died, and whose health has changed, since
	// the open question was asked: its answer may not know yet.
	died, judged map[string]bool
	up           func()
}

// watch follows Docker's events until they break off, which is its error. It
// calls up when Docker has answered for the first time.
func (d *Docker) watch(ctx context.Context, up func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// First the events, then the list: what happens in between is in both.
	stream, err := d.subscribe(ctx, cancel)
	if err != nil {
		return err
	}
	s := &session{d: d, answers: make(chan listing, 1), wanted: map[string]bool{}, died: map[string]bool{}, judged: map[string]bool{}, all: true, up: up}
	tick := time.NewTicker(d.cfg.Reconcile)
	defer tick.Stop()
	for {
		s.ask(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-stream.Err:
			if err == nil {
				err = errors.New("the stream of events ended")
			}
			return err
		case m := <-stream.Messages:
			s.event(ctx, m)
		case a := <-s.answers:
			if err := s.answer(ctx, a); err != nil {
				return err
			}
		case <-tick.C:
			s.all = true
		}
	}
}

// subscribe opens the stream of events, or gives up after listTimeout.
func (d *Docker) subscribe(ctx context.Context, cancel context.CancelFunc) (client.EventsResult, error) {
	late := time.AfterFunc(listTimeout, cancel)
	filters := client.Filters{}.Add("type", string(events.ContainerEventType)).
		Add("event", "start", "die", "destroy", "rename", "update", "health_status")
	stream := d.engine.Events(ctx, client.EventsListOptions{Filters: filters})
	if !late.Stop() {
		return stream, pancake.Errorf(pancake.Unavailable, "docker did not open its stream of events within %s", listTimeout)
	}
	return stream, nil
}

// event takes one event. One that ends a container is acted on at once; for
// the others Docker is asked what the container is like.
func (s *session) event(ctx context.Context, m events.Message) {
	switch m.Action {
	case events.ActionDie, events.ActionDestroy:
		delete(s.wanted, m.Actor.ID)
		if s.asking {
			s.died[m.Actor.ID] = true
		}
		s.d.gone(ctx, short(m.Actor.ID))
	case events.ActionStart, events.ActionRename, events.ActionUpdate:
		delete(s.died, m.Actor.ID)
		if s.d.ours(m.Actor.Attributes) { // an event carries the labels
			s.wanted[m.Actor.ID] = true
		}
	case events.ActionHealthStatusHealthy:
		s.judge(ctx, m.Actor.ID, container.Healthy)
	case events.ActionHealthStatusUnhealthy:
		s.judge(ctx, m.Actor.ID, container.Unhealthy)
	}
}

// judge takes what Docker's own health check says of a container. What it printed is
// asked for after that.
func (s *session) judge(ctx context.Context, id string, word container.HealthStatus) {
	if s.d.judge(ctx, short(id), conditionOf(word, "")) {
		s.judged[id] = s.asking
		if word == container.Unhealthy {
			s.wanted[id] = true
		}
	}
}

// ask asks Docker for what is wanted, one question at a time: events that come
// in while one is open share the next.
func (s *session) ask(ctx context.Context) {
	if s.asking || !s.all && len(s.wanted) == 0 {
		return
	}
	l := listing{asked: s.wanted}
	options := client.ContainerListOptions{}
	if s.all {
		l.asked = nil
	} else {
		options.Filters = client.Filters{}.Add("id")
		for id := range s.wanted {
			options.Filters.Add("id", id)
		}
	}
	s.asking, s.all, s.wanted = true, false, map[string]bool{}
	clear(s.died)
	clear(s.judged)
	go func() { // ends within listTimeout; answers has room for it
		ctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		result, err := s.d.engine.ContainerList(ctx, options)
		l.items, l.err = result.Items, err
		l.outputs = s.d.outputs(ctx, l.items)
		s.answers <- l
	}()
}

func (s *session) answer(ctx context.Context, l listing) error {
	s.asking = false
	if l.err != nil {
		return l.err
	}
	running := map[string]bool{}
	for i := range l.items {
		c := &l.items[i]
		if s.died[c.ID] || c.State == container.StateRestarting || !s.d.ours(c.Labels) {
			continue // one that has crashed and waits for its restart is listed, and does not run
		}
		running[short(c.ID)] = true
		s.d.tell(ctx, c)
		if !s.judged[c.ID] {
			s.d.judge(ctx, short(c.ID), conditionOf(healthOf(c), l.outputs[c.ID]))
		}
	}
	if l.asked != nil {
		return nil
	}
	for id := range maps.Clone(s.d.known) {
		if !running[id] {
			s.d.gone(ctx, id)
		}
	}
	if !s.d.settled {
		s.d.settled = true
		s.d.sink.Settled(ctx)
	}
	s.up()
	return nil
}

// tell tells the sink of a container, unless it knows all of it.
func (d *Docker) tell(ctx context.Context, c *container.Summary) {
	f := d.found(c)
	old, ok := d.known[f.Service.ID]
	if ok && reflect.DeepEqual(old.found, f) {
		return
	}
	d.known[f.Service.ID] = told{found: f}
	d.sink.Up(ctx, f)
	if f.Check.Type == health.TTL { // nobody else would ever say
		d.sink.Status(ctx, f.Service.ID, pancake.Sick, "a check of type Ttl is for services that register themselves; choose another type")
	}
}

func (d *Docker) gone(ctx context.Context, id string) {
	if _, ok := d.known[id]; ok {
		delete(d.known, id)
		maps.DeleteFunc(d.warned, func(cause [2]string, _ bool) bool { return cause[0] == id })
		d.sink.Gone(ctx, id)
	}
}
