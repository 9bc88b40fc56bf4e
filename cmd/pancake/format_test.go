package main

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func TestAge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 12 * time.Second: "12s", 119 * time.Second: "119s", 2 * time.Minute: "2m",
		119 * time.Minute: "119m", 2 * time.Hour: "2h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 1000 * time.Hour: "41d",
	} {
		if got := age(now, now.Add(-d)); got != want {
			t.Errorf("age of %s: %s, want %s", d, got, want)
		}
	}
	if got := age(now, time.Time{}); got != "" {
		t.Errorf("age of nothing: %q", got)
	}
}

func TestPorts(t *testing.T) {
	got := ports([]pancake.PortMapping{{ContainerPort: 8080, HostPort: 31000, Protocol: "tcp"}, {ContainerPort: 53, HostPort: 31001, Protocol: "udp"}})
	if got != "31000->8080, 31001->53/udp" {
		t.Error(got)
	}
}

func TestTableAligns(t *testing.T) {
	on := palette(true)
	got := table([]string{"NAME", on.paint(plain, "STATE"), "EMPTY", "NOTE"}, [][]string{
		{"a", on.state("running"), "", "x\ny"},
		{"longer", on.state("failed"), "", ""},
	})
	want := []string{
		"NAME    \x1b[39mSTATE\x1b[0m    NOTE",
		"a       \x1b[32mrunning\x1b[0m  x y",
		"longer  \x1b[31mfailed\x1b[0m",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestWhyUnplaced(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for want, u := range map[string]client.Unplaced{
		"restarts in 5s, after failing": {NotBefore: now.Add(4500 * time.Millisecond), Reasons: []client.Reason{{Constraint: "cpus"}}},
		"waits for an agent":            {NotBefore: now.Add(-time.Second)},
		"no agent has room: cpus: 0.1 free (1 agent); ports: 80 is taken (2 agents)": {Reasons: []client.Reason{
			{Constraint: "cpus", Agents: 1, Message: "0.1 free"}, {Constraint: "ports", Agents: 2, Message: "80 is taken"},
		}},
	} {
		if got := whyUnplaced(u, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestCutFits: whatever a line holds, it takes no more columns than there are,
// and what is cut off leaves no colour behind.
func TestCutFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := palette(rapid.Bool().Draw(t, "colours"))
		words := rapid.SliceOf(rapid.StringMatching(`[a-zäö ]{0,9}`)).Draw(t, "words")
		colours := rapid.SampledFrom([]int{red, green, plain})
		var line strings.Builder
		for _, w := range words {
			line.WriteString(p.paint(colours.Draw(t, "colour"), w))
		}
		width := rapid.IntRange(1, 40).Draw(t, "width")
		got := cut(line.String(), width)
		text := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[39m", "", "\x1b[0m", "").Replace(got)
		whole := []rune(strings.Join(words, ""))
		if want := string(whole[:min(len(whole), width)]); text != want {
			t.Fatalf("%q cut to %d is %q", line.String(), width, got)
		}
		if utf8.RuneCountInString(text) < len(whole) && bool(p) && !strings.HasSuffix(got, "\x1b[0m") {
			t.Fatalf("%q leaves a colour on", got)
		}
	})
}

// FuzzClean: no text from a container or a scheduler steers the terminal.
func FuzzClean(f *testing.F) {
	f.Add("a\x1b[2J\r\nb\x7f\u0085\u009b")
	f.Fuzz(func(t *testing.T, text string) {
		if got := clean(text); strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("%q became %q", text, got)
		}
	})
}
