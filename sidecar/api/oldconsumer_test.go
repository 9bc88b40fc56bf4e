package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
)

// TestOldConsumer runs a program that was written for NinesStack Sidecar.
func TestOldConsumer(t *testing.T) {
	program := filepath.Join(t.TempDir(), "oldconsumer")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/oldconsumer").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f := newFixture()
	ln, err := net.Listen("tcp", "127.22.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })

	cmd := exec.CommandContext(t.Context(), program, "http://"+ln.Addr().String(), "web")
	var problem strings.Builder
	cmd.Stderr = &problem
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	out := bufio.NewScanner(stdout)
	for out.Scan() {
		lines = append(lines, out.Text())
		if out.Text() == "by service: 0" {
			c := example()
			c.Merge([]pancake.Service{{ID: "deadbeef0004", Name: "web", Hostname: "n2", Updated: noon.Add(time.Minute), Status: pancake.Draining}}, noon.Add(time.Minute))
			f.state.Set(c.Snapshot())
		}
	}
	_, _ = io.Copy(io.Discard, stdout) // it has ended
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &problem)
	}
	want := []string{
		"n1 of default, changed " + f.changed(),
		"{ID:deadbeef0004 Name:web Image:registry:5000/web:2 Created:2026-03-01 11:00:00.123456789 +0000 UTC Hostname:n2 Ports:[{Type:tcp Port:31004 ServicePort:8080 IP:10.0.0.2}] Updated:2026-03-01 12:00:00.123456789 +0000 UTC ProxyMode:http Status:0}",
		"by service: 0", "by service: 4", "whole: 4",
	}
	// The second watch may have been slow enough to see the first status too.
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "whole: 0" })
	if !slices.Equal(lines, want) {
		t.Errorf("it printed\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// changed is when the example changed, as JSON has it.
func (f *fixture) changed() string {
	return example().Snapshot().LastChanged.Format(time.RFC3339Nano)
}
