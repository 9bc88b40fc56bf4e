package discover_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// socket is another way to the real Docker engine, which can be taken away.
type socket struct {
	t     *testing.T
	path  string
	ln    net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

// open lets connections through.
func (s *socket) open() {
	s.t.Helper()
	ln, err := net.Listen("unix", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ln = ln
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", "/var/run/docker.sock")
			if err != nil {
				_ = in.Close()
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, in, out)
			s.mu.Unlock()
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
}

// close ends all connections and takes the socket away.
func (s *socket) close() {
	s.ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

// TestRealEngine starts without Docker, follows real containers with health checks of
// Docker's own, loses Docker and finds it again.
func TestRealEngine(t *testing.T) {
	docker := testkit.Docker(t)
	image := testkit.Image(t, "testdata/probe")
	label := "org.pancake.test=discover-" + testkit.Unique()
	testkit.RemoveContainers(t, label)
	key, value, _ := strings.Cut(label, "=")
	start := func(name string, labels map[string]string, check []string) string {
		t.Helper()
		labels[key] = value
		labels["pancake.agent"] = value
		config := &container.Config{Image: image, Labels: labels}
		if check != nil {
			config.Healthcheck = &container.HealthConfig{Test: check, Interval: 50 * time.Millisecond, Timeout: 5 * time.Second, Retries: 1}
		}
		created, err := docker.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: config, Name: "pk-disc-" + name + "-" + testkit.Unique()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := docker.ContainerStart(t.Context(), created.ID, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
		return created.ID[:12]
	}
	kill := func(id, signal string) {
		t.Helper()
		if _, err := docker.ContainerKill(t.Context(), id, client.ContainerKillOptions{Signal: signal}); err != nil {
			t.Fatal(err)
		}
	}

	way := &socket{t: t, path: filepath.Join(t.TempDir(), "docker.sock")}
	engine, err := client.New(client.WithHost("unix://" + way.path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	s, l := newSink(), &logs{}
	d, err := discover.NewDocker(discover.DockerConfig{
		AdvertiseIP: "127.21.7.1", Agent: value, Namer: discover.NameByRegex, NameMatch: `^/pk-disc-([a-z]+)-`, Log: l.logger(),
	}, engine, s)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, d)
	eventually(t, "it says that Docker does not answer", func() bool { return l.count("docker does not answer") == 1 })
	checked := start("web", map[string]string{"HealthCheck": "Docker"}, []string{"CMD", "/app", "check"})
	bare := start("bare", map[string]string{"HealthCheck": "Docker"}, nil)
	way.open()
	t.Cleanup(way.close)
	eventually(t, "both are found", func() bool { ups, settled := s.told(); return ups >= 2 && settled == 1 })
	if f, _ := s.get(checked); f.Service.Name != "web" {
		t.Errorf("it is called %q", f.Service.Name)
	}
	eventually(t, "the check passes", func() bool { return s.health(checked) == "Alive" })
	eventually(t, "the other has none", func() bool { return strings.HasPrefix(s.health(bare), "Unhealthy the container has no HEALTHCHECK") })
	kill(checked, "SIGUSR1")
	eventually(t, "the check fails, and what it printed is known", func() bool {
		return s.health(checked) == "Unhealthy Docker's health check fails: the disk is full"
	})
	kill(checked, "SIGUSR1")
	eventually(t, "the check passes again", func() bool { return s.health(checked) == "Alive" })
	late := start("late", map[string]string{}, nil)
	eventually(t, "a container that starts", func() bool { _, ok := s.get(late); return ok })

	way.close()
	eventually(t, "Docker is missed", func() bool { return l.count("docker does not answer") == 2 })
	kill(late, "SIGKILL")
	kill(checked, "SIGUSR1")
	if _, ok := s.get(late); !ok {
		t.Error("without Docker it forgets what it knew")
	}
	way.open()
	eventually(t, "what happened meanwhile is made up for", func() bool {
		_, ok := s.get(late)
		return !ok && strings.Contains(s.health(checked), "the disk is full")
	})
	kill(bare, "SIGKILL")
	eventually(t, "the end of a container", func() bool { _, ok := s.get(bare); return !ok })
	if _, settled := s.told(); settled != 1 {
		t.Errorf("settled %d times", settled)
	}
}

// TestNamers names containers in all ways.
func TestNamers(t *testing.T) {
	c := container.Summary{ID: "c", Names: []string{"/web-12ab"}, Image: "registry.example:5000/team/web:1.2", Labels: map[string]string{"ServiceName": "label"}}
	id := container.Summary{ID: "c", Names: []string{"/other"}, Image: "sha256:" + strings.Repeat("ab", 32)}
	for _, tt := range []struct {
		cfg  discover.DockerConfig
		c    container.Summary
		want string
	}{
		{discover.DockerConfig{}, c, "label"},
		{discover.DockerConfig{Namer: "docker_label", NameLabel: "none"}, c, c.Image},
		{discover.DockerConfig{Namer: "regex", NameMatch: "^/(.+)-[0-9a-f]+$"}, c, "web"},
		{discover.DockerConfig{Namer: "regex", NameMatch: "^/(.+)-[0-9a-f]+$"}, id, id.Image},
		{discover.DockerConfig{Namer: "regex", NameMatch: "^/(x?)"}, c, c.Image},
		{discover.DockerConfig{Namer: "image"}, c, "web"},
		{discover.DockerConfig{Namer: "image"}, id, id.Image},
	} {
		tt.cfg.ForeignContainers = true
		if f, _ := find(t, tt.cfg, tt.c); f.Service.Name != tt.want {
			t.Errorf("%+v: %q, want %q", tt.cfg, f.Service.Name, tt.want)
		}
	}
	for want, cfg := range map[string]discover.DockerConfig{
		"(--name-match, SERVICES_NAME_MATCH) does not parse: error parsing regexp": {Namer: "regex", NameMatch: "("},
		"needs a group in brackets":                         {Namer: "regex", NameMatch: "web"},
		`the namer "magic" (SERVICES_NAMER) does not exist`: {Namer: "magic"},
	} {
		if _, err := discover.NewDocker(cfg, newEngine(), newSink()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestContainersThatListen(t *testing.T) {
	c := container.Summary{ID: "c", Labels: map[string]string{"ServicePort_80": "8080", "SidecarListener": "8080"}, Ports: []container.PortSummary{
		{PrivatePort: 80, PublicPort: 31000, Type: "tcp"},
	}}
	cfg := discover.DockerConfig{AdvertiseIP: "10.0.0.1", ForeignContainers: true}
	if f, _ := find(t, cfg, c); f.Listener != "http://10.0.0.1:31000/sidecar/update" {
		t.Errorf("%q", f.Listener)
	}
	c.Labels["SidecarListener"] = "80"
	if f, ok := find(t, cfg, c); !ok || f.Listener != "" {
		t.Errorf("%q", f.Listener)
	}
}
