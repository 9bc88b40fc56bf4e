package plan

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

func offer(id string, cpus float64, mem int64, ports string) pancake.Offer {
	set, err := pancake.ParsePortSet(ports)
	if err != nil {
		panic(err)
	}
	return pancake.Offer{
		AgentID: id, Hostname: id, State: pancake.AgentActive,
		Free: pancake.Resources{CPUs: pancake.CPUs(cpus), MemoryMB: mem}, Ports: set,
	}
}

func wants(n int, cpus float64, mem int64, ports ...int) []Want {
	out := make([]Want, n)
	for i := range out {
		out[i] = Want{RequestID: "r", DeployID: "d", Instance: i + 1, Resources: pancake.Resources{CPUs: pancake.CPUs(cpus), MemoryMB: mem}}
		for _, p := range ports {
			out[i].Ports = append(out[i].Ports, pancake.PortMapping{ContainerPort: 80, HostPort: p, Protocol: "tcp"})
		}
	}
	return out
}

func in(rack string, o pancake.Offer) pancake.Offer {
	o.Rack = rack
	return o
}

func agentsOf(placed []Placement) []string {
	var out []string
	for _, p := range placed {
		out = append(out, p.AgentID)
	}
	return out
}

func TestPlacePicks(t *testing.T) {
	tests := map[string]struct {
		in   Input
		want []string
	}{
		"most room first": {
			Input{Wants: wants(1, 1, 10), Offers: []pancake.Offer{offer("a", 2, 100, ""), offer("b", 4, 100, "")}},
			[]string{"b"},
		},
		"equal room: smallest id": {
			Input{Wants: wants(1, 1, 10), Offers: []pancake.Offer{offer("b", 2, 100, ""), offer("a", 2, 100, "")}},
			[]string{"a"},
		},
		"spread before room": {
			Input{Wants: wants(3, 1, 10), Offers: []pancake.Offer{offer("a", 2, 100, ""), offer("b", 8, 800, "")}},
			[]string{"b", "a", "b"},
		},
		"what runs counts": {
			Input{
				Wants: wants(1, 1, 10), Offers: []pancake.Offer{offer("a", 2, 100, ""), offer("b", 8, 800, "")},
				Running: map[Group]map[string]int{{"r", "d"}: {"b": 1}},
			},
			[]string{"a"},
		},
		"other deploys do not count": {
			Input{
				Wants: wants(1, 1, 10), Offers: []pancake.Offer{offer("a", 2, 100, ""), offer("b", 8, 800, "")},
				Running: map[Group]map[string]int{{"r", "old"}: {"b": 1}},
			},
			[]string{"b"},
		},
		"racks are spread over": {
			Input{Wants: wants(3, 1, 10), Offers: []pancake.Offer{
				in("r1", offer("a", 8, 800, "")), in("r1", offer("b", 8, 800, "")), in("r2", offer("c", 2, 100, "")), in("r2", offer("d", 2, 90, "")),
			}},
			[]string{"a", "c", "b"},
		},
		"full agents are passed over": {
			Input{Wants: wants(4, 1, 10), Offers: []pancake.Offer{offer("a", 1, 100, ""), offer("b", 3, 100, "")}},
			[]string{"b", "a", "b", "b"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			placed, unplaced := Place(tt.in)
			if got := agentsOf(placed); !slices.Equal(got, tt.want) || len(unplaced) != 0 {
				t.Errorf("got %v and %v, want %v", got, unplaced, tt.want)
			}
		})
	}
}

