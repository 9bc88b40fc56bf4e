package sidecar

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
	"github.com/pancake-stack/pancake/sidecar/notify"
)

// seedPatience is how long discovery waits for a seed to answer.
const seedPatience = 3 * time.Second

// sources are the ways in which this host's services are found.
type sources struct {
	found *services
	run   []func(context.Context) error
	// registry takes those that register themselves, nil if none may.
	registry *discover.Registry
	close    []func() error
}

// newSources makes all sources; none of them runs yet. The checks of what they find
// run in group.
func (s *Sidecar) newSources(group *errgroup.Group) (*sources, error) {
	cfg := s.cfg
	out := &sources{found: newServices(s.owner, s.checker, group, cfg.Log)}
	if cfg.Passive {
		return out, nil
	}
	for _, m := range cfg.Discovery {
		if err := out.add(cfg, m); err != nil {
			return nil, err
		}
	}
	sink := out.found.source("registration")
	out.registry = discover.NewRegistry(discover.RegistryConfig{
		Path: cfg.RegistrationsFile, AdvertiseIP: cfg.AdvertiseIP, Hostname: cfg.Hostname, Taken: sink.taken, Log: cfg.Log,
	}, sink)
	out.run = append(out.run, out.registry.Run)
	return out, nil
}

// add makes the source for one method.
func (o *sources) add(cfg Config, m Method) error {
	sink := o.found.source(string(m))
	switch m {
	case ByStatic:
		static, err := discover.NewStatic(discover.StaticConfig{Path: cfg.StaticFile, AdvertiseIP: cfg.AdvertiseIP, Log: cfg.Log}, sink)
		if err != nil {
			return err
		}
		o.run = append(o.run, static.Run)
	case ByDocker:
		engine := cfg.Engine
		if engine == nil {
			docker, err := newEngine(cfg.DockerHost)
			if err != nil {
				return err
			}
			o.close = append(o.close, docker.Close)
			engine = docker
		}
		docker, err := discover.NewDocker(discover.DockerConfig{
			AdvertiseIP: cfg.AdvertiseIP, Agent: cfg.Agent, ForeignContainers: cfg.ForeignContainers,
			Namer: cfg.Namer, NameLabel: cfg.NameLabel, NameMatch: cfg.NameMatch, Log: cfg.Log,
		}, engine, sink)
		if err != nil {
			return err
		}
		o.run = append(o.run, docker.Run)
	case ByKubernetes:
		kube := cfg.Kubernetes
		kube.AdvertiseIP, kube.Log, kube.Node = cfg.AdvertiseIP, cfg.Log, cmp.Or(kube.Node, cfg.Hostname)
		source, err := discover.NewKubernetes(kube, sink)
		if err != nil {
			return err
		}
		o.run = append(o.run, source.Run)
	default:
		return pancake.Errorf(pancake.Invalid, "discovery by %q is not supported", m)
	}
	return nil
}

// discover finds this host's services and has each checked. It begins when a
// seed has told what it knows of them from before a restart, if one answers.
func (s *Sidecar) discover(ctx context.Context, o *sources) error {
	defer func() {
		for _, c := range o.close {
			_ = c() // it was only asked
		}
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.gossip.Joined():
	case <-time.After(seedPatience):
	}
	if len(o.run) == 0 {
		o.found.settle(ctx)
		<-ctx.Done()
		return ctx.Err()
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range o.run {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}

// followListeners has those services notified that ask for it.
func (o *sources) followListeners(ctx context.Context, n *notify.Notifier) error {
	known := map[string]string{}
	for {
		now, changed := o.found.listeners.Get()
		for id := range known {
			if now[id] == "" {
				n.Remove("service " + id)
			}
		}
		for id, url := range now {
			n.Add("service "+id, url)
		}
		known = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func newEngine(host string) (*client.Client, error) {
	option := client.FromEnv
	if host != "" {
		option = client.WithHost(host)
	}
	docker, err := client.New(option)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "docker host %q: %w", host, err)
	}
	return docker, nil
}

// withSources fills in and checks what says where services are found.
func (cfg Config) withSources() (Config, error) {
	if len(cfg.Discovery) == 0 {
		cfg.Discovery = []Method{ByDocker}
	}
	if slices.Contains(cfg.Discovery, ByStatic) && cfg.StaticFile == "" && !cfg.Passive {
		return cfg, pancake.Errorf(pancake.Invalid, "discovery by %q needs the file with the services: --static-file, or STATIC_CONFIG_FILE", ByStatic)
	}
	return cfg, nil
}
