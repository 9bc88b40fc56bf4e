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
)

// Engine is what discovery needs of Docker; moby's client is one.
type Engine interface {
	ContainerList(context.Context, client.ContainerListOptions) (client.ContainerListResult, error)
	Events(context.Context, client.EventsListOptions) client.EventsResult
}

// Config says which containers are announced and how.
type Config struct {
	// AdvertiseIP is where ports that are bound to all addresses are reached.
	AdvertiseIP string
	// Agent is the id of the agent on this node. Containers with another agent's
	// id in their label pancake.agent are left to that. "" announces them all.
	Agent string
	// ForeignContainers also announces containers without that label.
	ForeignContainers bool
	// NameLabel is the label that names the service. Default ServiceName. A
	// container without it goes by its image.
	NameLabel string
	// Reconcile is how often everything is listed again, in case an event was
	// missed. Default 30 s.
	Reconcile time.Duration
	Log       *slog.Logger // default: none
}

// listTimeout bounds each question to Docker. A busy engine takes seconds.
const listTimeout = 10 * time.Second

// Docker watches the containers of one Docker engine.
type Docker struct {
	cfg    Config
	log    *slog.Logger
	engine Engine
	sink   Sink

	known   map[string]Found // what the sink knows, by service ID
	settled bool
}

// NewDocker makes a Docker that tells sink what it finds.
func NewDocker(cfg Config, engine Engine, sink Sink) *Docker {
	cfg.NameLabel = cmp.Or(cfg.NameLabel, pancake.LabelServiceName)
	cfg.Reconcile = cmp.Or(cfg.Reconcile, 30*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Docker{cfg: cfg, log: cfg.Log, engine: engine, sink: sink, known: map[string]Found{}}
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
	asked map[string]bool // the containers that were asked for; nil: all
	items []container.Summary
	err   error
}

// session is one connection to Docker's events.
type session struct {
	d       *Docker
	answers chan listing // has room for the one question that is open
	asking  bool
	wanted  map[string]bool // containers to ask for, by full id
	all     bool            // everything is to be asked for
	died    map[string]bool // since the open question was asked: its answer may not know yet
	up      func()
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
	s := &session{d: d, answers: make(chan listing, 1), wanted: map[string]bool{}, died: map[string]bool{}, all: true, up: up}
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
		Add("event", "start", "die", "destroy", "rename", "update")
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
	go func() { // ends within listTimeout; answers has room for it
		ctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		result, err := s.d.engine.ContainerList(ctx, options)
		l.items, l.err = result.Items, err
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
		if s.died[c.ID] || !s.d.ours(c.Labels) {
			continue
		}
		running[short(c.ID)] = true
		s.d.tell(ctx, c)
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
	if old, ok := d.known[f.Service.ID]; ok && reflect.DeepEqual(old, f) {
		return
	}
	d.known[f.Service.ID] = f
	d.sink.Up(ctx, f)
}

func (d *Docker) gone(ctx context.Context, id string) {
	if _, ok := d.known[id]; ok {
		delete(d.known, id)
		d.sink.Gone(ctx, id)
	}
}
