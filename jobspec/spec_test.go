package jobspec

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
)

// parse reads one environment of a text that must be without errors.
func parse(t *testing.T, file, text, environment string) *Spec {
	t.Helper()
	f, _ := Parse(file, []byte(text))
	spec, diagnostics := f.Environment(environment)
	if err := diagnostics.Err(); err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestReleaseOfTheFullFile(t *testing.T) {
	text, err := os.ReadFile("testdata/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	spec := parse(t, "some/where/full.yml", string(text), "prod")
	request, deploy, err := spec.Release("1.2-rc", "ann")
	if err != nil {
		t.Fatal(err)
	}
	wantRequest := pancake.Request{
		ID: "prod_full", Service: "full", Environment: "prod", Type: pancake.TypeService, Instances: 4,
		RequiredAttributes: map[string]string{"rack": "r1"},
		Group:              "shop", ReadWriteGroups: []string{"ops@example.com", "search"}, ReadOnlyGroups: []string{"support"},
	}
	if !reflect.DeepEqual(request, wantRequest) {
		t.Errorf("request\n got %+v\nwant %+v", request, wantRequest)
	}
	wantDeploy := pancake.Deploy{
		ID: "1_2_rc_" + textHash(text), RequestID: "prod_full", Tag: "1.2-rc", User: "ann",
		Container: pancake.Container{
			Image: "registry.example.com:5000/team/full:1.2-rc", ForcePull: true, Command: "./serve --all",
			Network: pancake.NetworkBridge,
			Ports: []pancake.PortMapping{
				{ContainerPort: 9090, HostPort: 31900, Protocol: "tcp"},
				{ContainerPort: 8080, Protocol: "tcp"},
				{ContainerPort: 53, Protocol: "tcp,udp"},
			},
			Env:     map[string]string{"GREETING": "Welcome", "EMPTY": ""},
			Labels:  map[string]string{"ServiceName": "full", "Environment": "prod"},
			Volumes: []pancake.Volume{{HostPath: "/var/data", ContainerPath: "/data", Mode: "RO"}, {HostPath: "/tmp", ContainerPath: "/tmp", Mode: "RW"}},
		},
		Resources: pancake.Resources{CPUs: 500, MemoryMB: 64},
		Health:    pancake.Health{URI: "/healthz", PortIndex: 1, TimeoutSeconds: 60},
		Strategy:  pancake.Strategy{InstancesPerStep: 1, StepWaitMillis: 5000},
	}
	if !reflect.DeepEqual(deploy, wantDeploy) {
		t.Errorf("deploy\n got %+v\nwant %+v", deploy, wantDeploy)
	}
}

const minimal = `nmesos_version: '3.0.7'
environments:
  dev:
    resources: {cpus: 0.1, memoryMb: 64}
    container:
      image: hello
`

func TestDefaults(t *testing.T) {
	spec := parse(t, `C:\jobs\my-service.yaml`, minimal, "dev")
	request, deploy, err := spec.Release("1", "")
	if err != nil {
		t.Fatal(err)
	}
	if request.ID != "dev_my_service" || request.Service != "my-service" || request.Instances != 1 || request.Type != pancake.TypeService {
		t.Errorf("request %+v", request)
	}
	want := pancake.Container{Image: "hello:1", Network: pancake.NetworkBridge}
	if !reflect.DeepEqual(deploy.Container, want) || deploy.Health != (pancake.Health{}) || deploy.Strategy != (pancake.Strategy{}) {
		t.Errorf("deploy %+v", deploy)
	}
}

func TestReleaseRefuses(t *testing.T) {
	spec := parse(t, "hello.yml", minimal, "dev")
	for _, tag := range []string{"", ".1", "-1", "a b", "a:b", strings.Repeat("x", 129), "é", "a/b", "1\n"} {
		if _, _, err := spec.Release(tag, ""); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("tag %q: %v", tag, err)
		}
	}
	for _, tag := range []string{"1", "_", "1.0-rc_2", strings.Repeat("x", 128)} {
		if _, _, err := spec.Release(tag, ""); err != nil {
			t.Errorf("tag %q: %v", tag, err)
		}
	}
	frozen := parse(t, "hello.yml", minimal+"      deploy_freeze: true\n", "dev")
	if _, _, err := frozen.Release("1", ""); pancake.KindOf(err) != pancake.Conflict {
		t.Errorf("frozen: %v", err)
	}
}

func TestTextHash(t *testing.T) {
	// The vector of nmesos' own test.
	if got := textHash([]byte("test content")); got != "1eebdf4" {
		t.Errorf("got %s", got)
	}
	with := parse(t, "hello.yml", minimal+"# a comment\n", "dev")
	without := parse(t, "hello.yml", minimal, "dev")
	if with.hash == without.hash {
		t.Error("a comment does not change the hash")
	}
}

func TestForceRelease(t *testing.T) {
	spec := parse(t, "hello.yml", minimal, "dev")
	_, plain, err := spec.Release("1", "")
	if err != nil {
		t.Fatal(err)
	}
	zone := time.FixedZone("far", 5*3600)
	_, forced, err := spec.ForceRelease("1", "", time.Date(2016, time.December, 2, 0, 0, 1, 999, zone))
	if err != nil {
		t.Fatal(err)
	}
	if want := plain.ID + "_86401"; forced.ID != want {
		t.Errorf("got %s, want %s", forced.ID, want)
	}
	if forced.ID = plain.ID; !reflect.DeepEqual(forced, plain) {
		t.Error("more than the id differs")
	}
}

func TestReleaseSharesNothingWithTheSpec(t *testing.T) {
	spec := parse(t, "hello.yml", minimal+"      env_vars: {A: b}\n      ports: [80]\n", "dev")
	_, deploy, _ := spec.Release("1", "")
	deploy.Container.Env["A"] = "changed"
	deploy.Container.Ports[0].HostPort = 1
	if _, again, _ := spec.Release("1", ""); again.Container.Env["A"] != "b" || again.Container.Ports[0].HostPort != 0 {
		t.Error("a change of one deploy reached the next")
	}
}

func TestPorts(t *testing.T) {
	for text, want := range map[string]pancake.PortMapping{
		"8080":           {ContainerPort: 8080, Protocol: "tcp"},
		`"8080"`:         {ContainerPort: 8080, Protocol: "tcp"},
		"8080:22":        {ContainerPort: 8080, HostPort: 22, Protocol: "tcp"}, // YAML 1.1: 484822
		"9000:12000":     {ContainerPort: 9000, HostPort: 12000, Protocol: "tcp"},
		"8081/udp":       {ContainerPort: 8081, Protocol: "udp"},
		`"53/tcp,udp"`:   {ContainerPort: 53, Protocol: "tcp,udp"},
		`"53/udp, tcp"`:  {ContainerPort: 53, Protocol: "tcp,udp"},
		"1:65535/TCP":    {ContainerPort: 1, HostPort: 65535, Protocol: "tcp"},
		"65535:0":        {ContainerPort: 65535, Protocol: "tcp"},
		"!!str 80":       {ContainerPort: 80, Protocol: "tcp"},
		"0x50":           {},
		"80/":            {},
		"80//tcp":        {},
		":80":            {},
		"80 :81":         {},
		"65536":          {},
		"+80":            {},
		"18446744073709": {},
	} {
		f, diagnostics := Parse("hello.yml", []byte(minimal+"      ports: [ "+text+" ]\n"))
		spec, _ := f.Environment("dev")
		switch {
		case want.ContainerPort == 0:
			if spec != nil || !strings.Contains(diagnostics.String(), "environments.dev.container.ports[0]: ") {
				t.Errorf("%s was taken: %v", text, diagnostics)
			}
		case spec == nil:
			t.Errorf("%s: %v", text, diagnostics)
		case !reflect.DeepEqual(spec.Container.Ports, []pancake.PortMapping{want}):
			t.Errorf("%s: got %+v, want %+v", text, spec.Container.Ports, want)
		}
	}
}
