package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake/test/bench/report"
)

// starvePart gives a tenth of the machine's CPU to a process with many Sidecars, and to
// one with as many plain members of memberlist: nobody dies, so whoever is believed dead is
// believed wrongly.
func starvePart(ctx context.Context, o options) ([]report.Result, error) {
	ours, err := starve(ctx, job{Kind: "sidecars", Nodes: o.large, For: o.starve})
	if err != nil {
		return nil, err
	}
	plain, err := starve(ctx, job{Kind: "memberlist", Nodes: o.large, For: o.starve})
	if err != nil {
		return nil, err
	}
	none := 0.0
	r := report.Result{Name: fmt.Sprintf("%d nodes with a tenth of the CPU: false leaves", o.large), Value: ours, Unit: "leaves", Better: report.Lower, Goal: &none}
	if plain > 0 {
		r.Peer, r.PeerValue = "plain memberlist", plain
	}
	results := []report.Result{r}
	return results, report.Print(os.Stdout, fmt.Sprintf("starved for %s; plain memberlist in the same run: %g", o.starve, plain), results)
}

// starve runs a child, takes its CPU away when it is ready, and returns how many members were believed dead.
func starve(ctx context.Context, j job) (float64, error) {
	c, err := startChild(ctx, j)
	if err != nil {
		return 0, err
	}
	defer c.stop()
	if _, err := c.await("ready"); err != nil {
		return 0, err
	}
	free, err := throttle(c.cmd.Process.Pid, 0.1*float64(runtime.NumCPU()))
	if err != nil {
		return 0, err
	}
	defer free()
	if _, err := io.WriteString(c.in, "go\n"); err != nil {
		return 0, err
	}
	text, err := c.await("gone")
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(text, 64)
}

// throttle lets a process have that many CPUs; free ends that.
func throttle(pid int, cpus float64) (free func(), err error) {
	const root, period = "/sys/fs/cgroup/cpu", 100_000 // microseconds
	dir := filepath.Join(root, fmt.Sprintf("pks-bench-%d", pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("it needs root and the cpu controller of cgroup v1; leave it out with -parts: %w", err)
	}
	write := func(file string, value int) error {
		return os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(value)), 0o644)
	}
	free = func() {
		_ = write("cpu.cfs_quota_us", -1)
		_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644) // it may have ended
		for range 50 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	err = errors.Join(write("cpu.cfs_period_us", period), write("cpu.cfs_quota_us", int(cpus*period)), write("cgroup.procs", pid))
	if err != nil {
		free()
		return nil, err
	}
	return free, nil
}

// starving says that all is ready, and when told to how many were believed dead in a while.
func starving(ctx context.Context, j job, gone *atomic.Int64) error {
	say("ready")
	if !bufio.NewScanner(os.Stdin).Scan() {
		return errors.New("the parent is gone")
	}
	before := gone.Load()
	select {
	case <-time.After(j.For):
	case <-ctx.Done():
		return ctx.Err()
	}
	say(fmt.Sprint("gone ", gone.Load()-before))
	<-ctx.Done()
	os.Exit(0) // at a tenth of the CPU nothing else ends in time
	return nil
}

func starveSidecars(ctx context.Context, j job) error {
	debug.SetGCPercent(collectLess)
	c, err := startCluster(ctx, shape{nodes: j.Nodes, services: 10})
	if err != nil {
		return err
	}
	return starving(ctx, j, &c.gone)
}

// leaves counts the members that are believed dead.
type leaves struct{ n atomic.Int64 }

func (*leaves) NotifyJoin(*memberlist.Node)    {}
func (*leaves) NotifyUpdate(*memberlist.Node)  {}
func (l *leaves) NotifyLeave(*memberlist.Node) { l.n.Add(1) }

func starveMemberlist(ctx context.Context, j job) error {
	debug.SetGCPercent(collectLess)
	l := &leaves{}
	var lists []*memberlist.Memberlist
	for i := range j.Nodes {
		cfg := memberlist.DefaultLANConfig()
		cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = fmt.Sprintf("plain-%03d", i), nodeIP(i), port, port
		cfg.Events, cfg.Logger = l, log.New(io.Discard, "", 0)
		list, err := memberlist.Create(cfg)
		if err != nil {
			return err
		}
		lists = append(lists, list)
		if _, err := list.Join([]string{fmt.Sprintf("%s:%d", nodeIP(0), port)}); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(settleWithin); ; time.Sleep(50 * time.Millisecond) {
		all := true
		for _, list := range lists {
			all = all && list.NumMembers() == j.Nodes
		}
		if all {
			return starving(ctx, j, &l.n)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d members of memberlist did not find each other within %s", j.Nodes, settleWithin)
		}
	}
}
