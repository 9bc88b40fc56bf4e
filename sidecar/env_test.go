package sidecar_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// variables are an environment of these alone.
func variables(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, set := env[name]
		return value, set
	}
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{
		"SIDECAR_SEEDS": "a:1, b,", "SIDECAR_CLUSTER_NAME": "prod", "SIDECAR_ADVERTISE_IP": "10.0.0.1", "SIDECAR_EXCLUDE_IPS": "192.168.168.168",
		"SIDECAR_BIND_PORT": "7947", "SIDECAR_DEFAULT_CHECK_ENDPOINT": "/health", "SIDECAR_PUSH_PULL_INTERVAL": "10s", "SIDECAR_DISCOVERY": "docker,static",
		"SERVICES_NAME_LABEL": "app", "SERVICES_NAMER": "regex", "SERVICES_NAME_MATCH": "^/(.+)-", "DOCKER_URL": "unix:///x", "STATIC_CONFIG_FILE": "/s.json",
		"LISTENERS_URLS": "http://a/, http://b/", "ENVOY_USE_GRPC_API": "true", "ENVOY_GRPC_PORT": "7777", "ENVOY_BIND_IP": "10.0.0.2", "ENVOY_USE_HOSTNAMES": "1",
		"K8S_KUBE_API_IP": "10.0.0.3", "K8S_KUBE_API_PORT": "443", "K8S_NAMESPACE": "web", "K8S_CREDS_PATH": "/creds", "K8S_KUBE_TIMEOUT": "5s", "ANNOUNCE_ALL_NODES": "true",
	}
	got := sidecar.Config{Hostname: "kept", Seeds: []string{"replaced"}}
	if err := sidecar.FromEnv(variables(env), &got); err != nil {
		t.Fatal(err)
	}
	want := sidecar.Config{
		Hostname: "kept", Seeds: []string{"a:1", "b"}, ClusterName: "prod", AdvertiseIP: "10.0.0.1", ExcludeIPs: []string{"192.168.168.168"},
		BindPort: 7947, DefaultCheckEndpoint: "/health", PushPullInterval: 10 * time.Second, DockerHost: "unix:///x",
		Discovery: []sidecar.Method{sidecar.ByDocker, sidecar.ByStatic}, StaticFile: "/s.json",
		Namer: "regex", NameLabel: "app", NameMatch: "^/(.+)-", ListenerURLs: []string{"http://a/", "http://b/"},
		EnvoyAddr: "127.0.0.1:7777", EnvoyBindIP: "10.0.0.2", EnvoyUseHostnames: true,
		Kubernetes: discover.KubernetesConfig{Host: "10.0.0.3", Port: 443, Namespace: "web", CredsPath: "/creds", Timeout: 5 * time.Second, AllNodes: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	again := got
	if err := sidecar.FromEnv(variables(nil), &again); err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("an empty environment changed it: %+v, %v", again, err)
	}
	for name, value := range map[string]string{
		"SIDECAR_BIND_PORT": "70000", "SIDECAR_PUSH_PULL_INTERVAL": "soon", "SIDECAR_DISCOVERY": "docker,magic", "SERVICES_NAMER": "dice",
		"ENVOY_GRPC_PORT": "x", "ENVOY_USE_GRPC_API": "perhaps",
		"K8S_KUBE_API_PORT": "0", "K8S_KUBE_TIMEOUT": "3", "ANNOUNCE_ALL_NODES": "some",
	} {
		err := sidecar.FromEnv(variables(map[string]string{name: value}), &sidecar.Config{})
		if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// A variable that is set and empty is as none, but where NinesStack Sidecar gives it a
// meaning of its own.
func TestEmptyVariables(t *testing.T) {
	before := sidecar.Config{
		Hostname: "h", AdvertiseIP: "10.0.0.1", ExcludeIPs: []string{"10.0.0.9"}, BindPort: 7000, ClusterName: "prod", Seeds: []string{"a"}, PushPullInterval: time.Minute,
		DockerHost: "unix:///x", Discovery: []sidecar.Method{sidecar.ByStatic}, Namer: "image", NameLabel: "app", NameMatch: "^/(.+)-", StaticFile: "/s.json",
		DefaultCheckEndpoint: "/up", ListenerURLs: []string{"http://a/"}, EnvoyAddr: "127.0.0.1:1", EnvoyBindIP: "10.0.0.2", EnvoyUseHostnames: true,
		Kubernetes: discover.KubernetesConfig{Host: "10.0.0.3", Port: 443, Namespace: "web", CredsPath: "/creds", Timeout: 5 * time.Second, AllNodes: true},
	}
	none := []string{
		"SIDECAR_SEEDS", "SIDECAR_CLUSTER_NAME", "SIDECAR_ADVERTISE_IP", "SIDECAR_BIND_PORT", "SIDECAR_PUSH_PULL_INTERVAL", "SERVICES_NAME_LABEL", "SERVICES_NAMER", "SERVICES_NAME_MATCH",
		"DOCKER_URL", "STATIC_CONFIG_FILE", "LISTENERS_URLS", "ENVOY_USE_GRPC_API", "ENVOY_GRPC_PORT", "ENVOY_BIND_IP", "ENVOY_USE_HOSTNAMES",
		"K8S_KUBE_API_IP", "K8S_KUBE_API_PORT", "K8S_NAMESPACE", "K8S_CREDS_PATH", "K8S_KUBE_TIMEOUT", "ANNOUNCE_ALL_NODES",
	}
	for _, name := range none {
		got := before
		if err := sidecar.FromEnv(variables(map[string]string{name: ""}), &got); err != nil || !reflect.DeepEqual(got, before) || sidecar.Counts(name, "") {
			t.Errorf("%s= changed something: %+v, %v", name, got, err)
		}
	}
	for name, change := range map[string]func(*sidecar.Config){
		"SIDECAR_DISCOVERY":              func(c *sidecar.Config) { c.Discovery, c.Passive = nil, true },
		"SIDECAR_EXCLUDE_IPS":            func(c *sidecar.Config) { c.ExcludeIPs = []string{} },
		"SIDECAR_DEFAULT_CHECK_ENDPOINT": func(c *sidecar.Config) { c.DefaultCheckEndpoint = "/" },
	} {
		got, want := before, before
		change(&want)
		if err := sidecar.FromEnv(variables(map[string]string{name: ""}), &got); err != nil || !reflect.DeepEqual(got, want) || !sidecar.Counts(name, "") {
			t.Errorf("%s= makes\n%+v, %v, want\n%+v", name, got, err, want)
		}
	}
	var blank sidecar.Config
	if err := sidecar.FromEnv(variables(map[string]string{"SIDECAR_DISCOVERY": " , "}), &blank); err != nil || !blank.Passive {
		t.Errorf("a list of nothing: %+v, %v", blank, err)
	}
}

// The control plane of Envoy is on with a port alone, and off when it is said so.
func TestEnvoyFromEnv(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing":        {nil, ""},
		"on":             {map[string]string{"ENVOY_USE_GRPC_API": "true"}, "127.0.0.1:7776"},
		"a port":         {map[string]string{"ENVOY_GRPC_PORT": "7"}, "127.0.0.1:7"},
		"a port and off": {map[string]string{"ENVOY_GRPC_PORT": "7", "ENVOY_USE_GRPC_API": "false"}, ""},
	} {
		var cfg sidecar.Config
		if err := sidecar.FromEnv(variables(tc.env), &cfg); err != nil || cfg.EnvoyAddr != tc.want {
			t.Errorf("%s: %q, %v; want %q", name, cfg.EnvoyAddr, err, tc.want)
		}
	}
}

func TestIgnoredVariables(t *testing.T) {
	env := map[string]string{"HAPROXY_BIND_IP": "10.0.0.1", "SIDECAR_STATS_ADDR": "x:1", "SIDECAR_SEEDS": "a"}
	got := sidecar.Ignored(func(k string) string { return env[k] })
	if len(got) != 2 || got[0].Name != "HAPROXY_BIND_IP" || got[1].Name != "SIDECAR_STATS_ADDR" || !strings.Contains(got[1].Why, "/metrics") {
		t.Errorf("%+v", got)
	}
}
