package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// samples are the times of one thing.
type samples []time.Duration

// at is a percentile: the smallest sample that p of all do not exceed. 0 for none.
func (s samples) at(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[max(int(math.Ceil(p*float64(len(sorted))))-1, 0)]
}

// The things whose time is measured, until the last node knows.
const (
	start     = "start of the nodes, 20 at a time"
	visible   = "start to visible"
	toAlive   = "start to ALIVE"
	draining  = "drain to DRAINING"
	tombstone = "die to tombstone"
	noticed   = "node dead to noticed"
	cleared   = "node dead to tombstones"
)

func things() []string {
	return []string{start, visible, toAlive, draining, tombstone, noticed, cleared}
}

// powerCuts measures the death of a node once more in several clusters of the same shape:
// of three nodes, another death would leave a node alone.
func powerCuts(ctx context.Context, s shape, times int, out map[string]samples) error {
	for range times {
		c, err := startCluster(ctx, s)
		if err != nil {
			return err
		}
		if err := errors.Join(c.kill(ctx, out), c.close()); err != nil {
			return err
		}
	}
	return nil
}

// latencies measures a cluster: rounds containers start, drain and die, one after the
// other and each on some node, and then kills nodes lose their power.
func latencies(ctx context.Context, s shape, rounds, kills int) (map[string]samples, error) {
	c, err := startCluster(ctx, s)
	if err != nil {
		return nil, err
	}
	out := map[string]samples{start: {c.started}}
	for range rounds {
		if err := c.round(ctx, out); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	for range kills {
		if err := c.kill(ctx, out); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return out, c.close()
}

// round is the life of one container.
func (c *cluster) round(ctx context.Context, out map[string]samples) error {
	n, full := c.any(), c.id()
	id := full[:12]
	measure := func(what string, begin time.Time, want ...pancake.ServiceStatus) error {
		if err := c.untilStatus(ctx, n.name, id, want...); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		out[what] = append(out[what], time.Since(begin))
		return nil
	}
	begin := time.Now()
	n.engine.run(full, "measured", "HttpGet", c.checked, 32000)
	if err := measure(visible, begin); err != nil {
		return err
	}
	if err := measure(toAlive, begin, pancake.Alive); err != nil {
		return err
	}
	begin = time.Now()
	if err := (&client.Client{URL: n.url, Timeout: 30 * time.Second}).Drain(ctx, id); err != nil {
		return err
	}
	if err := measure(draining, begin, pancake.Draining); err != nil {
		return err
	}
	begin = time.Now()
	n.engine.kill(full)
	if err := measure(tombstone, begin, pancake.Tombstone); err != nil {
		return err
	}
	select { // so that what is left of the round is not measured with the next
	case <-time.After(300 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill takes the power from a node and waits until all others have noticed, and until its
// services are tombstones everywhere.
func (c *cluster) kill(ctx context.Context, out map[string]samples) error {
	victim := c.any()
	var rest []*node
	for _, n := range c.nodes {
		if n != victim {
			rest = append(rest, n)
		}
	}
	begin := time.Now()
	c.wire.cut(victim.ip)
	if err := c.untilMembers(ctx, time.Minute, rest, len(rest)); err != nil {
		return err
	}
	out[noticed] = append(out[noticed], time.Since(begin))
	err := c.until(ctx, time.Minute, rest, func(snap *catalog.Snapshot) bool {
		for _, svc := range snap.Hosts[victim.name].Services {
			if svc.Status != pancake.Tombstone {
				return false
			}
		}
		return true
	})
	out[cleared] = append(out[cleared], time.Since(begin))
	victim.stop()
	c.nodes = rest
	return err
}
