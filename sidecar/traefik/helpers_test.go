package traefik

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
)

func pancakeEpoch(seconds int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, seconds, 0, time.UTC)
}

// FuzzLabels feeds labels of one container. Whatever they are, Build neither
// panics nor takes the route of another service, and its result is JSON.
func FuzzLabels(f *testing.F) {
	f.Add("traefik.http.routers.a.rule=Host(`a`)\ntraefik.http.services.a.loadbalancer.server.port=80")
	f.Add("traefik.http.middlewares.m.plugin.p.a.b[0].c=1\ntraefik.http.middlewares.m.plugin.p.a=2")
	f.Add("traefik.http.routers.x].rule=1")
	f.Add("traefik.tls.stores.default=1\ntraefik..=\ntraefik.http.[0]=x")
	f.Add("traefik.http.routers.other.rule=Host(`stolen`)\ntraefik.http.services.other.loadbalancer.server.url=http://1.2.3.4")
	b := builder(f)
	port := []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 80, IP: "10.0.0.1"}}
	f.Fuzz(func(t *testing.T, text string) {
		labels := make(map[string]string)
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			labels[key] = value
		}
		conf, _ := b.Build([]pancake.Service{
			{ID: "1", Name: "fuzzed", Ports: port, Labels: labels},
			{ID: "2", Name: "other", Ports: port},
		})
		if _, err := conf.Line(); err != nil {
			t.Fatal(err)
		}
		router, service := conf.HTTP.Routers["other"], conf.HTTP.Services["other"]
		if router == nil || router.Rule != "Host(`other.localhost`)" || service == nil ||
			len(service.LoadBalancer.Servers) != 1 || service.LoadBalancer.Servers[0].URL != "http://10.0.0.1:31000" {
			t.Fatalf("the labels of one service changed another: %+v %+v", router, service)
		}
	})
}

// BenchmarkBuild makes and encodes the configuration for 1,000 services of
// three instances each, every second one with labels.
func BenchmarkBuild(b *testing.B) {
	var services []pancake.Service
	for i := range 3000 {
		name := fmt.Sprintf("service-%d", i%1000)
		s := pancake.Service{
			ID: fmt.Sprintf("%012x", i), Name: name, Hostname: fmt.Sprintf("node%d", i/1000), ProxyMode: "http",
			Ports: []pancake.ServicePort{{Type: "tcp", Port: int64(31000 + i%1000), ServicePort: 80, IP: fmt.Sprintf("10.0.0.%d", i/1000)}},
		}
		if i%2 == 0 {
			s.Labels = map[string]string{
				"traefik.http.routers." + name + ".rule":                             "Host(`" + name + ".example.org`)",
				"traefik.http.routers." + name + ".middlewares":                      name + "-auth",
				"traefik.http.middlewares." + name + "-auth.basicauth.users":         "a:b",
				"traefik.http.services." + name + ".loadbalancer.server.port":        "80",
				"traefik.http.services." + name + ".loadbalancer.sticky.cookie":      "true",
				"traefik.http.services." + name + ".loadbalancer.healthcheck.path":   "/health",
				"traefik.http.services." + name + ".loadbalancer.serverstransport":   "t@file",
				"traefik.http.services." + name + ".loadbalancer.passhostheader":     "true",
				"traefik.http.routers." + name + ".tls.certresolver":                 "le",
				"traefik.http.services." + name + ".loadbalancer.healthcheck.scheme": "http",
			}
		}
		services = append(services, s)
	}
	build := builder(b)
	b.ReportAllocs()
	for b.Loop() {
		conf, problems := build.Build(services)
		if len(problems) > 0 {
			b.Fatal(problems)
		}
		if _, err := conf.Line(); err != nil {
			b.Fatal(err)
		}
	}
}
