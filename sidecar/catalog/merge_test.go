package catalog_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// records draws from few hosts, ids, times and texts, so that records of one
// service and equal times are common.
func records(t *rapid.T) []pancake.Service {
	one := rapid.Custom(func(t *rapid.T) pancake.Service {
		s := pancake.Service{
			Hostname:  rapid.SampledFrom([]string{"a", "b"}).Draw(t, "host"),
			ID:        rapid.SampledFrom([]string{"1", "2"}).Draw(t, "id"),
			Name:      rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name"),
			ProxyMode: "http",
			Updated:   noon.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "age")) * time.Second),
			Status:    pancake.ServiceStatus(rapid.IntRange(0, 4).Draw(t, "status")),
		}
		if port := rapid.Int64Range(0, 1).Draw(t, "port"); port > 0 {
			s.Ports = []pancake.ServicePort{{Type: "tcp", Port: port}}
		}
		if v := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "label"); v != "" {
			s.Labels = map[string]string{"traefik.a": v}
		}
		return s
	})
	return rapid.SliceOfN(one, 1, 12).Draw(t, "records")
}

// holds is what a catalogue knows, without when it heard of it.
func holds(c *catalog.Catalog) []pancake.Service {
	var out []pancake.Service
	for _, s := range c.Snapshot().Services() {
		copied := *s
		copied.Note = ""
		out = append(out, copied)
	}
	return out
}

// mergeProperties says that a catalogue depends on the set of records it has
// seen alone: not on their order, not on repetitions, not on how they came.
func mergeProperties(t *rapid.T) {
	all := records(t)
	shuffled := rapid.Permutation(append(slices.Clone(all), all...)).Draw(t, "order")
	cut := rapid.IntRange(0, len(shuffled)).Draw(t, "cut")

	want := catalog.New("self", "c")
	want.Merge(all, noon)
	got := catalog.New("self", "c")
	got.Merge(shuffled[:cut], noon)
	got.Merge(shuffled[cut:], noon)
	if !reflect.DeepEqual(holds(got), holds(want)) {
		t.Fatalf("order matters:\n%v\n%v", holds(got), holds(want))
	}
	// Merging catalogues is merging their records.
	left, right := catalog.New("l", "c"), catalog.New("r", "c")
	left.Merge(all[:len(all)/2], noon)
	right.Merge(all[len(all)/2:], noon)
	left.Merge(holds(right), noon)
	if !reflect.DeepEqual(holds(left), holds(want)) {
		t.Fatalf("grouping matters:\n%v\n%v", holds(left), holds(want))
	}
	if changes, _ := left.Merge(holds(left), noon); len(changes) != 0 {
		t.Fatalf("merging it into itself changed %v", changes)
	}
}

func TestMergeProperties(t *testing.T) { rapid.Check(t, mergeProperties) }

func FuzzMerge(f *testing.F) { f.Fuzz(rapid.MakeFuzz(mergeProperties)) }

func TestCompareIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := records(t)
		for i := range all {
			for j := range all {
				a, b := &all[i], &all[j]
				ab, ba := catalog.Compare(a, b), catalog.Compare(b, a)
				if ab != -ba {
					t.Fatalf("%v against %v is %d, and back %d", a, b, ab, ba)
				}
				same := reflect.DeepEqual(a, b)
				if same != (ab == 0) {
					t.Fatalf("%v and %v compare as %d", a, b, ab)
				}
				for k := range all {
					if c := &all[k]; ab <= 0 && catalog.Compare(b, c) <= 0 && catalog.Compare(a, c) > 0 {
						t.Fatalf("not transitive: %v %v %v", a, b, c)
					}
				}
			}
		}
	})
}

// TestClusterConverges lets three hosts do whatever hosts do, with messages
// lost and peers wrongly called dead, and then has them compare notes.
func TestClusterConverges(t *testing.T) {
	hosts := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		nodes, runs := map[string]*catalog.Catalog{}, map[string]map[string]bool{}
		for _, h := range hosts {
			nodes[h], runs[h] = catalog.New(h, "c"), map[string]bool{}
			nodes[h].Settle(now)
		}
		host := rapid.SampledFrom(hosts)
		id := rapid.SampledFrom([]string{"1", "2"})
		tell := func(from, to string) { nodes[to].Merge(holds(nodes[from]), now) }
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				h, i := host.Draw(t, "host"), id.Draw(t, "id")
				nodes[h].Discover(pancake.Service{ID: i, Name: "x"}, now)
				runs[h][i] = true
			},
			"stop": func(t *rapid.T) {
				h, i := host.Draw(t, "host"), id.Draw(t, "id")
				nodes[h].Remove(i, now)
				delete(runs[h], i)
			},
			"check": func(t *rapid.T) {
				status := rapid.SampledFrom([]pancake.ServiceStatus{pancake.Alive, pancake.Sick}).Draw(t, "status")
				nodes[host.Draw(t, "host")].SetStatus(id.Draw(t, "id"), status, "", now)
			},
			"drain": func(t *rapid.T) {
				_, _, _ = nodes[host.Draw(t, "host")].Drain(id.Draw(t, "id"), now) // it may not run
			},
			"tell":  func(t *rapid.T) { tell(host.Draw(t, "from"), host.Draw(t, "to")) },
			"dead":  func(t *rapid.T) { nodes[host.Draw(t, "at")].HostGone(host.Draw(t, "host"), now) },
			"sweep": func(t *rapid.T) { nodes[host.Draw(t, "host")].Sweep(now) },
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "seconds")) * time.Second)
			},
			"restart": func(t *rapid.T) { // without its memory
				h := host.Draw(t, "host")
				nodes[h] = catalog.New(h, "c")
				for i := range runs[h] {
					nodes[h].Discover(pancake.Service{ID: i, Name: "x"}, now)
					nodes[h].SetStatus(i, pancake.Alive, "", now)
				}
				nodes[h].Settle(now)
			},
			"": func(*rapid.T) {},
		})
		for range 3 { // a round to hear of it, one to answer, one to hear the answer
			for _, from := range hosts {
				for _, to := range hosts {
					tell(from, to)
				}
			}
		}
		for _, h := range hosts {
			if got, want := holds(nodes[h]), holds(nodes["a"]); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s and a disagree:\n%v\n%v", h, got, want)
			}
			if err := truthful(nodes[h].Snapshot(), h, runs[h]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// truthful reports whether a host's own services are exactly those that run.
func truthful(s *catalog.Snapshot, host string, runs map[string]bool) error {
	known := map[string]*pancake.Service{}
	if h := s.Hosts[host]; h != nil {
		known = h.Services
	}
	for id, svc := range known {
		if runs[id] != (svc.Status != pancake.Tombstone) {
			return fmt.Errorf("service %s of %s is %s; does it run: %t", id, host, svc.Status, runs[id])
		}
	}
	for id := range runs {
		if known[id] == nil {
			return fmt.Errorf("service %s of %s is not known", id, host)
		}
	}
	return nil
}
