package executor

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/docker"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

var testAgent = pancake.Agent{ID: "agent-1", Hostname: "node-1", Attributes: map[string]string{"zone": "a"}}

// assignment is a task with two ports; each test changes what it is about.
func assignment(change func(*agentlink.Assignment)) agentlink.Assignment {
	ports := []pancake.PortMapping{
		{ContainerPort: 8080, HostPort: 31001, Protocol: "tcp"},
		{ContainerPort: 9000, HostPort: 31002, Protocol: "tcp,udp"},
	}
	a := agentlink.Assignment{
		Task: pancake.Task{
			ID: "t1", RequestID: "dev_hello", DeployID: "d1", Instance: 2, Ports: ports,
			Resources: pancake.Resources{CPUs: 250, MemoryMB: 64},
		},
		Request: pancake.Request{ID: "dev_hello", Service: "hello", Environment: "dev", Instances: 3},
		Deploy: pancake.Deploy{ID: "d1", User: "ann", Container: pancake.Container{
			Image: "registry:5000/team/hello:1.2", Network: pancake.NetworkBridge, Ports: ports,
		}},
	}
	if change != nil {
		change(&a)
	}
	return a
}

func TestEnvironment(t *testing.T) {
	got := environment(assignment(nil), testAgent)
	want := map[string]string{
		"INSTANCE_NO": "2", "TASK_HOST": "node-1", "TASK_RACK_ID": "a", "AVAILABILITY_ZONE": "a",
		"TASK_REQUEST_ID": "dev_hello", "TASK_DEPLOY_ID": "d1", "TASK_ID": "t1", "ESTIMATED_INSTANCE_COUNT": "3",
		"DEPLOY_CPUS": "0.25", "DEPLOY_MEM": "64", "STARTED_BY_USER": "ann",
		"PORT": "8080", "PORT0": "31001", "PORT1": "31002", "MESOS_PORT_8080": "31001", "MESOS_PORT_9000": "31002",
		"MESOS_HOSTNAME": "node-1", "SERVICE_NAME": "hello", "ENVIRONMENT": "dev", "SERVICE_VERSION": "1.2",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	got = environment(assignment(func(a *agentlink.Assignment) {
		a.Deploy.Container.Network = pancake.NetworkHost
		a.Deploy.Container.Env = map[string]string{"PORT1": "mine", "COLOUR": "blue"}
	}), testAgent)
	if got["PORT"] != "31001" || got["PORT1"] != "mine" || got["COLOUR"] != "blue" {
		t.Errorf("on the host's network, with the spec's own: %v", got)
	}
	if got := environment(assignment(func(a *agentlink.Assignment) { a.Task.Ports = nil }), testAgent); got["PORT"] != "" {
		t.Errorf("PORT=%s without ports", got["PORT"])
	}
}

func TestImageVersion(t *testing.T) {
	for image, want := range map[string]string{
		"hello": "latest", "hello:2": "2", "registry:5000/hello": "latest", "registry:5000/a/hello:2": "2",
		"hello@sha256:abc": "sha256:abc", "hello:2@sha256:abc": "sha256:abc",
	} {
		if got := imageVersion(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestLabels(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*agentlink.Assignment)
		want   map[string]string // "" means that it must not be there
	}{
		"what Sidecar needs": {nil, map[string]string{
			"ServiceName": "hello", "ProxyMode": "http", "ServicePort_8080": "8080", "ServicePort_9000": "9000",
			"HealthCheck": "Tcp", "HealthCheckArgs": "{{ host }}:{{ tcp 8080 }}",
			"pancake.task": "t1", "pancake.agent": "agent-1", "pancake.request": "dev_hello", "pancake.deploy": "d1",
		}},
		"a health check of the spec": {
			func(a *agentlink.Assignment) { a.Deploy.Health = pancake.Health{URI: "/healthz", PortIndex: 1} },
			map[string]string{"HealthCheck": "HttpGet", "HealthCheckArgs": "http://{{ host }}:{{ tcp 9000 }}/healthz"},
		},
		"a health check without its slash": {
			func(a *agentlink.Assignment) { a.Deploy.Health = pancake.Health{URI: "up"} },
			map[string]string{"HealthCheckArgs": "http://{{ host }}:{{ tcp 8080 }}/up"},
		},
		"a port index that is not there": {
			func(a *agentlink.Assignment) { a.Deploy.Health = pancake.Health{URI: "/up", PortIndex: 7} },
			map[string]string{"HealthCheck": "Tcp"},
		},
		"labels of the spec win": {
			func(a *agentlink.Assignment) {
				a.Deploy.Health = pancake.Health{URI: "/healthz"}
				a.Deploy.Container.Labels = map[string]string{
					"ServiceName": "other", "ServicePort_8080": "80", "HealthCheck": "AlwaysSuccessful", "ProxyMode": "tcp", "traefik.enable": "true",
				}
			},
			map[string]string{
				"ServiceName": "other", "ServicePort_8080": "80", "HealthCheck": "AlwaysSuccessful", "HealthCheckArgs": "",
				"ProxyMode": "tcp", "traefik.enable": "true",
			},
		},
		"but not ours": {
			func(a *agentlink.Assignment) {
				a.Deploy.Container.Labels = map[string]string{"pancake.agent": "somebody", "pancake.task": "else"}
			},
			map[string]string{"pancake.agent": "agent-1", "pancake.task": "t1"},
		},
		"a service port of the spec is checked by its name": {
			func(a *agentlink.Assignment) {
				a.Deploy.Container.Labels = map[string]string{"ServicePort_8080": "10001"}
			},
			map[string]string{"HealthCheckArgs": "{{ host }}:{{ tcp 10001 }}"},
		},
		"a port that is not proxied is checked by its number": {
			func(a *agentlink.Assignment) { a.Deploy.Container.Labels = map[string]string{"ServicePort_8080": "0"} },
			map[string]string{"HealthCheckArgs": "{{ host }}:31001"},
		},
		"UDP cannot be connected to": {
			func(a *agentlink.Assignment) {
				a.Task.Ports = []pancake.PortMapping{{ContainerPort: 53, HostPort: 31001, Protocol: "udp"}, {ContainerPort: 80, HostPort: 31002}}
			},
			map[string]string{"HealthCheck": "Tcp", "HealthCheckArgs": "{{ host }}:{{ tcp 80 }}"},
		},
		"no ports, no check": {
			func(a *agentlink.Assignment) { a.Task.Ports = nil },
			map[string]string{"HealthCheck": "", "HealthCheckArgs": ""},
		},
		"on the host's network the host port is announced": {
			func(a *agentlink.Assignment) {
				a.Deploy.Container.Network = pancake.NetworkHost
				a.Deploy.Container.Labels = map[string]string{"ServicePort_8080": "80"}
			},
			map[string]string{
				"ServicePort_8080": "", "ServicePort_31001": "80", "ServicePort_31002": "9000", "HealthCheckArgs": "{{ host }}:{{ tcp 80 }}",
			},
		},
		"without a service the request is the name": {
			func(a *agentlink.Assignment) { a.Request.Service = "" }, map[string]string{"ServiceName": "dev_hello"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := labels(assignment(tt.change), "agent-1")
			for k, v := range tt.want {
				if got[k] != v {
					t.Errorf("%s=%q, want %q", k, got[k], v)
				}
			}
		})
	}
}

func TestContainerSpec(t *testing.T) {
	address := netip.MustParseAddr("127.0.0.2")
	s := containerSpec(assignment(nil), testAgent, address, CPUShares)
	if s.MemoryBytes != 64<<20 || s.CPUShares != 256 || s.NanoCPUs != 0 || s.Host {
		t.Errorf("limits of %+v", s)
	}
	want := []docker.Port{
		{Container: 8080, Host: 31001, HostIP: address, Protocol: "tcp"},
		{Container: 9000, Host: 31002, HostIP: address, Protocol: "tcp"},
		{Container: 9000, Host: 31002, HostIP: address, Protocol: "udp"},
	}
	if !slices.Equal(s.Ports, want) {
		t.Errorf("ports %v", s.Ports)
	}
	small := assignment(func(a *agentlink.Assignment) {
		a.Task.Resources.CPUs, a.Deploy.Container.Network = 1, pancake.NetworkHost
	})
	if s := containerSpec(small, testAgent, address, CPUHard); s.CPUShares != minShares || s.NanoCPUs != 1e6 || !s.Host {
		t.Errorf("hard limits of %+v", s)
	}
	if a, b := containerName("t1"), containerName("t2"); a == b || len(a) != len("pancake-")+16 {
		t.Errorf("names %s and %s", a, b)
	}
}
