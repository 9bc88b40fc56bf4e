package catalog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// large are the records of a cluster of 1,000 hosts.
func large(updated time.Time) []pancake.Service {
	out := make([]pancake.Service, 10_000)
	for i := range out {
		out[i] = pancake.Service{
			ID: fmt.Sprintf("%012x", i), Name: fmt.Sprintf("service-%d", i%500), Image: "registry/service:1", Hostname: fmt.Sprintf("node-%d", i%1000),
			Created: noon, Updated: updated, ProxyMode: "http", Ports: []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 10080, IP: "10.0.0.1"}},
		}
	}
	return out
}

func BenchmarkMerge10000(b *testing.B) {
	old, next := large(noon), large(noon.Add(time.Second))
	for name, records := range map[string][]pancake.Service{"known": old, "newer": next} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				c := catalog.New("self", "c")
				c.Merge(old, noon)
				b.StartTimer()
				c.Merge(records, noon)
			}
		})
	}
}

// BenchmarkSnapshot changes one service of 10,000 and takes a snapshot.
func BenchmarkSnapshot10000(b *testing.B) {
	c := catalog.New("self", "c")
	c.Merge(large(noon), noon)
	c.Snapshot()
	changed := large(noon)[:1]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		changed[0].Updated = noon.Add(time.Duration(i))
		c.Merge(changed, noon)
		c.Snapshot()
	}
}

func BenchmarkSweep10000(b *testing.B) {
	c := catalog.New("self", "c")
	c.Merge(large(noon), noon)
	b.ReportAllocs()
	for b.Loop() {
		c.Sweep(noon)
	}
}
