// Slice measures the way from "pancake release" to the first answer through
// Traefik, hop by hop, against a bare "docker run" of the same image, and the
// speed of placement. It starts a Pancake of its own and removes all that it made.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake/test/bench/report"
)

// rounds is how many releases are measured; the medians are reported.
const rounds = 15

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench slice:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	results, err := releases(ctx)
	if err != nil {
		return err
	}
	placed, err := placements(ctx)
	if err != nil {
		return err
	}
	results = append(results, placed)
	if err := report.Write(report.Dir, "slice", results); err != nil {
		return err
	}
	return report.Print(os.Stdout, "release to routed, image present (medians)", results)
}

// releases measures whole releases.
func releases(ctx context.Context) (results []report.Result, err error) {
	m, err := startMachine(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop(context.WithoutCancel(ctx))) }()
	var all []sample
	var bare []time.Duration
	for i := range rounds + 1 {
		d, err := dockerRun(ctx)
		if err != nil {
			return nil, err
		}
		s, err := m.release(ctx, fmt.Sprintf("bench%d", i))
		if err != nil {
			return nil, err
		}
		if i == 0 {
			continue // the first one warms caches
		}
		bare, all = append(bare, d), append(all, s)
	}
	return table(all, bare), nil
}

// table turns samples into medians.
func table(all []sample, bare []time.Duration) []report.Result {
	median := func(pick func(sample) time.Duration) float64 {
		values := make([]time.Duration, len(all))
		for i, s := range all {
			values[i] = pick(s)
		}
		slices.Sort(values)
		return values[len(values)/2].Seconds()
	}
	slices.Sort(bare)
	docker := bare[len(bare)/2].Seconds()
	goalTotal, goalOwn := 1.5, 0.5
	lower := func(name string, value float64) report.Result {
		return report.Result{Name: name, Value: value, Unit: "s", Better: report.Lower}
	}
	total := lower("release to first routed 200", median(func(s sample) time.Duration { return s.total }))
	total.Goal, total.Peer, total.PeerValue = &goalTotal, "docker run", docker
	own := lower("our own part of it", median(func(s sample) time.Duration { return s.total - s.start }))
	own.Goal = &goalOwn
	start := lower("container create and start", median(func(s sample) time.Duration { return s.start }))
	start.Peer, start.PeerValue = "docker run", docker
	return []report.Result{
		total, own,
		lower("cli: start to submit", median(func(s sample) time.Duration { return s.submit })),
		lower("plan", median(func(s sample) time.Duration { return s.plan })),
		lower("commit", median(func(s sample) time.Duration { return s.commit })),
		lower("launch: placed to executor", median(func(s sample) time.Duration { return s.launch })),
		start,
		lower("healthy: started to ALIVE", median(func(s sample) time.Duration { return s.healthy })),
		lower("routed: ALIVE to first 200", median(func(s sample) time.Duration { return s.routed })),
	}
}

// dockerRun times a bare "docker run" of the same image with a published port.
func dockerRun(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	out, err := exec.CommandContext(ctx, "docker", "run", "-d", "--memory", "32m", "-p", "127.0.0.1::8080", "pancake-hello:1").CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("docker run: %w: %s", err, out)
	}
	id := string(bytes.TrimSpace(out))
	if out, err := exec.CommandContext(ctx, "docker", "rm", "-f", id).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("docker rm: %w: %s", err, out)
	}
	return took, nil
}

// program is the path of a built binary.
func program(name string) string { return filepath.Join("bin", name) }
