package sidecar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
)

// helloImage is the image of testdata/hello.
const helloImage = "pancake-test/sidecar-hello:latest"

// docker is a real Docker engine with the image of testdata/hello.
type docker struct {
	t *testing.T
	*client.Client
}

// TestMain removes what buildHello has made.
func TestMain(m *testing.M) {
	code := m.Run()
	if d, err := client.New(client.FromEnv); err == nil {
		_, _ = d.ImageRemove(context.Background(), helloImage, client.ImageRemoveOptions{Force: true}) // it need not be there
		_ = d.Close()                                                                                  // the process ends
	}
	os.Exit(code)
}

// buildHello compiles testdata/hello and makes an image of nothing else, once.
var buildHello = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "hello")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "hello")
	build := exec.Command("go", "build", "-o", file, "./testdata/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return pancake.Errorf(pancake.Failed, "build hello: %w: %s", err, out)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	if err := w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: int64(len(binary))}); err != nil {
		return err
	}
	if _, err := w.Write(binary); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	d, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer d.Close()
	answer, err := d.ImageImport(context.Background(), client.ImageImportSource{Source: &root, SourceName: "-"}, helloImage,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/hello"]`}})
	if err != nil {
		return err
	}
	defer answer.Close()
	_, err = io.Copy(io.Discard, answer)
	return err
})

func newDocker(t *testing.T) *docker {
	t.Helper()
	d, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := d.Ping(ctx, client.PingOptions{}); err != nil {
		t.Skipf("no Docker engine answers: %v", err)
	}
	if err := buildHello(); err != nil {
		t.Fatalf("make the image: %v", err)
	}
	return &docker{t, d}
}

// run starts hello with its port 8080 published on ip, and returns its ID.
func (d *docker) run(ip string, labels map[string]string, env ...string) string {
	d.t.Helper()
	port := network.MustParsePort("8080/tcp")
	created, err := d.ContainerCreate(d.t.Context(), client.ContainerCreateOptions{
		Config: &container.Config{Image: helloImage, Labels: labels, Env: env, ExposedPorts: network.PortSet{port: {}}},
		HostConfig: &container.HostConfig{PortBindings: network.PortMap{
			port: {{HostIP: netip.MustParseAddr(ip)}},
		}},
	})
	if err != nil {
		d.t.Fatalf("create a container: %v", err)
	}
	d.t.Cleanup(func() {
		_, _ = d.ContainerRemove(context.Background(), created.ID, client.ContainerRemoveOptions{Force: true}) // a test may have done so
	})
	if _, err := d.ContainerStart(d.t.Context(), created.ID, client.ContainerStartOptions{}); err != nil {
		d.t.Fatalf("start a container: %v", err)
	}
	return created.ID[:12]
}

func (d *docker) kill(id string) {
	d.t.Helper()
	if _, err := d.ContainerKill(d.t.Context(), id, client.ContainerKillOptions{}); err != nil {
		d.t.Fatalf("kill %s: %v", id, err)
	}
}
