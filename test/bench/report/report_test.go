package report

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var sample = []Result{
	{Name: "release to routed", Value: 1.234, Unit: "s", Better: Lower, Goal: new(1.5)},
	{Name: "container start", Value: 600, Unit: "ms", Better: Lower, Peer: "docker run", PeerValue: 300},
	{Name: "placements", Value: 12345.6, Unit: "1/s", Better: Higher, Goal: new(20000.0)},
}

func TestWriteAndAppend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "results")
	const first = `{"name":"release to routed","value":1.234,"unit":"s","better":"lower","goal":1.5}` + "\n"
	const second = `{"name":"container start","value":600,"unit":"ms","better":"lower","peer":"docker run","peer_value":300,"ratio":2}` + "\n"
	for _, step := range []struct {
		write func(dir, part string, results []Result) error
		add   []Result
		want  string
	}{
		{Write, sample[:2], first + second},
		{Append, sample[:1], first + second + first},
		{Write, sample[1:2], second},
		{Append, nil, second},
	} {
		if err := step.write(dir, "slice", step.add); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "slice.json"))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != step.want {
			t.Errorf("got\n%swant\n%s", got, step.want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	valid := Result{Name: "n", Value: 1, Unit: "s", Better: Lower}
	for name, spoil := range map[string]func(*Result){
		"no name":         func(r *Result) { r.Name = "" },
		"no unit":         func(r *Result) { r.Unit = "" },
		"no direction":    func(r *Result) { r.Better = "faster" },
		"not a number":    func(r *Result) { r.Value = math.NaN() },
		"infinite":        func(r *Result) { r.Value = math.Inf(1) },
		"peer at zero":    func(r *Result) { r.Peer = "docker run" },
		"peer infinite":   func(r *Result) { r.Peer, r.PeerValue = "docker run", math.Inf(1) },
		"peer not a name": func(r *Result) { r.PeerValue = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := valid
			spoil(&r)
			if err := Write(dir, "part", []Result{valid, r}); err == nil {
				t.Error("written")
			}
			if _, err := os.Stat(filepath.Join(dir, "part.json")); !os.IsNotExist(err) {
				t.Errorf("the file is there: %v", err)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	var buf bytes.Buffer
	if err := Print(&buf, "slice", sample); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
slice
  NAME               VALUE  UNIT  GOAL             PEER
  release to routed  1.23   s     <= 1.5 met       -
  container start    600    ms    -                docker run 300 (x2)
  placements         12346  1/s   >= 20000 MISSED  -
`, "\n")
	if got := buf.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
