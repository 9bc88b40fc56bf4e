//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// TestTwoSchedulers runs two schedulers and an agent on an etcd that is not
// ours: the distribution's, the oldest version that is supported.
func TestTwoSchedulers(t *testing.T) {
	dir := t.TempDir()
	store := startEtcd(t, filepath.Join(dir, "etcd"))
	scheduler := func(http, grpc string) *process {
		t.Helper()
		p := start(t, "scheduler", "--etcd", store, "--data-dir", filepath.Join(dir, http), "--http", http, "--grpc", grpc)
		p.waitFor("Pancake is ready")
		return p
	}
	type address struct{ http, grpc string }
	addrs := []address{
		{freeAddr(t, "127.0.0.1"), freeAddr(t, "127.0.0.1")},
		{freeAddr(t, "127.0.0.1"), freeAddr(t, "127.0.0.1")},
	}
	var procs [2]*process
	for i, a := range addrs {
		procs[i] = scheduler(a.http, a.grpc)
	}
	start(t, "agent", "--data-dir", filepath.Join(dir, "agent"), "--hostname", "node-1", "--advertise", "127.0.0.4",
		"--scheduler", addrs[1].grpc+","+addrs[0].grpc, "--http", freeAddr(t, "127.0.0.4"), "--gossip", freeAddr(t, "127.0.0.4"),
		"--foreign-containers=false", "--drain", "1s").waitFor("Pancake is ready")

	const request = "dev_duo"
	t.Cleanup(func() {
		for _, c := range containers(t, request) {
			docker(t, "rm", "-f", c.ID)
		}
	})
	via := func(i int) func(string, ...string) string {
		return func(dir string, args ...string) string {
			t.Helper()
			return must(t, dir, append(args, "--scheduler", "http://"+addrs[i].http)...)
		}
	}

	// Either of them takes calls: the one that does not lead hands them on.
	specs := spec(t, "duo", 2)
	via(1)(specs, "release", "duo", "-e", "dev", "-t", "1")
	healthy(t, via(0), request, 2)
	before := ids(containers(t, request))

	leading := leader(t, addrs[0].http, addrs[1].http)
	survivor := 1 - leading
	procs[leading].stop(syscall.SIGKILL)
	killed := time.Now()
	eventually(t, time.Minute, "the other scheduler to lead", func() error {
		l, err := (&client.Client{URL: "http://" + addrs[survivor].http}).Leader(t.Context())
		if err == nil && !l.Self {
			err = fmt.Errorf("%s leads", l.HTTP)
		}
		return err
	})
	t.Logf("the other scheduler led %.1f s after kill -9 of the leader", time.Since(killed).Seconds())
	healthy(t, via(survivor), request, 2)
	if after := ids(containers(t, request)); !slices.Equal(before, after) {
		t.Errorf("containers before %v, after %v", before, after)
	}
	via(survivor)(specs, "release", "duo", "-e", "dev", "-t", "2")
	via(survivor)("", "scale", request, "3")

	procs[leading] = scheduler(addrs[leading].http, addrs[leading].grpc)
	if l := leader(t, addrs[0].http, addrs[1].http); l != survivor {
		t.Errorf("scheduler %d leads after the restart of the other, want %d", l, survivor)
	}
	healthy(t, via(leading), request, 3)
	via(leading)("", "delete", request, "--yes")
}

// leader asks the schedulers, by index, which of them leads; they must agree.
func leader(t *testing.T, addrs ...string) int {
	t.Helper()
	var lead int
	eventually(t, 30*time.Second, "the schedulers to agree on a leader", func() error {
		self := -1
		for i, addr := range addrs {
			l, err := (&client.Client{URL: "http://" + addr}).Leader(t.Context())
			if err != nil {
				return err
			}
			if l.Self && self >= 0 {
				return pancake.Errorf(pancake.Conflict, "both lead")
			}
			if l.Self {
				self = i
			}
		}
		if self < 0 {
			return errors.New("none leads")
		}
		lead = self
		return nil
	})
	return lead
}

// startEtcd runs the etcd of the distribution and returns its address.
func startEtcd(t *testing.T, dir string) string {
	t.Helper()
	path, err := exec.LookPath(filepath.Join("..", "..", "bin", "tools", "etcd"))
	if err != nil {
		path, err = exec.LookPath("etcd")
	}
	if err != nil {
		t.Fatalf("%v: \"make test-e2e\" fetches it", err)
	}
	addr, peer := freeAddr(t, "127.0.0.1"), "http://"+freeAddr(t, "127.0.0.1")
	startProgram(t, path, "--name", "e2e", "--data-dir", dir,
		"--listen-client-urls", "http://"+addr, "--advertise-client-urls", "http://"+addr,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "e2e="+peer)
	eventually(t, 30*time.Second, "etcd to answer", func() error {
		resp, err := http.Get("http://" + addr + "/version")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var v struct{ Etcdserver string }
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
			return err
		}
		t.Logf("etcd %s", v.Etcdserver)
		return nil
	})
	return addr
}
