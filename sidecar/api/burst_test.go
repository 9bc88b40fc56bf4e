package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// BenchmarkBurst measures answers while 2,000 services of one host appear one after
// another: how long the slowest hundredth takes, with a client at each document.
func BenchmarkBurst(b *testing.B) {
	paths := []string{"/api/services.json", "/api/state.json", "/v1/services", "/api/services/service-7.json", "/v1/members"}
	for b.Loop() {
		f := newFixture()
		c := catalog.New("n1", "default")
		c.Settle(noon)
		stop := make(chan struct{})
		took := make([][]time.Duration, len(paths))
		var clients sync.WaitGroup
		for i, path := range paths {
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
					start := time.Now()
					f.send(http.MethodGet, path, "", map[string]string{"Accept-Encoding": "gzip"})
					took[i] = append(took[i], time.Since(start))
				}
			})
		}
		for i := range 2000 {
			svc := pancake.Service{
				ID: fmt.Sprintf("%012x", i), Name: fmt.Sprintf("service-%d", i%50), Image: "registry/service:1", Created: noon, ProxyMode: "http",
				Ports: []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 10080, IP: "10.0.0.1", ContainerPort: 80}},
			}
			f.events.Add(c.Discover(svc, noon))
			f.state.Set(c.Snapshot())
			time.Sleep(time.Millisecond) // a thousand a second
		}
		close(stop)
		clients.Wait()
		for i, path := range paths {
			slices.Sort(took[i])
			b.Logf("%-30s %4d answers, p50 %v, p99 %v, worst %v", path, len(took[i]), took[i][len(took[i])/2], took[i][len(took[i])*99/100], took[i][len(took[i])-1])
		}
		all := slices.Sorted(slices.Values(slices.Concat(took...)))
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, "worst-ms")
	}
}
