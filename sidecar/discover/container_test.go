package discover_test

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// find runs discovery with one container and returns what it makes of it.
func find(t *testing.T, cfg discover.DockerConfig, c container.Summary) (found discover.Found, ok bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e, s := newEngine(), &sink{up: map[string]discover.Found{}}
		e.containers["c"] = c
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		d, err := discover.NewDocker(cfg, e, s)
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-done
		synctest.Wait()
		for _, f := range s.up {
			found, ok = f, true
		}
	})
	return found, ok
}

func TestContainerBecomesService(t *testing.T) {
	any4, any6 := netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::")
	c := container.Summary{
		ID: "0123456789abcdef0123456789abcdef", Image: "registry/hello:1", Created: 1_700_000_000,
		Labels: map[string]string{
			"ServiceName": "hello", "ServicePort_80": "10080", "ServicePort_81": "x", "HealthCheck": "HttpGet", "HealthCheckArgs": "http://x/", "ProxyMode": "ws",
			"traefik.enable": "true", "Traefik.http.x": "y", "pancake.task": "task-1", "other": "label",
		},
		Ports: []container.PortSummary{
			{IP: any4, PrivatePort: 80, PublicPort: 31000, Type: "tcp"},
			{IP: any6, PrivatePort: 80, PublicPort: 31000, Type: "tcp"},
			{IP: netip.MustParseAddr("192.168.1.1"), PrivatePort: 81, PublicPort: 31001, Type: "tcp"},
			{PrivatePort: 82, Type: "tcp"},
			{IP: any4, PrivatePort: 53, PublicPort: 31002, Type: "udp"},
		},
	}
	got, ok := find(t, discover.DockerConfig{AdvertiseIP: "10.0.0.1", ForeignContainers: true}, c)
	want := discover.Found{Check: health.Spec{Type: "HttpGet", Args: "http://x/"}, Service: pancake.Service{
		ID: "0123456789ab", Name: "hello", Image: "registry/hello:1", Created: time.Unix(1_700_000_000, 0).UTC(), ProxyMode: "ws", Task: "task-1",
		Ports: []pancake.ServicePort{
			{Type: "tcp", Port: 31001, ServicePort: 0, IP: "192.168.1.1", ContainerPort: 81},
			{Type: "tcp", Port: 31000, ServicePort: 10080, IP: "10.0.0.1", ContainerPort: 80},
			{Type: "udp", Port: 31002, ServicePort: 0, IP: "10.0.0.1", ContainerPort: 53},
		},
		Labels: map[string]string{"traefik.enable": "true", "Traefik.http.x": "y"},
	}}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestHostNetwork(t *testing.T) {
	c := container.Summary{ID: "c", Labels: map[string]string{"ServicePort_31005": "80", "ServicePort_x": "1"}}
	c.HostConfig.NetworkMode = "host"
	got, _ := find(t, discover.DockerConfig{AdvertiseIP: "10.0.0.1", ForeignContainers: true}, c)
	if fmt.Sprint(got.Service.Ports) != "[{tcp 31005 80 10.0.0.1 31005}]" {
		t.Errorf("%+v", got.Service.Ports)
	}
}

func TestNames(t *testing.T) {
	for want, labels := range map[string]map[string]string{
		"image:1": nil, "hello": {"ServiceName": "hello"},
	} {
		if got, _ := find(t, discover.DockerConfig{ForeignContainers: true}, container.Summary{ID: "c", Image: "image:1", Labels: labels}); got.Service.Name != want {
			t.Errorf("%v: %q", labels, got.Service.Name)
		}
	}
	got, _ := find(t, discover.DockerConfig{ForeignContainers: true, NameLabel: "app"}, container.Summary{ID: "c", Image: "i", Labels: map[string]string{"ServiceName": "no", "app": "yes"}})
	if got.Service.Name != "yes" {
		t.Errorf("%q", got.Service.Name)
	}
}

func TestWhoseContainerItIs(t *testing.T) {
	for _, tt := range []struct {
		agent   string
		foreign bool
		labels  map[string]string
		want    bool
	}{
		{"a", false, map[string]string{"pancake.agent": "a"}, true},
		{"a", true, map[string]string{"pancake.agent": "b"}, false},
		{"a", false, nil, false},
		{"a", true, nil, true},
		{"", false, map[string]string{"pancake.agent": "b"}, true},
		{"", false, nil, false},
		{"a", true, map[string]string{"pancake.agent": "a", "SidecarDiscover": "false"}, false},
	} {
		if _, got := find(t, discover.DockerConfig{Agent: tt.agent, ForeignContainers: tt.foreign}, container.Summary{ID: "c", Labels: tt.labels}); got != tt.want {
			t.Errorf("%+v: announced %t", tt, got)
		}
	}
}

func TestTooManyTraefikLabelsMakeNoRoute(t *testing.T) {
	labels := map[string]string{"traefik.http.routers.r.middlewares": "auth", "traefik.x": strings.Repeat("x", 9000)}
	got, _ := find(t, discover.DockerConfig{ForeignContainers: true}, container.Summary{ID: "c", Labels: labels})
	if fmt.Sprint(got.Service.Labels) != "map[traefik.enable:false]" {
		t.Errorf("%v", got.Service.Labels)
	}
}
