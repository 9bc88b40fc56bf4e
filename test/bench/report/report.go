// Package report writes down what the benchmarks measured: a file per part, one
// JSON object per line, and a table for people.
package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
)

// Dir is where the benchmarks write, relative to the repository's root. Git ignores it.
const Dir = "bench-results"

// Better says which way a value improves.
type Better string

// The two ways.
const (
	Higher Better = "higher"
	Lower  Better = "lower"
)

// Result is one figure of a benchmark.
type Result struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"` // such as "s", "ms", "placements/s"
	Better Better  `json:"better"`
	// Goal is what Value is meant to reach; nil means that there is none.
	Goal *float64 `json:"goal,omitempty"`
	// Peer names what the same was measured against in the same run, and
	// PeerValue is its value, in the same unit.
	Peer      string  `json:"peer,omitempty"`
	PeerValue float64 `json:"peer_value,omitempty"`
	// Ratio is Value/PeerValue. Write and Append compute it.
	Ratio float64 `json:"ratio,omitempty"`
}

// Met reports whether the goal is reached; without a goal it is true.
func (r Result) Met() bool {
	switch {
	case r.Goal == nil:
		return true
	case r.Better == Higher:
		return r.Value >= *r.Goal
	}
	return r.Value <= *r.Goal
}

// check returns an error for a result that says too little or cannot be written as JSON.
func (r Result) check() error {
	switch {
	case r.Name == "" || r.Unit == "":
		return fmt.Errorf("result %q with unit %q: both must be set", r.Name, r.Unit)
	case r.Better != Higher && r.Better != Lower:
		return fmt.Errorf("result %s: better is %q, want %q or %q", r.Name, r.Better, Higher, Lower)
	case math.IsNaN(r.Value) || math.IsInf(r.Value, 0):
		return fmt.Errorf("result %s: %v is not a figure", r.Name, r.Value)
	case r.Peer != "" && !(r.PeerValue > 0 && r.PeerValue <= math.MaxFloat64):
		return fmt.Errorf("result %s: peer %s has the value %v, want a positive one", r.Name, r.Peer, r.PeerValue)
	case r.Peer == "" && r.PeerValue != 0:
		return fmt.Errorf("result %s: the peer's value %v has no name", r.Name, r.PeerValue)
	}
	return nil
}

// Write replaces dir/<part>.json by the results, one JSON object per line, and
// makes dir when it is missing. It changes nothing when a result is not valid.
func Write(dir, part string, results []Result) error {
	return write(dir, part, results, os.O_TRUNC)
}

// Append is Write, but keeps what dir/<part>.json holds already.
func Append(dir, part string, results []Result) error {
	return write(dir, part, results, os.O_APPEND)
}

func write(dir, part string, results []Result, mode int) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for _, r := range results {
		if err := r.check(); err != nil {
			return err
		}
		if r.Peer != "" {
			r.Ratio = r.Value / r.PeerValue
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("result %s: %w", r.Name, err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, part+".json"), os.O_CREATE|os.O_WRONLY|mode, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(buf.Bytes()); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Print writes the results as a table: what was measured, the goal and whether it
// was met, and how the peer did.
func Print(w io.Writer, title string, results []Result) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s\n", title)
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "  NAME\tVALUE\tUNIT\tGOAL\tPEER")
	for _, r := range results {
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\t%s\n", r.Name, number(r.Value), r.Unit, goal(r), peer(r))
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	return out.Flush()
}

func goal(r Result) string {
	if r.Goal == nil {
		return "-"
	}
	sign, verdict := "<=", "met"
	if r.Better == Higher {
		sign = ">="
	}
	if !r.Met() {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s %s %s", sign, number(*r.Goal), verdict)
}

func peer(r Result) string {
	if r.Peer == "" {
		return "-"
	}
	return fmt.Sprintf("%s %s (x%s)", r.Peer, number(r.PeerValue), number(r.Value/r.PeerValue))
}

// number prints whole numbers in full from 100 on and three significant digits below.
func number(v float64) string {
	if math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
