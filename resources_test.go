package pancake_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

func TestParseResources(t *testing.T) {
	defaults := pancake.Resources{CPUs: 4000, MemoryMB: 8192, Ports: pancake.PortSet{{First: 31000, Last: 32000}}}
	for _, tt := range []struct{ text, want, err string }{
		{text: "", want: "cpus:4;mem:8192;ports:[31000-32000]"},
		{text: "cpus:0.5", want: "cpus:0.5;mem:8192;ports:[31000-32000]"},
		{text: " cpus:2 ; mem:1024 ; ports:[31000-31001, 31005] ", want: "cpus:2;mem:1024;ports:[31000-31001,31005]"},
		{text: "ports:[]", want: "cpus:4;mem:8192"},
		{text: "cpus", err: "has no value"},
		{text: "cpus:-1", err: "not a positive number"},
		{text: "cpus:NaN", err: "not a positive number"},
		{text: "mem:1.5", err: "mebibytes"},
		{text: "gpus:1", err: `unknown resource "gpus"`},
		{text: "ports:[5-2]", err: `"5-2" is not a port`},
		{text: "ports:[70000]", err: `"70000" is not a port`},
	} {
		got, err := pancake.ParseResources(tt.text, defaults)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want one with %q", tt.text, err, tt.err)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("%q: got %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
}

func TestParseAttributes(t *testing.T) {
	got, err := pancake.ParseAttributes("rack:r1; zone:eu-west-1a;url:http://x")
	if err != nil || got["rack"] != "r1" || got["zone"] != "eu-west-1a" || got["url"] != "http://x" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"rack", ":r1"} {
		if _, err := pancake.ParseAttributes(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// A PortSet must behave as a set of numbers does.
func TestPortSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set pancake.PortSet
		model := map[int]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "ops") {
			first := rapid.IntRange(1, 60).Draw(t, "first")
			if rapid.Bool().Draw(t, "add") {
				last := rapid.IntRange(first, 64).Draw(t, "last")
				set = set.Union(pancake.PortSet{{First: uint16(first), Last: uint16(last)}})
				for p := first; p <= last; p++ {
					model[p] = true
				}
			} else {
				before := set.String()
				less := set.Without(first)
				if set.String() != before {
					t.Fatalf("Without(%d) changed its receiver from %s to %s", first, before, set)
				}
				set = less
				delete(model, first)
			}
		}
		if set.Len() != len(model) {
			t.Fatalf("%s has %d ports, want %d", set, set.Len(), len(model))
		}
		for p := range 70 {
			if set.Contains(p) != model[p] {
				t.Fatalf("%s contains %d: %t, want %t", set, p, set.Contains(p), model[p])
			}
		}
		from := rapid.IntRange(0, 70).Draw(t, "from")
		got, ok := set.Next(from)
		want, wantOK := next(model, from)
		if got != want || ok != wantOK {
			t.Fatalf("%s.Next(%d) = %d, %t; want %d, %t", set, from, got, ok, want, wantOK)
		}
		back, err := pancake.ParsePortSet(set.String())
		if err != nil || !slices.Equal(back, set) {
			t.Fatalf("%s reads back as %s, %v", set, back, err)
		}
	})
}

func next(model map[int]bool, from int) (int, bool) {
	for d := range 70 {
		if p := (from + d) % 71; model[p] && p >= from {
			return p, true
		}
	}
	for p := range 71 {
		if model[p] {
			return p, true
		}
	}
	return 0, false
}

func TestResourcesJSON(t *testing.T) {
	in := pancake.Resources{CPUs: pancake.CPUs(0.1), MemoryMB: 64, Ports: pancake.PortSet{{First: 31000, Last: 31001}}}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"cpus":0.1,"memoryMb":64,"ports":"31000-31001"}` {
		t.Fatalf("got %s, %v", b, err)
	}
	var out pancake.Resources
	if err := json.Unmarshal(b, &out); err != nil || out.String() != in.String() {
		t.Fatalf("got %s, %v", out, err)
	}
	for _, bad := range []string{`{"cpus":1e9}`, `{"cpus":"1"}`, `{"ports":"x"}`} {
		if err := json.Unmarshal([]byte(bad), &out); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func FuzzParsePortSet(f *testing.F) {
	f.Add("31000-32000")
	f.Add("1,2,3-4,65535")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := pancake.ParsePortSet(text)
		if err != nil {
			return
		}
		back, err := pancake.ParsePortSet(set.String())
		if err != nil || !slices.Equal(back, set) {
			t.Fatalf("%q: %v reads back as %v, %v", text, set, back, err)
		}
	})
}

func TestTaskID(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	got := pancake.TaskID("dev_hello", "1_4f2ab31", at, 2, "node-1.example", "eu-west-1a")
	if want := "dev_hello-1_4f2ab31-1700000000123-2-node_1.example-eu_west_1a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// Agents may call themselves and their racks anything; an id stays a segment
	// of a path, and as short as the agent link takes them.
	if got := pancake.TaskID("r", "d", at, 1, "a/b", "eu west\n1"); !strings.HasSuffix(got, "-1-a_b-eu_west_1") {
		t.Errorf("got %q", got)
	}
	long := strings.Repeat("x", 500)
	if got := pancake.TaskID(long[:100], long[:150], at, 1000, long, long); len(got) > 512 {
		t.Errorf("%d characters", len(got))
	}
	if got := pancake.TaskID("r", "d", at, 1, "h", ""); !strings.HasSuffix(got, "-DEFAULT") {
		t.Errorf("without a rack: %s", got)
	}
	if got := pancake.RequestID("dev", "my-service"); got != "dev_my_service" {
		t.Errorf("request id %s", got)
	}
}

func TestErrorKinds(t *testing.T) {
	cause := pancake.Errorf(pancake.NoRoom, "no room")
	wrapped := pancake.Errorf(pancake.Unavailable, "ask: %w", cause)
	if pancake.KindOf(wrapped) != pancake.Unavailable {
		t.Error("the outermost kind must win")
	}
	if pancake.KindOf(nil) != "" || pancake.KindOf(errors.New("foreign")) != pancake.Internal {
		t.Error("nil has no kind, a foreign error is internal")
	}
}
