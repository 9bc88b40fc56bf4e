package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake/test/bench/report"
)

// placements runs the planner's benchmark: 10,000 tasks on 1,000 agents.
func placements(ctx context.Context) (report.Result, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkPlace1000x10000$", "./scheduler/plan").CombinedOutput()
	if err != nil {
		return report.Result{}, fmt.Errorf("benchmark of scheduler/plan: %w\n%s", err, out)
	}
	value, err := metric(out, "placements/s")
	if err != nil {
		return report.Result{}, err
	}
	return report.Result{Name: "plan, 1,000 agents x 10,000 tasks", Value: value, Unit: "placements/s", Better: report.Higher}, nil
}

// metric takes the figure of a unit out of what "go test -bench" printed.
func metric(out []byte, unit string) (float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		for i := 2; i < len(fields); i++ {
			if fields[i] == unit {
				return strconv.ParseFloat(fields[i-1], 64)
			}
		}
	}
	return 0, errors.Join(fmt.Errorf("no figure in %s in:\n%s", unit, out), lines.Err())
}
