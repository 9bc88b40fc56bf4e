package testkit

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// Docker connects to the machine's Docker engine. A test that needs it fails
// without it: what it would have shown must not be taken for shown.
func Docker(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		t.Fatalf("this test needs a Docker engine at %s: %v", c.DaemonHost(), err)
	}
	return c
}

// Image builds the Go program in a directory and makes an image of it alone,
// which is removed when the test ends. The program is the image's entry point,
// and its /bin/sh.
func Image(t testing.TB, dir string) string {
	t.Helper()
	docker := Docker(t)
	binary := filepath.Join(t.TempDir(), "app")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", dir, err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	name := "pancake-test/" + filepath.Base(dir) + ":" + Unique()
	res, err := docker.ImageImport(t.Context(), client.ImageImportSource{Source: archive(t, content), SourceName: "-"},
		name, client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/app"]`, "LABEL org.pancake.test=" + filepath.Base(dir)}})
	if err != nil {
		t.Fatalf("import image: %v", err)
	}
	defer res.Close()
	if _, err := io.Copy(io.Discard, res); err != nil {
		t.Fatalf("import image: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := docker.ImageRemove(ctx, name, client.ImageRemoveOptions{Force: true, PruneChildren: true}); err != nil {
			t.Errorf("remove image %s: %v", name, err)
		}
	})
	return name
}

// archive holds the program as /app, and as /bin/sh by a link.
func archive(t testing.TB, program []byte) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "app", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "/app", Mode: 0o777},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(program); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

// RemoveContainers removes, when the test ends, every container that then
// carries a label, for example "pancake.agent=x".
func RemoveContainers(t testing.TB, label string) {
	t.Helper()
	docker := Docker(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for ctx.Err() == nil {
			list, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label)})
			if err == nil && len(list.Items) == 0 {
				return
			}
			for _, c := range list.Items {
				// A removal that is under way already makes this fail; the list says when it is done.
				_, _ = docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("containers of %s could not be removed within a minute", label)
	})
}

// Unique is a short name that nobody else has.
func Unique() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%x", b)
}
