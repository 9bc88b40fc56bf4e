package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/test/bench/report"
)

const (
	load    = 1000 // targets, two to a record
	warmUp  = 10 * time.Second
	measure = 20 * time.Second
)

// watch is how the targets are probed.
type watch struct {
	kind  string
	every time.Duration
}

func (w watch) String() string {
	return fmt.Sprintf("one agent of %d with 1,000 targets, %s every %s", places, strings.ToUpper(w.kind), w.every)
}

// costs measures agents of several kinds, and what the kernel alone takes for as many
// connections: on one machine both ends of them are on the account of who connects.
func costs(ctx context.Context, out io.Writer) ([]report.Result, error) {
	goal := 5.0
	var results []report.Result
	for _, w := range []watch{{probe.TCP, interval}, {probe.TCP, 2 * interval}, {probe.ICMP, interval}} {
		percent, err := cost(ctx, out, w)
		if err != nil {
			return nil, err
		}
		results = append(results, report.Result{Name: w.String(), Value: percent, Unit: "% of a core", Better: report.Lower, Goal: &goal})
	}
	bare, err := bareConnections(ctx)
	return append(results, report.Result{Name: "1,000 bare connections a second, both ends", Value: bare, Unit: "% of a core", Better: report.Lower}), err
}

// bareConnections connects and resets a thousand times a second, in batches like those of an agent, and does nothing else.
func bareConnections(ctx context.Context) (percent float64, err error) {
	ln, err := net.Listen("tcp", "127.32.3.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	go accept(ln)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	before, begin := used(), time.Now()
	for time.Since(begin) < measure {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		for range load / 10 {
			if err := connectOnce(ln.Addr()); err != nil {
				return 0, err
			}
		}
	}
	return 100 * (used() - before).Seconds() / time.Since(begin).Seconds(), nil
}

// connectOnce connects with as few system calls as it takes, and resets the connection.
func connectOnce(to net.Addr) error {
	addr, err := netip.ParseAddrPort(to.String())
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}),
		syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}),
		syscall.Close(fd),
	)
}

func accept(ln net.Listener) {
	for { // ends with the listener
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_ = conn.Close()
	}
}

// cost runs agents with many targets, each a process, and returns what one of them takes,
// in percent of a core.
func cost(ctx context.Context, out io.Writer, w watch) (percent float64, err error) {
	for i := range 10 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.32.3.%d:%d", i+1, port))
		if err != nil {
			return 0, err
		}
		defer ln.Close()
		go accept(ln)
	}
	dir, err := os.MkdirTemp("", "bench-goavail-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first *bufio.Scanner
	for i := range places {
		cmd := exec.CommandContext(ctx, os.Args[0], "agent", strconv.Itoa(i), w.kind, w.every.String())
		cmd.Env, cmd.Stderr = append(os.Environ(), "BENCH_DIR="+dir), os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		defer func() {
			cancel()
			_ = cmd.Wait() // it is killed
		}()
		if i == 0 {
			first = bufio.NewScanner(pipe)
		}
	}
	fmt.Fprintf(out, "  %s: takes %s\n", w, warmUp+measure)
	if !first.Scan() {
		return 0, fmt.Errorf("the agent ended before it was measured: %w", first.Err())
	}
	return strconv.ParseFloat(strings.TrimSpace(first.Text()), 64)
}

// loadedAgent is one of the agents. It prints what it took of a core.
func loadedAgent(ctx context.Context, out io.Writer, number, kind, every string) error {
	i, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	w := watch{kind: kind}
	if w.every, err = time.ParseDuration(every); err != nil {
		return err
	}
	targetPort := port
	if kind == probe.ICMP {
		targetPort = 0
	}
	cfg := goavail.Config{
		Cluster: "bench", Place: "p" + number, NoDryRun: true, DataDir: filepath.Join(os.Getenv("BENCH_DIR"), number),
		BindAddr: fmt.Sprintf("127.32.0.%d", i+1), HTTPAddr: fmt.Sprintf("127.32.0.%d:7950", i+1),
	}
	for j := range places {
		cfg.Places = append(cfg.Places, goavail.Place{Name: fmt.Sprintf("p%d", j), Region: fmt.Sprintf("r%d", j), Address: fmt.Sprintf("127.32.0.%d:7951", j+1)})
	}
	provider := still{}
	for j := range load {
		name, value := fmt.Sprintf("t%d", j), fmt.Sprintf("192.0.2.%d", j%2+1)
		cfg.Targets = append(cfg.Targets, goavail.Target{Name: name, Check: probe.Check{
			Kind: w.kind, Address: fmt.Sprintf("127.32.3.%d", j%10+1), Port: targetPort, Interval: w.every,
		}})
		key := dns.Key{Name: fmt.Sprintf("r%d.%s", j/2, zone), Type: dns.A}
		if j%2 == 0 {
			cfg.Records = append(cfg.Records, goavail.Record{Key: key})
		}
		r := &cfg.Records[j/2]
		r.Members = append(r.Members, goavail.Member{Target: name, Value: value})
		set := provider[key]
		set.Key = key
		set.Members = append(set.Members, dns.Member{Value: value, On: true, Owner: cfg.Cluster})
		provider[key] = set
	}
	cfg.Provider = provider
	agent, err := goavail.New(cfg)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(warmUp):
	}
	before, begin := used(), time.Now()
	time.Sleep(measure)
	share := 100 * (used() - before).Seconds() / time.Since(begin).Seconds()
	for _, t := range agent.Status(ctx, false).Targets {
		if t.Up != places {
			return fmt.Errorf("%s: only %d of %d places see it up, so that the figure means nothing", t.Name, t.Up, places)
		}
	}
	fmt.Fprintf(out, "%.2f\n", share)
	return <-done
}

// used is the time that this process has had of the processors.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// still is a provider of which nothing has to be changed.
type still map[dns.Key]dns.Set

func (s still) Read(_ context.Context, keys []dns.Key) ([]dns.Set, error) {
	out := make([]dns.Set, len(keys))
	for i, k := range keys {
		out[i] = s[k].Clone()
	}
	return out, nil
}

func (still) Apply(context.Context, []dns.Change) error {
	return errors.New("nothing is to be changed")
}

func (still) Check(context.Context, []dns.Key) error { return nil }

func (still) Capabilities() dns.Capabilities {
	return dns.Capabilities{Name: "still", Types: []string{dns.A}, PerValue: true}
}
