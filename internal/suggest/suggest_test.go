package suggest

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	keys := []string{"image", "ports", "labels", "env_vars", "memoryMb", "cpus", "instances", "healthcheckUri"}
	for _, tc := range []struct{ word, want string }{
		{"memoryMB", "memoryMb"},
		{"memory", "memoryMb"},
		{"cpu", "cpus"},
		{"cpsu", "cpus"},
		{"envVars", "env_vars"},
		{"env", "env_vars"},
		{"healthCheckURI", "healthcheckUri"},
		{"label", "labels"},
		{"extraDockerConf", ""},
		{"xy", ""},
		{"", ""},
		{"__", ""},
		{strings.Repeat("image", 1000), ""},
	} {
		got, ok := Nearest(tc.word, keys)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("Nearest(%q) = %q, %v; want %q", tc.word, got, ok, tc.want)
		}
	}
}

func TestDistanceIsAMetricOfEdits(t *testing.T) {
	word := rapid.StringMatching(`[abc]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) {
			t.Fatalf("not symmetric: %d and %d", d, distance(b, a))
		}
		if (d == 0) != (a == b) {
			t.Fatalf("distance %d", d)
		}
		if low, high := max(len(a), len(b))-min(len(a), len(b)), max(len(a), len(b)); d < low || d > high {
			t.Fatalf("distance %d outside [%d, %d]", d, low, high)
		}
		if a != "" {
			i := rapid.IntRange(0, len(a)-1).Draw(t, "i")
			if one := distance(a, a[:i]+a[i+1:]); one != 1 {
				t.Fatalf("deleting one letter costs %d", one)
			}
		}
	})
}
