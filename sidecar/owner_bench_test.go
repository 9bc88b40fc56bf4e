package sidecar

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// BenchmarkOwner10000 changes one service of a cluster of 1,000 hosts with 10,000,
// and shows it.
func BenchmarkOwner10000(b *testing.B) {
	o := newOwner(catalog.New("self", "c"), slog.New(slog.DiscardHandler))
	now := time.Now()
	records := make([]pancake.Service, 10_000)
	for i := range records {
		records[i] = pancake.Service{
			ID: fmt.Sprintf("%012x", i), Name: fmt.Sprintf("service-%d", i%500), Image: fmt.Sprintf("registry.example/service-%d:1", i%500), Hostname: fmt.Sprintf("node-%d", i%1000),
			Created: now, Updated: now, ProxyMode: "http", Ports: []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 10080, IP: "10.0.0.1"}},
			Labels: map[string]string{"traefik.enable": "true"},
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	func() { // the changes are garbage when it ends
		changes, _ := o.catalog.Merge(records, now)
		o.show(b.Context(), changes)
	}()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		records[0].Updated = now.Add(time.Duration(i))
		o.Merge(b.Context(), "peer", records[:1])
		o.show(b.Context(), (<-o.events)(o.catalog, now))
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-catalogue")
}
