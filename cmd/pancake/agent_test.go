package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake/internal/testkit"
)

// An agent without its scheduler is no reason to end: tasks run, and other
// nodes want to hear of them.
func TestAgentWaitsForItsScheduler(t *testing.T) {
	testkit.Docker(t)
	grpc, side := testkit.FreeAddr(t), testkit.FreeAddr(t)
	agent := start(t, "", "agent", "--scheduler", grpc, "--http", side, "--gossip", testkit.FreeAddr(t),
		"--data-dir", t.TempDir(), "--hostname", "node-"+testkit.Unique(), "--foreign-containers=false", "--resources", "cpus:1;mem:64")
	agent.until(t, "executor   waits: no scheduler at ["+grpc+"] has taken the agent in")
	resp, err := http.Get("http://" + side + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the Sidecar is not ready: %s", resp.Status)
	}

	scheduler := start(t, "", "scheduler", "--http", testkit.FreeAddr(t), "--grpc", grpc, "--data-dir", t.TempDir(),
		"--etcd-listen", testkit.FreeAddr(t), "--etcd-peer-listen", testkit.FreeAddr(t))
	agent.until(t, "Pancake is ready: agent ")
	for _, b := range []*background{agent, scheduler} {
		b.stop()
		if code := <-b.code; code != exitOK {
			t.Errorf("exit %d:\n%s", code, b.out.String())
		}
	}
}

func TestAgentNeedsAnAddressThatItCanDial(t *testing.T) {
	testkit.Docker(t)
	got := command{
		args: []string{"agent", "--http", testkit.FreeAddr(t), "--gossip", testkit.FreeAddr(t), "--data-dir", t.TempDir()},
		vars: map[string]string{"DOCKER_HOST": ""}, scheduler: "http://127.0.0.1:7099", // what PANCAKE_SCHEDULER is for the other commands
	}.run(t)
	if got.code != exitUsage || !strings.Contains(got.stderr, "host:port") {
		t.Errorf("%+v", got)
	}
}

func TestPatiently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		after := func(d time.Duration) error {
			ready := func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return errors.New("nobody answers")
				case <-time.After(d):
					return nil
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			return patiently(ready, func(err error) { told = append(told, err.Error()) })(ctx)
		}
		if err := after(time.Second); err != nil || told != nil {
			t.Errorf("quick: %v, told %q", err, told)
		}
		if err := after(time.Minute); err != nil || !slices.Equal(told, []string{"nobody answers"}) {
			t.Errorf("slow: %v, told %q", err, told)
		}
		if err := after(2 * time.Hour); err == nil {
			t.Error("ready, and it is not")
		}
	})
}
