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

// says is what a catalogue tells others: what hosts wrote that it does not believe gone.
func says(c *catalog.Catalog) []pancake.Service {
	var out []pancake.Service
	for _, h := range c.Snapshot().Hosts {
		for id := range h.Services {
			if !h.Gone && h.Ended[id] == nil {
				out = append(out, *h.Written(id))
			}
		}
	}
	return out
}

// living is what a catalogue shows as running.
func living(c *catalog.Catalog) []pancake.Service {
	return slices.DeleteFunc(holds(c), func(s pancake.Service) bool { return s.Status == pancake.Tombstone })
}

// TestClusterConverges lets three hosts do whatever hosts do, with messages
// lost, clocks wrong and peers wrongly called dead, and then has them compare notes.
func TestClusterConverges(t *testing.T) {
	hosts := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		nodes, runs := map[string]*catalog.Catalog{}, map[string]map[string]bool{}
		skew := map[string]time.Duration{"b": time.Hour, "c": -5 * time.Hour}
		join := func(at string) {
			for _, h := range hosts {
				nodes[at].HostJoined(h)
			}
		}
		for _, h := range hosts {
			nodes[h], runs[h] = catalog.New(h, "c"), map[string]bool{}
			nodes[h].Settle(now)
			join(h)
		}
		host := rapid.SampledFrom(hosts)
		id := rapid.SampledFrom([]string{"1", "2"})
		// tell has one host hear what another says, and correct it where it knows better.
		tell := func(from, to string) {
			said := says(nodes[from])
			var corrections []pancake.Service
			for _, r := range said {
				h := nodes[to].Snapshot().Hosts[r.Hostname]
				if w := h.Written(r.ID); w != nil && h.Living && catalog.Compare(w, &r) > 0 {
					corrections = append(corrections, *w)
				}
			}
			nodes[to].Merge(said, now.Add(skew[to]))
			nodes[from].Merge(corrections, now.Add(skew[from]))
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				h, i := host.Draw(t, "host"), id.Draw(t, "id")
				nodes[h].Discover(pancake.Service{ID: i, Name: "x"}, now.Add(skew[h]))
				runs[h][i] = true
			},
			"stop": func(t *rapid.T) {
				h, i := host.Draw(t, "host"), id.Draw(t, "id")
				nodes[h].Remove(i, now.Add(skew[h]))
				delete(runs[h], i)
			},
			"check": func(t *rapid.T) {
				status := rapid.SampledFrom([]pancake.ServiceStatus{pancake.Alive, pancake.Sick}).Draw(t, "status")
				h := host.Draw(t, "host")
				nodes[h].SetStatus(id.Draw(t, "id"), status, "", now.Add(skew[h]))
			},
			"drain": func(t *rapid.T) {
				h := host.Draw(t, "host")
				_, _, _ = nodes[h].Drain(id.Draw(t, "id"), now.Add(skew[h])) // it may not run
			},
			"lie": func(t *rapid.T) { // about a host, to all but that host
				h := host.Draw(t, "host")
				lie := pancake.Service{Hostname: h, ID: id.Draw(t, "id"), Name: "lie", Updated: now.Add(time.Duration(rapid.IntRange(-60, 600).Draw(t, "age")) * time.Minute)}
				for _, o := range hosts {
					if o != h {
						nodes[o].Merge([]pancake.Service{lie}, now.Add(skew[o]))
					}
				}
			},
			"tell":  func(t *rapid.T) { tell(host.Draw(t, "from"), host.Draw(t, "to")) },
			"dead":  func(t *rapid.T) { h := host.Draw(t, "at"); nodes[h].HostGone(host.Draw(t, "host"), now.Add(skew[h])) },
			"back":  func(t *rapid.T) { h := host.Draw(t, "at"); nodes[h].HostJoined(host.Draw(t, "host")) },
			"sweep": func(t *rapid.T) { h := host.Draw(t, "host"); nodes[h].Sweep(now.Add(skew[h])) },
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 10_000).Draw(t, "seconds")) * time.Second)
			},
			"restart": func(t *rapid.T) { // without its memory
				h := host.Draw(t, "host")
				nodes[h] = catalog.New(h, "c")
				join(h)
				for i := range runs[h] {
					nodes[h].Discover(pancake.Service{ID: i, Name: "x"}, now.Add(skew[h]))
					nodes[h].SetStatus(i, pancake.Alive, "", now.Add(skew[h]))
				}
				nodes[h].Settle(now.Add(skew[h]))
			},
			"": func(t *rapid.T) {
				for _, h := range hosts {
					if got := nodes[h].Snapshot(); got.Digest != digest(living(nodes[h])) {
						t.Fatalf("the digest of %s is not that of its records", h)
					}
				}
			},
		})
		for _, h := range hosts {
			join(h)
		}
		for range 3 { // a round to hear of it, one to answer, one to hear the answer
			for _, from := range hosts {
				for _, to := range hosts {
					tell(from, to)
				}
			}
		}
		for _, h := range hosts {
			if got, want := living(nodes[h]), living(nodes["a"]); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
				t.Fatalf("%s and a disagree:\n%v\n%v", h, got, want)
			}
			if nodes[h].Snapshot().Digest != nodes["a"].Snapshot().Digest {
				t.Fatalf("%s and a are equal, their digests are not", h)
			}
			if err := truthful(nodes[h].Snapshot(), h, runs[h]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func digest(records []pancake.Service) (sum uint64) {
	for i := range records {
		sum += catalog.Hash(&records[i])
	}
	return sum
}

// TestHashesDifferWhereRecordsDo pins that digests are equal if, and but for a
// chance of one in 2^64 only if, what is gossiped is equal.
func TestHashesDifferWhereRecordsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := records(t)
		for i := range all {
			for j := range all {
				if same := catalog.Compare(&all[i], &all[j]) == 0; same != (catalog.Hash(&all[i]) == catalog.Hash(&all[j])) {
					t.Fatalf("%v and %v: equal is %t", all[i], all[j], same)
				}
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