func TestPlacePorts(t *testing.T) {
	in := Input{
		Wants:  wants(2, 0.1, 1, 0, 31002, 0),
		Offers: []pancake.Offer{offer("a", 4, 100, "31000-31003"), offer("b", 4, 100, "31000-31003")},
		Cursor: map[string]int{"a": 31002},
	}
	placed, unplaced := Place(in)
	if len(unplaced) != 0 {
		t.Fatal(unplaced)
	}
	var got [][]int
	for _, p := range placed {
		var hosts []int
		for _, m := range p.Ports {
			hosts = append(hosts, m.HostPort)
		}
		got = append(got, append(hosts, p.Cursor))
	}
	// On a the search begins at 31002, which the fixed mapping takes, and goes round.
	want := [][]int{{31003, 31002, 31000, 31001}, {31000, 31002, 31001, 31002}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUnplacedReasons(t *testing.T) {
	down := offer("node-z", 9, 900, "31000-31009")
	down.State = pancake.AgentUnreachable
	racked := offer("node-r", 9, 900, "31000-31009")
	racked.Attributes = map[string]string{"rack": "r1"}
	tests := map[string]struct {
		wants  []Want
		offers []pancake.Offer
		want   []Reason
	}{
		"no agents":  {wants(1, 1, 1), nil, []Reason{{"agents", 0, `no agent has registered; start one with "pancake agent"`}}},
		"not active": {wants(1, 1, 1), []pancake.Offer{down}, []Reason{{"state", 1, "1 agent is not active: node-z is UNREACHABLE"}}},
		"cpus": {
			wants(1, 1.5, 1),
			[]pancake.Offer{offer("node-b", 0.1, 900, ""), offer("node-a", 0.3, 900, "")},
			[]Reason{{"cpus", 2, "2 agents have too little; the nearest, node-a, has 0.3 free of the 1.5 needed: 1.2 short"}},
		},
		"mem and state": {
			wants(1, 1, 512),
			[]pancake.Offer{offer("node-a", 4, 500, ""), down},
			[]Reason{{"state", 1, "1 agent is not active: node-z is UNREACHABLE"}, {"mem", 1, "1 agent has too little; the nearest, node-a, has 500 MiB free of the 512 MiB needed: 12 MiB short"}},
		},
		"ports": {
			wants(1, 1, 1, 0, 0),
			[]pancake.Offer{offer("node-a", 4, 500, "31000")},
			[]Reason{{"ports", 1, "1 agent has too little; the nearest, node-a, has 1 free of the 2 needed: 1 short"}},
		},
		"fixed port": {
			wants(1, 1, 1, 8080),
			[]pancake.Offer{offer("node-a", 4, 500, "31000-31005")},
			[]Reason{{"ports", 1, "1 agent has not the fixed host port free; on the nearest, node-a, 8080 is held by a task or outside the ports it offers"}},
		},
		"attribute": {
			[]Want{{RequestID: "r", Instance: 1, Attributes: map[string]string{"rack": "r2"}}},
			[]pancake.Offer{racked, offer("node-s", 9, 9, "")},
			[]Reason{{"attribute rack", 2, `2 agents are without rack="r2"; node-r has "r1"`}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			placed, unplaced := Place(Input{Wants: tt.wants, Offers: tt.offers})
			if len(placed) != 0 || len(unplaced) != 1 {
				t.Fatalf("placed %v, unplaced %v", placed, unplaced)
			}
			if !reflect.DeepEqual(unplaced[0].Reasons, tt.want) {
				t.Errorf("got  %+v\nwant %+v", unplaced[0].Reasons, tt.want)
			}
		})
	}
}

func drawInput(t *rapid.T) Input {
	var in Input
	in.Cursor = map[string]int{}
	for i := range rapid.IntRange(0, 6).Draw(t, "agents") {
		o := offer(fmt.Sprintf("a%d", i), float64(rapid.IntRange(0, 40).Draw(t, "cpus"))/10, int64(rapid.IntRange(0, 40).Draw(t, "mem")), "")
		if n := rapid.IntRange(0, 5).Draw(t, "ports"); n > 0 {
			o.Ports = pancake.PortSet{{First: 31000, Last: uint16(31000 + n - 1)}}
		}
		o.Rack = rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "rack")
		o.Attributes = map[string]string{"rack": o.Rack}
		o.State = rapid.SampledFrom([]pancake.AgentState{pancake.AgentActive, pancake.AgentActive, pancake.AgentFrozen}).Draw(t, "state")
		in.Offers = append(in.Offers, o)
		in.Cursor[o.AgentID] = rapid.IntRange(0, 31006).Draw(t, "cursor")
	}
	in.Running = map[Group]map[string]int{{"r0", "d"}: {"a0": rapid.IntRange(0, 2).Draw(t, "running")}}
	for r := range rapid.IntRange(0, 3).Draw(t, "requests") {
		w := Want{RequestID: fmt.Sprintf("r%d", r), DeployID: "d", Resources: pancake.Resources{
			CPUs: pancake.MilliCPU(rapid.IntRange(0, 2000).Draw(t, "cpu")), MemoryMB: int64(rapid.IntRange(0, 20).Draw(t, "mb")),
		}}
		for range rapid.IntRange(0, 2).Draw(t, "dynamic") {
			w.Ports = append(w.Ports, pancake.PortMapping{ContainerPort: 80})
		}
		if rapid.Bool().Draw(t, "fixed") {
			w.Ports = append(w.Ports, pancake.PortMapping{ContainerPort: 81, HostPort: rapid.IntRange(31000, 31005).Draw(t, "port")})
		}
		if rapid.IntRange(0, 3).Draw(t, "pinned") == 0 {
			w.Attributes = map[string]string{"rack": "r1"}
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "instances") {
			w.Instance = i + 1
			in.Wants = append(in.Wants, w)
		}
	}
	return in
}

func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := fmt.Sprintf("%+v", in)
		placed, unplaced := Place(in)
		if after := fmt.Sprintf("%+v", in); after != before {
			t.Fatalf("Place changed its input:\n%s\n%s", before, after)
		}
		if len(placed)+len(unplaced) != len(in.Wants) {
			t.Fatalf("%d placed and %d unplaced of %d", len(placed), len(unplaced), len(in.Wants))
		}
		checkNotOvercommitted(t, in, placed, unplaced)

		again := in
		again.Wants = rapid.Permutation(in.Wants).Draw(t, "wants shuffled")
		again.Offers = rapid.Permutation(in.Offers).Draw(t, "offers shuffled")
		placed2, unplaced2 := Place(again)
		if !reflect.DeepEqual(placed, placed2) || !reflect.DeepEqual(unplaced, unplaced2) {
			t.Fatalf("another order, another plan:\n%+v\n%+v", placed, placed2)
		}
	})
}

