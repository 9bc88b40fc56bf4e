package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
	sidecar "github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/test/bench/report"
)

// image is what scripts/images.sh makes: it answers on port 8080.
const image = "pancake-hello:1"

// dockerPart is the life of some real containers on three nodes, each of which
// announces those that are labelled as its own.
func dockerPart(ctx context.Context, _ options) (_ []report.Result, err error) {
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return nil, err
	}
	defer docker.Close()
	s := shape{nodes: 3, real: docker}
	c, err := startCluster(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	all := map[string]samples{}
	for i := range 7 {
		if err := c.containerLife(ctx, docker, all); err != nil {
			return nil, err
		}
		if i == 0 {
			clear(all) // the first warms caches
		}
	}
	printLatencies("3 nodes, real Docker containers, from the end of \"docker start\"", s, all)
	results := latencyResults(s, all)
	for i := range results {
		results[i].Name = "real Docker, " + results[i].Name
	}
	return results, nil
}

func (c *cluster) containerLife(ctx context.Context, docker *client.Client, out map[string]samples) error {
	n := c.any()
	exposed := network.MustParsePort("8080/tcp")
	created, err := docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: image, ExposedPorts: network.PortSet{exposed: {}}, Labels: map[string]string{
			pancake.LabelAgent: n.name, pancake.LabelServiceName: "measured", pancake.LabelServicePort + "8080": "10080",
			pancake.LabelHealthCheck: "HttpGet", pancake.LabelHealthCheckArgs: "http://{{ host }}:{{ tcp 10080 }}/",
		}},
		HostConfig: &container.HostConfig{PortBindings: network.PortMap{exposed: {{HostIP: netip.MustParseAddr(n.ip)}}}},
	})
	if err != nil {
		return fmt.Errorf("create a container of %s: %w", image, err)
	}
	defer func() {
		_, _ = docker.ContainerRemove(context.WithoutCancel(ctx), created.ID, client.ContainerRemoveOptions{Force: true}) // it may be gone
	}()
	id := created.ID[:12]
	measure := func(what string, begin time.Time, want ...pancake.ServiceStatus) error {
		if err := c.untilStatus(ctx, n.name, id, want...); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		out[what] = append(out[what], time.Since(begin))
		return nil
	}
	if _, err := docker.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start a container: %w", err)
	}
	begin := time.Now()
	if err := measure(visible, begin); err != nil {
		return err
	}
	if err := measure(toAlive, begin, pancake.Alive); err != nil {
		return err
	}
	begin = time.Now()
	if err := (&sidecar.Client{URL: n.url}).Drain(ctx, id); err != nil {
		return err
	}
	if err := measure(draining, begin, pancake.Draining); err != nil {
		return err
	}
	begin = time.Now()
	if _, err := docker.ContainerKill(ctx, created.ID, client.ContainerKillOptions{}); err != nil {
		return fmt.Errorf("kill a container: %w", err)
	}
	return measure(tombstone, begin, pancake.Tombstone)
}
