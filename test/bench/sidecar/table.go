package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"text/tabwriter"
	"time"

	"github.com/pancake-stack/pancake/test/bench/report"
)

// percentiles are those that the table has, with their names.
var percentiles = []struct {
	name string
	p    float64
}{{"p50", 0.5}, {"p90", 0.9}, {"max", 1}}

// ninesStack is what NinesStack Sidecar took on three nodes, in seconds, by percentile.
var ninesStack = map[string][3]float64{
	visible:   {2.63, 5.39, 5.53},
	toAlive:   {5.13, 20.87, 21.36},
	draining:  {12.47, 16.85, 29.34},
	tombstone: {2.19, 3.15, 3.35},
	cleared:   {7.7, 7.7, 7.7},
}

// peerName is the column of those.
const peerName = "NinesStack Sidecar, 3 nodes"

// bound is how long an epidemic takes in which each node tells three others every
// 200 ms: log4(n) x 200 ms, which is what memberlist is measured to need.
func bound(nodes int) time.Duration {
	return time.Duration(math.Log(float64(nodes)) / math.Log(4) * float64(200*time.Millisecond))
}

// goal is what a percentile of a thing is meant to reach, nil for none.
func goal(what, percentile string, s shape) *float64 {
	seconds := 0.0
	switch {
	case s.loss > 0 || percentile == "p50":
		return nil
	case s.nodes == 3 && percentile == "p90":
		seconds = map[string]float64{visible: 0.3, tombstone: 0.5, draining: 0.5}[what]
	case s.nodes == 3 && what == cleared:
		seconds = 4
	case s.nodes >= 200 && (what == noticed || what == cleared) && percentile == "max":
		seconds = 5
	case s.nodes > 3 && percentile == "p90" && (what == visible || what == draining || what == tombstone):
		seconds = 2 * bound(s.nodes).Seconds()
	}
	if seconds == 0 {
		return nil
	}
	return &seconds
}

// latencyResults turns the samples of a cluster into figures.
func latencyResults(s shape, all map[string]samples) []report.Result {
	var out []report.Result
	for _, what := range things() {
		if len(all[what]) == 0 {
			continue
		}
		for i, p := range percentiles {
			r := report.Result{
				Name: fmt.Sprintf("%s: %s %s", s, what, p.name), Value: all[what].at(p.p).Seconds(), Unit: "s", Better: report.Lower,
				Goal: goal(what, p.name, s),
			}
			if v, ok := ninesStack[what]; ok && s.nodes == 3 {
				r.Peer, r.PeerValue = peerName, v[i]
			}
			out = append(out, r)
		}
	}
	return out
}

// printLatencies prints the samples of a cluster in a table: a line per thing.
func printLatencies(title string, s shape, all map[string]samples) {
	fmt.Fprintf(os.Stdout, "%s; bound log4(%d) x 200 ms = %.2f s\n", title, s.nodes, bound(s.nodes).Seconds())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  EVERYWHERE, IN SECONDS\tN\tP50\tP90\tMAX\tGOAL\tNINESSTACK P50/P90/MAX")
	for _, what := range things() {
		got := all[what]
		if len(got) == 0 {
			continue
		}
		peer := "-"
		if v, ok := ninesStack[what]; ok && s.nodes == 3 {
			peer = fmt.Sprintf("%.2f/%.2f/%.2f", v[0], v[1], v[2])
		}
		fmt.Fprintf(w, "  %s\t%d\t%.3f\t%.3f\t%.3f\t%s\t%s\n", what, len(got), got.at(0.5).Seconds(), got.at(0.9).Seconds(), got.at(1).Seconds(), verdict(what, s, got), peer)
	}
	_ = w.Flush() // to stdout
	fmt.Fprintln(os.Stdout)
}

func verdict(what string, s shape, got samples) string {
	for _, p := range percentiles {
		if g := goal(what, p.name, s); g != nil {
			met := "met"
			if got.at(p.p).Seconds() > *g {
				met = "MISSED"
			}
			return fmt.Sprintf("%s <= %.2f %s", p.name, *g, met)
		}
	}
	return "-"
}

// latencyPart measures clusters of all sizes, with and without loss.
func latencyPart(ctx context.Context, o options) ([]report.Result, error) {
	var out []report.Result
	var failed error
	for _, n := range o.nodes {
		for _, loss := range o.losses {
			s := shape{nodes: n, services: 10, loss: loss}
			kills, cuts := 1, 4
			if n >= 50 {
				kills, cuts = 3, 0
			}
			all, err := latencies(ctx, s, o.rounds, kills)
			if err == nil {
				err = powerCuts(ctx, s, cuts, all)
			}
			if ctx.Err() != nil {
				return nil, err
			}
			if err != nil { // the other clusters are worth a look all the same
				fmt.Fprintf(os.Stdout, "%s: FAILED: %v\n\n", s, err)
				failed = errors.Join(failed, err)
				continue
			}
			printLatencies(s.String()+", 10 services each", s, all)
			out = append(out, latencyResults(s, all)...)
		}
	}
	return out, failed
}