// checkNotOvercommitted applies the plan to the offers step by step, and then
// tries to fit what was left out.
func checkNotOvercommitted(t *rapid.T, in Input, placed []Placement, unplaced []Unplaced) {
	left := map[string]pancake.Offer{}
	for _, o := range in.Offers {
		left[o.AgentID] = o
	}
	for _, p := range placed {
		o := left[p.AgentID]
		o.Free = o.Free.Sub(p.Want.Resources)
		if o.Free.CPUs < 0 || o.Free.MemoryMB < 0 || o.State != pancake.AgentActive {
			t.Fatalf("%s is over-committed: %v %s", p.AgentID, o.Free, o.State)
		}
		for k, v := range p.Want.Attributes {
			if o.Attributes[k] != v {
				t.Fatalf("%s lacks %s=%s", p.AgentID, k, v)
			}
		}
		for i, m := range p.Ports {
			if !o.Ports.Contains(m.HostPort) {
				t.Fatalf("port %d of %s is given twice or not offered", m.HostPort, p.AgentID)
			}
			if w := p.Want.Ports[i]; w.HostPort != 0 && w.HostPort != m.HostPort {
				t.Fatalf("fixed port %d became %d", w.HostPort, m.HostPort)
			}
			o.Ports = o.Ports.Without(m.HostPort)
		}
		left[p.AgentID] = o
	}
	for _, u := range unplaced {
		if len(u.Reasons) == 0 {
			t.Fatalf("%v is unplaced without a reason", u.Want)
		}
		for o := range maps.Values(left) {
			if fits(&o, u.Want) {
				t.Fatalf("%v fits on %s after all", u.Want, o.AgentID)
			}
		}
	}
}

func BenchmarkPlace1000x10000(b *testing.B) {
	var in Input
	for i := range 1000 {
		o := in1000(i)
		in.Offers = append(in.Offers, o)
	}
	for i := range 10_000 {
		in.Wants = append(in.Wants, Want{
			RequestID: fmt.Sprintf("request_%d", i/20), DeployID: "1", Instance: i%20 + 1,
			Resources: pancake.Resources{CPUs: pancake.MilliCPU(100 + i%7*50), MemoryMB: int64(64 + i%5*64)},
			Ports:     []pancake.PortMapping{{ContainerPort: 8080, Protocol: "tcp"}},
		})
	}
	b.ReportAllocs()
	placements := 0
	for b.Loop() {
		placed, unplaced := Place(in)
		if len(unplaced) > 0 {
			b.Fatal(unplaced[0])
		}
		placements += len(placed)
	}
	b.ReportMetric(float64(placements)/b.Elapsed().Seconds(), "placements/s")
}

// in1000 is the i-th agent of a cluster of three racks and unequal nodes.
func in1000(i int) pancake.Offer {
	o := offer(fmt.Sprintf("agent-%04d", i), float64(8+i%5*4), int64(16_384+i%7*4096), "31000-32000")
	o.Rack = fmt.Sprintf("zone-%d", i%3)
	return o
}
