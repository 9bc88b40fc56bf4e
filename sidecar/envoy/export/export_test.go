package export_test

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/envoy/export"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func service(name, host string, age time.Duration, status pancake.ServiceStatus, ports ...pancake.ServicePort) *pancake.Service {
	return &pancake.Service{ID: name + host, Name: name, Hostname: host, Created: noon.Add(-age), Status: status, ProxyMode: "http", Ports: ports}
}

func tcp(port, servicePort int64) pancake.ServicePort {
	return pancake.ServicePort{Type: "tcp", IP: "10.0.0.1", Port: port, ServicePort: servicePort}
}

func TestClusters(t *testing.T) {
	clusters, problems := export.Clusters([]*pancake.Service{
		service("web", "b", time.Hour, pancake.Alive, tcp(31001, 10080), tcp(31002, 0)),
		service("web", "a", time.Minute, pancake.Alive, tcp(31000, 10080), pancake.ServicePort{Type: "udp", Port: 5, ServicePort: 53}),
		service("web", "c", time.Minute, pancake.Sick, tcp(31009, 10080)),
		service("web", "d", time.Minute, pancake.Draining, tcp(31009, 10080)),
		service("squatter", "a", time.Second, pancake.Alive, tcp(31003, 10080), tcp(31004, 10081)),
		service("old", "a", 2*time.Hour, pancake.Tombstone, tcp(31005, 10080)),
		service("", "a", 9*time.Hour, pancake.Alive, tcp(31006, 10080)),
		service("wild", "a", 9*time.Hour, pancake.Alive, tcp(31006, 65536), tcp(31006, -1)),
	})
	type seen struct {
		name, mode string
		ports      []int64
	}
	var got []seen
	for _, c := range clusters {
		s := seen{name: c.Name, mode: c.Mode}
		for _, e := range c.Endpoints {
			s.ports = append(s.ports, e.Port)
		}
		got = append(got, s)
	}
	want := []seen{{"squatter:10081", "http", []int64{31004}}, {"web:10080", "http", []int64{31000, 31001}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := []export.Problem{{Service: "squatter", Port: 10080, Message: "the port belongs to web, which is older"}}; !reflect.DeepEqual(problems, want) {
		t.Errorf("problems %v, want %v", problems, want)
	}
}

// TestOrderDoesNotMatter: all hosts tell their proxies the same, and no port twice.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var services []*pancake.Service
		for range rapid.IntRange(0, 12).Draw(t, "services") {
			services = append(services, service(
				rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), rapid.StringMatching("[a-z]{4}").Draw(t, "host"),
				time.Duration(rapid.IntRange(0, 2).Draw(t, "age")), pancake.ServiceStatus(rapid.IntRange(0, 4).Draw(t, "status")),
				tcp(1, int64(rapid.IntRange(0, 3).Draw(t, "port")))))
		}
		one, problems := export.Clusters(services)
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Shuffle(len(services), func(i, j int) {
			services[i], services[j] = services[j], services[i]
		})
		two, again := export.Clusters(services)
		if !reflect.DeepEqual(one, two) || !reflect.DeepEqual(problems, again) {
			t.Fatalf("%v %v\n%v %v", one, problems, two, again)
		}
		ports := map[int64]bool{}
		for _, c := range one {
			if ports[c.Port] {
				t.Fatalf("port %d twice: %v", c.Port, one)
			}
			ports[c.Port] = true
		}
	})
}

func TestSplit(t *testing.T) {
	if s, p, err := export.Split(export.Name("web", 10080)); s != "web" || p != 10080 || err != nil {
		t.Errorf("%s %d %v", s, p, err)
	}
	if s, p, err := export.Split(export.Name("registry:5000/web:1", 10080)); s != "registry:5000/web:1" || p != 10080 || err != nil {
		t.Errorf("%s %d %v", s, p, err)
	}
	for _, bad := range []string{"", "web", "web:", "web:http", "web:1:"} {
		if _, _, err := export.Split(bad); pancake.KindOf(err) != pancake.NotFound {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
