package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/test/bench/report"
)

// cpuTime is what this process has used.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// cost is what one node takes.
type cost struct{ bytes, cpu float64 } // bytes per second, and percent of a core

// spend measures what a cluster takes while act works.
func (c *cluster) spend(act func() error) (cost, error) {
	begin, sent := time.Now(), c.wire.sent.Load()
	used, err := cpuTime()
	if err != nil {
		return cost{}, err
	}
	if err := act(); err != nil {
		return cost{}, err
	}
	usedNow, err := cpuTime()
	took, n := time.Since(begin).Seconds(), float64(len(c.nodes))
	return cost{float64(c.wire.sent.Load()-sent) / took / n, 100 * (usedNow - used).Seconds() / took / n}, err
}

// idlePart measures what nodes cost that do nothing, and then with churn.
func idlePart(ctx context.Context, o options) (_ []report.Result, err error) {
	s := shape{nodes: o.large, services: 10}
	c, err := startCluster(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	pause := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := pause(10 * time.Second); err != nil { // what the start has left
		return nil, err
	}
	idle, err := c.spend(func() error { return pause(o.idle) })
	if err != nil {
		return nil, err
	}
	churn, err := c.spend(func() error { return c.churn(ctx, o.idle/2, max(s.nodes*s.services/100, 1)) })
	if err != nil {
		return nil, err
	}
	kilobyte, halfPercent := 1000.0, 0.5
	results := []report.Result{
		{Name: fmt.Sprintf("idle, %d nodes of 10 services: sent per node", o.large), Value: idle.bytes, Unit: "B/s", Better: report.Lower, Goal: &kilobyte},
		{Name: fmt.Sprintf("idle, %d nodes of 10 services: CPU per node", o.large), Value: idle.cpu, Unit: "% of a core", Better: report.Lower, Goal: &halfPercent, Peer: peerName, PeerValue: 0.62},
		{Name: "1 % of all services replaced per second: sent per node", Value: churn.bytes, Unit: "B/s", Better: report.Lower},
		{Name: "1 % of all services replaced per second: CPU per node", Value: churn.cpu, Unit: "% of a core", Better: report.Lower},
	}
	return results, report.Print(os.Stdout, fmt.Sprintf("cost per node, %s, over %s", s, o.idle), results)
}

// churn replaces that many services per second, evenly, each on some node.
func (c *cluster) churn(ctx context.Context, d time.Duration, perSecond int) error {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	end := time.After(d)
	type one struct {
		node *node
		id   string
	}
	var running []one
	for {
		select {
		case <-tick.C:
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		n := one{c.any(), c.id()}
		n.node.engine.run(n.id, "churned", "AlwaysSuccessful", "", 33000)
		if running = append(running, n); len(running) > perSecond {
			running[0].node.engine.kill(running[0].id)
			running = running[1:]
		}
	}
}

// memoryPart measures a process of its own with one Sidecar that knows 10,000 services.
func memoryPart(ctx context.Context, _ options) (_ []report.Result, err error) {
	s := shape{nodes: 10, services: 1000}
	c, err := startCluster(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	child, err := startChild(ctx, job{Kind: "node", Services: s.nodes * s.services, Seed: fmt.Sprintf("%s:%d", c.nodes[0].ip, port)})
	if err != nil {
		return nil, err
	}
	defer child.stop()
	if _, err := child.await("ready"); err != nil {
		return nil, err
	}
	const window = 15 * time.Second
	used, err := child.cpu()
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(window):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	usedNow, err := child.cpu()
	if err != nil {
		return nil, err
	}
	rss, err := child.status("VmRSS")
	if err != nil {
		return nil, err
	}
	peak, err := child.status("VmHWM")
	if err != nil {
		return nil, err
	}
	goal := 60.0
	results := []report.Result{
		{Name: "10,000 services: RSS", Value: rss, Unit: "MB", Better: report.Lower, Goal: &goal, Peer: "NinesStack Sidecar, 2,000 services", PeerValue: 42},
		{Name: "10,000 services: RSS at most, with the start", Value: peak, Unit: "MB", Better: report.Lower},
		{Name: "10,000 services: CPU", Value: 100 * (usedNow - used).Seconds() / window.Seconds(), Unit: "% of a core", Better: report.Lower},
	}
	return results, report.Print(os.Stdout, "one Sidecar in a process of its own, that knows 10,000 services of 10 other nodes", results)
}

// alone is the child that memoryPart measures.
func alone(ctx context.Context, j job) (err error) {
	c := &cluster{wire: newWire(0)}
	if err := c.serveChecks(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.addAs(255, shape{}, j.Seed); err != nil {
		return err
	}
	err = c.until(ctx, settleWithin, c.nodes, func(snap *catalog.Snapshot) bool { return count(snap, pancake.Alive) == j.Services })
	if err != nil {
		return err
	}
	say("ready")
	<-ctx.Done()
	return nil
}

// field returns the first figure behind a name in the text of /proc/<pid>/status.
func field(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			var v float64
			_, err := fmt.Sscan(rest, &v)
			return v, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of a process", name)
}
