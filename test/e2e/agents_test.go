//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// TestTwoAgents runs one scheduler and two agents, each a process of its own, on one Docker engine.
func TestTwoAgents(t *testing.T) {
	dir := t.TempDir()
	httpAddr, grpcAddr := freeAddr(t, "127.0.0.1"), freeAddr(t, "127.0.0.1")
	start(t, "scheduler", "--data-dir", filepath.Join(dir, "scheduler"), "--http", httpAddr, "--grpc", grpcAddr,
		"--etcd-listen", freeAddr(t, "127.0.0.1"), "--etcd-peer-listen", freeAddr(t, "127.0.0.1"), "--agent-timeout", "6s",
	).waitFor("Pancake is ready")
	cli := func(dir string, args ...string) string {
		t.Helper()
		return must(t, dir, append(args, "--scheduler", "http://"+httpAddr)...)
	}

	gossip := map[string]string{}
	for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
		gossip[ip] = freeAddr(t, ip)
	}
	agent := func(ip, seed string) *process {
		t.Helper()
		p := start(t, "agent", "--data-dir", filepath.Join(dir, ip), "--hostname", "node-"+ip, "--advertise", ip,
			"--scheduler", grpcAddr, "--http", freeAddr(t, ip), "--gossip", gossip[ip], "--seeds", gossip[seed],
			"--foreign-containers=false", "--attributes", "rack:r"+ip[len(ip)-1:], "--drain", "1s", "--resources", "cpus:1;mem:512")
		p.waitFor("Pancake is ready")
		return p
	}
	two, three := agent("127.0.0.2", "127.0.0.3"), agent("127.0.0.3", "127.0.0.2")
	specs := spec(t, "pair", 4)
	const request = "dev_pair"
	t.Cleanup(func() {
		for _, c := range containers(t, request) {
			docker(t, "rm", "-f", c.ID)
		}
	})

	t.Run("instances spread over both", func(t *testing.T) {
		cli(specs, "release", "pair", "-e", "dev", "-t", "1")
		counts := perAgent(containers(t, request))
		for _, n := range counts {
			if len(counts) != 2 || n != 2 {
				t.Fatalf("containers per agent: %v, want 2 and 2", counts)
			}
		}
		t.Logf("containers per agent: %v", counts)
		t.Logf("\n%s", cli("", "agents"))
	})

	t.Run("an agent killed and restarted keeps its containers", func(t *testing.T) {
		before := ids(containers(t, request))
		two.stop(syscall.SIGKILL)
		two = agent("127.0.0.2", "127.0.0.3")
		healthy(t, cli, request, 4)
		after := ids(containers(t, request))
		if !slices.Equal(before, after) {
			t.Errorf("containers before %v, after %v", before, after)
		}
	})

	t.Run("an agent killed for good has its tasks replaced", func(t *testing.T) {
		before := containers(t, request)
		three.stop(syscall.SIGKILL)
		lost := lostAgent(t, before, cli)
		eventually(t, time.Minute, "four containers on the other agent", func() error {
			counts := perAgent(containers(t, request))
			for id, n := range counts {
				if id != lost && n == 4 {
					return nil
				}
			}
			return fmt.Errorf("containers per agent: %v", counts)
		})
		healthy(t, cli, request, 4)
		t.Logf("containers per agent: %v (%s is lost, its containers still run)", perAgent(containers(t, request)), lost)

		three = agent("127.0.0.3", "127.0.0.2")
		eventually(t, time.Minute, "the stale containers to go", func() error {
			if n := perAgent(containers(t, request))[lost]; n > 0 {
				return fmt.Errorf("%d are left", n)
			}
			return nil
		})
		healthy(t, cli, request, 4)
		t.Logf("containers per agent after its return: %v", perAgent(containers(t, request)))
	})

	t.Run("a drained agent is emptied, and used again when it is activated", func(t *testing.T) {
		before := perAgent(containers(t, request))
		t.Logf("\n%s", cli("", "agents", "drain", "node-127.0.0.2", "--parallel", "1", "--wait"))
		after := perAgent(containers(t, request))
		healthy(t, cli, request, 4)
		if len(after) != 1 {
			t.Errorf("containers per agent before %v, after %v", before, after)
		}
		cli("", "agents", "activate", "node-127.0.0.2")
		cli("", "scale", request, "6")
		if counts := perAgent(containers(t, request)); len(counts) != 2 {
			t.Errorf("containers per agent after it is activated: %v", counts)
		}
	})

	cli("", "delete", request, "--yes")
	if left := containers(t, request); len(left) > 0 {
		t.Errorf("containers left after delete: %v", left)
	}
}

// lostAgent waits until the scheduler gives up an agent that had tasks, and returns its id.
func lostAgent(t *testing.T, before []container, cli func(string, ...string) string) string {
	t.Helper()
	var lost string
	eventually(t, 90*time.Second, "the scheduler to call an agent UNREACHABLE", func() error {
		out := cli("", "agents", "-o", "json")
		var agents []client.AgentView
		if err := json.Unmarshal([]byte(out), &agents); err != nil {
			return err
		}
		for _, a := range agents {
			if a.Agent.State == pancake.AgentUnreachable && perAgent(before)[a.Agent.ID] > 0 {
				lost = a.Agent.ID
				return nil
			}
		}
		return fmt.Errorf("agents: %s", out)
	})
	return lost
}

// healthy waits until n live tasks of the request are healthy, and no others are left.
func healthy(t *testing.T, cli func(string, ...string) string, request string, n int) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("%d healthy instances", n), func() error {
		out := cli("", "status", request, "-o", "json")
		var view client.RequestView
		if err := json.Unmarshal([]byte(out), &view); err != nil {
			return err
		}
		count := 0
		for _, task := range view.Tasks {
			if task.Status.State == pancake.TaskRunning && task.Status.Health == pancake.Healthy {
				count++
			}
		}
		if count != n || len(view.Tasks) != n {
			return fmt.Errorf("status: %s", out)
		}
		return nil
	})
}
