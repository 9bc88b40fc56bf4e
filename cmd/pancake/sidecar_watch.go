package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

func newSidecarWatchCommand(env *environment, address *string) *cobra.Command {
	var filter serviceFilter
	cmd := &cobra.Command{
		Use:   "watch [service]",
		Short: "Show services live until Ctrl-C",
		Long: `Show services live until Ctrl-C: on a terminal the list, redrawn after each change; else a
line per change, and with -o json an object per line. A Sidecar that restarts is waited for.`,
		Example: examples("pancake sidecar watch", "pancake sidecar watch hello", "pancake sidecar watch -o json | jq .service.Name"),
		Args:    arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := askSidecar(env, *address)
			if err != nil {
				return err
			}
			if err := filter.check(args); err != nil {
				return err
			}
			w := &serviceWatch{env: env, sidecar: a, filter: filter}
			w.filter.all = true // that one is gone is what a watcher wants to know
			if env.live() {
				w.screen = &screen{out: env.stdout, size: func() (int, int) { return env.terminal(env.stdout) }}
			}
			return notAnswering(w.run(cmd.Context()))
		},
	}
	filter.add(env, cmd, address)
	return cmd
}

// serviceWatch follows the services of a Sidecar.
type serviceWatch struct {
	env     *environment
	sidecar *asked
	filter  serviceFilter
	screen  *screen // nil when stdout cannot be redrawn
	known   map[serviceKey]pancake.ServiceStatus
}

type serviceKey struct{ host, id string }

// serviceEvent is a change as -o json prints it.
type serviceEvent struct {
	Time    time.Time        `json:"time"`
	Before  string           `json:"before,omitempty"` // "" for one that is new
	Status  string           `json:"status"`
	Service *pancake.Service `json:"service"`
}

// run watches until ctx ends. A Sidecar that has answered once is waited for, up to patience.
func (w *serviceWatch) run(ctx context.Context) error {
	retry := &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 2 * time.Second}
	retry.Reset()
	var silentSince time.Time
	for {
		err := w.sidecar.Watch(ctx, func(s *client.State) error {
			if !silentSince.IsZero() {
				silentSince = time.Time{}
				w.env.notef("the sidecar answers again")
			}
			retry.Reset()
			return w.show(s)
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pancake.KindOf(err) != pancake.Unavailable || w.known == nil:
			return err
		case silentSince.IsZero():
			silentSince = time.Now()
			w.env.notef("%v; waiting for it to come back", err)
		case time.Since(silentSince) > patience:
			return err
		}
		select {
		case <-time.After(retry.NextBackOff()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *serviceWatch) show(state *client.State) error {
	now := map[serviceKey]pancake.ServiceStatus{}
	services := w.filter.of(state)
	for _, s := range services {
		k := serviceKey{s.Hostname, s.ID}
		now[k] = s.Status
		before, known := w.known[k]
		if known && before == s.Status || w.known == nil && s.Status == pancake.Tombstone {
			continue
		}
		if err := w.tell(s, before, known); err != nil {
			return err
		}
	}
	w.known = now
	if w.screen != nil {
		w.screen.draw(serviceTable(w.env, services, false))
	}
	return nil
}

func (w *serviceWatch) tell(s *pancake.Service, before pancake.ServiceStatus, known bool) error {
	e := serviceEvent{Time: w.env.now().UTC(), Status: statusWord(s.Status), Service: s}
	if known {
		e.Before = statusWord(before)
	}
	switch {
	case w.screen != nil:
	case w.env.json():
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode a change: %w", err)
		}
		w.env.printf("%s\n", line)
	default:
		text := e.Status
		if known {
			text = e.Before + " -> " + e.Status
		}
		w.env.printf("%s  %s  %s  %s  %s\n", e.Time.Format(time.TimeOnly), clean(s.Name), clean(s.Hostname), clean(s.ID), text)
	}
	return nil
}
