// Goavail measures how long it takes from the death of a target until the name server
// answers without it, against the rules of the goavail that came before, on the same
// deaths of the same targets at the same time; and what an agent with 1,000 targets costs.
// The name server is BIND, which scripts/bind.sh fetches.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake/test/bench/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var err error
	if len(os.Args) == 5 && os.Args[1] == "agent" {
		err = loadedAgent(ctx, os.Stdout, os.Args[2], os.Args[3], os.Args[4]) // one of those whose cost is measured
	} else {
		err = run(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench goavail:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	ours, old, err := failovers(ctx, out)
	if err != nil {
		return err
	}
	cpu, err := costs(ctx, out)
	if err != nil {
		return err
	}
	goal := 3.0
	const peer = "the old goavail's rules: interval 1 s, threshold 3, two agents agree"
	results := []report.Result{
		{
			Name: "death to changed answer, p50", Value: at(ours, 50).Seconds(), Unit: "s", Better: report.Lower, Goal: &goal,
			Peer: peer, PeerValue: at(old, 50).Seconds(),
		},
		{
			Name: "death to changed answer, max", Value: at(ours, 100).Seconds(), Unit: "s", Better: report.Lower, Goal: &goal,
			Peer: peer, PeerValue: at(old, 100).Seconds(),
		},
	}
	results = append(results, cpu...)
	if err := report.Write(report.Dir, "goavail", results); err != nil {
		return err
	}
	return report.Print(out, fmt.Sprintf("goavail, %d deaths, interval 1 s, 3 of 5 places agree", len(ours)), results)
}

// at is the percentile of a list.
func at(all []time.Duration, percent int) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)*percent/100, len(all)-1)]
}
