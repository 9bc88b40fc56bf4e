// Sidecar measures a cluster of Sidecars: how long it takes until all nodes know of a
// change, what idling and churn cost, how it bears a burst of services, and whether it
// believes nodes dead that only starve. The Sidecars run in this process, each with
// an address of its own on loopback, over real UDP and TCP; containers are those of a
// Docker engine in memory, but where the table says otherwise. Lost packets are dropped
// where they are sent. What NinesStack Sidecar took is from a run of its own on the
// same kind of machine (2 vCPU), with three nodes and no loss.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake/test/bench/report"
)

// partNames are what -parts takes, in the order in which they run.
func partNames() []string { return []string{"latency", "docker", "burst", "memory", "idle", "starve"} }

type options struct {
	parts  []string
	nodes  []int
	losses []float64
	rounds int
	idle   time.Duration
	starve time.Duration
	// large is the size of the clusters that idle and that starve.
	large int
	child string
	// profile is a file for a profile of this process' CPU, "" for none.
	profile string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench sidecar:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("sidecar", flag.ContinueOnError)
	parts := flags.String("parts", strings.Join(partNames(), ","), "what to measure")
	sizes := flags.String("nodes", "3,50,200", "the sizes of the clusters whose latency is measured")
	losses := flags.String("loss", "0,0.1", "the shares of packets that are lost")
	flags.IntVar(&o.rounds, "rounds", 20, "containers for each size and share of losses")
	flags.DurationVar(&o.idle, "idle", 40*time.Second, "how long the cost of idling is measured; half of it for churn")
	flags.DurationVar(&o.starve, "starve", 25*time.Second, "how long clusters starve")
	flags.IntVar(&o.large, "large", 200, "the size of the clusters that idle and that starve; the goals are for 200")
	flags.StringVar(&o.profile, "profile", "", "write a profile of the CPU to this file")
	flags.StringVar(&o.child, "child", "", "run as a child of the benchmark")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.large < 3 || o.large > 1000 {
		return o, fmt.Errorf("-large: %d is not a number from 3 to 1000", o.large)
	}
	o.parts = strings.Split(*parts, ",")
	for _, p := range o.parts {
		if !slices.Contains(partNames(), p) {
			return o, fmt.Errorf("-parts: there is no %q; there are %s", p, strings.Join(partNames(), ", "))
		}
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		var n int
		if _, err := fmt.Sscan(text, &n); err != nil || n < 3 || n > 1000 {
			return o, fmt.Errorf("-nodes: %q is not a number from 3 to 1000", text)
		}
		o.nodes = append(o.nodes, n)
	}
	for text := range strings.SplitSeq(*losses, ",") {
		var p float64
		if _, err := fmt.Sscan(text, &p); err != nil || p < 0 || p > 0.9 {
			return o, fmt.Errorf("-loss: %q is not a share from 0 to 0.9", text)
		}
		o.losses = append(o.losses, p)
	}
	return o, nil
}

// collectLess is the GOGC of this process: with hundreds of nodes in one heap, most of the
// time would go into collecting what each of them alone would not have.
const collectLess = 400

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.child != "" {
		return runChild(ctx, o.child) // with the GOGC that a Sidecar has
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	debug.SetGCPercent(collectLess)
	measure := map[string]func(context.Context, options) ([]report.Result, error){
		"latency": latencyPart, "docker": dockerPart, "burst": burstPart, "memory": memoryPart, "idle": idlePart, "starve": starvePart,
	}
	var all []report.Result
	var failed error
	for _, name := range partNames() {
		if !slices.Contains(o.parts, name) {
			continue
		}
		begin := time.Now()
		results, err := measure[name](ctx, o)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
		if ctx.Err() != nil {
			return failed
		}
		fmt.Fprintf(os.Stderr, "%s took %s\n", name, time.Since(begin).Round(time.Second))
		all = append(all, results...)
	}
	return errors.Join(failed, report.Write(report.Dir, "sidecar", all))
}
