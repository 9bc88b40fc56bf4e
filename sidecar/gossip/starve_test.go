package gossip_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake/sidecar/gossip"
	"github.com/pancake-stack/pancake/sidecar/gossip/simnet"
)

// quota gives this process a share of one CPU, through a control group of its own
// (version 1, as root), until the function that it returns is called.
func quota(t *testing.T, percent int) (lift func()) {
	t.Helper()
	const root = "/sys/fs/cgroup/cpu"
	group := filepath.Join(root, fmt.Sprintf("pancake-starve-%d", os.Getpid()))
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(group, 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(group, "cpu.cfs_period_us"), "100000")
	write(filepath.Join(group, "cpu.cfs_quota_us"), strconv.Itoa(percent*1000))
	write(filepath.Join(group, "cgroup.procs"), strconv.Itoa(os.Getpid()))
	return func() {
		write(filepath.Join(root, "cgroup.procs"), strconv.Itoa(os.Getpid()))
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// leaves counts what a memberlist of its own says.
type leaves struct{ n *atomic.Int64 }

func (l leaves) NotifyJoin(*memberlist.Node)   {}
func (l leaves) NotifyLeave(*memberlist.Node)  { l.n.Add(1) }
func (l leaves) NotifyUpdate(*memberlist.Node) {}

// TestStarved gives n nodes in this process a share of one CPU, for a minute: how often
// is a node that lives believed dead?
// It takes minutes and needs root, so it runs only if asked:
//
//	PANCAKE_STARVE_NODES=200 PANCAKE_STARVE_PERCENT=10 go test -run TestStarved -v ./sidecar/gossip
//
// PANCAKE_STARVE_PLAIN=1 has memberlist's own defaults instead.
func TestStarved(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("PANCAKE_STARVE_NODES"))
	if err != nil {
		t.Skip("PANCAKE_STARVE_NODES is not set: it takes minutes")
	}
	percent, err := strconv.Atoi(os.Getenv("PANCAKE_STARVE_PERCENT"))
	if err != nil {
		t.Fatal(err)
	}
	const starving = time.Minute
	measure := func(name string, start func() (wrong func() int64, alive func() bool, stop func())) int64 {
		wrong, alive, stop := start()
		defer stop()
		began := time.Now()
		for !alive() {
			if time.Since(began) > 2*time.Minute {
				t.Fatalf("%s: not all know each other", name)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		used := cpu()
		time.Sleep(10 * time.Second)
		idle := (cpu() - used).Seconds() / 10 * 100
		before := wrong()
		lift := quota(t, percent)
		time.Sleep(starving)
		lift()
		time.Sleep(10 * time.Second)
		leaves := wrong() - before
		t.Logf("%s: %d nodes, %.1f %% of a CPU at rest, %.3f %% each; with %d %% for %s: %d false leaves (before: %d)",
			name, n, idle, idle/float64(n), percent, starving, leaves, before)
		return leaves
	}
	if os.Getenv("PANCAKE_STARVE_PLAIN") != "" {
		measure("memberlist", func() (func() int64, func() bool, func()) { return plainNodes(t, n) })
		return
	}
	if ours := measure("pancake", func() (func() int64, func() bool, func()) { return ourNodes(t, n) }); ours > 0 {
		t.Errorf("%d false leaves", ours)
	}
}

func address(i int) string { return fmt.Sprintf("127.20.%d.%d", i/250, i%250+1) }

func plainNodes(t *testing.T, n int) (wrong func() int64, alive func() bool, stop func()) {
	var count atomic.Int64
	var all []*memberlist.Memberlist
	for i := range n {
		c := memberlist.DefaultLANConfig()
		c.Name, c.BindAddr, c.BindPort, c.LogOutput, c.Events = fmt.Sprintf("node-%07d", i), address(i), 7946, io.Discard, leaves{&count}
		c.AdvertisePort = 7946
		list, err := memberlist.Create(c)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list)
		if i > 0 {
			if _, err := list.Join([]string{net.JoinHostPort(address(0), "7946")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return count.Load, func() bool {
			for _, l := range all {
				if l.NumMembers() != n {
					return false
				}
			}
			return true
		}, func() {
			for _, l := range all {
				go l.Shutdown() // which may not end, after so much
			}
		}
}

func ourNodes(t *testing.T, n int) (wrong func() int64, alive func() bool, stop func()) {
	var all []*simnet.Host
	for i := range n {
		h, err := simnet.Begin(fmt.Sprintf("node-%07d", i), 0, func(c *gossip.Config) {
			c.BindAddr, c.BindPort = address(i), 7946
			if os.Getenv("PANCAKE_TEST_DEBUG") != "" {
				c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("host", i)
			}
			if i > 0 {
				c.Seeds = []string{net.JoinHostPort(address(0), "7946")}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		<-h.Joined()
		for s := range 10 {
			h.Start(fmt.Sprintf("%06x%06x", i, s), nil)
		}
		h.Settle()
		all = append(all, h)
	}
	return func() (gone int64) {
			for _, h := range all {
				gone += h.Gone()
			}
			return gone
		}, func() bool {
			digest := all[0].Snapshot().Digest
			for _, h := range all {
				if h.Alive() != n || h.Snapshot().Digest != digest {
					return false
				}
			}
			return true
		}, func() {
			for _, h := range all {
				h.Kill()
			}
		}
}
