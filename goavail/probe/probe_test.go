package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fake makes a Prober whose checks are functions of the test.
func fake(cfg Config, checks map[string]func(context.Context) error, c Check) *Prober {
	p := New(cfg)
	for name, fn := range checks {
		p.targets[name] = &runner{Target: Target{Name: name, Check: c.WithDefaults()}, begin: background(fn)}
	}
	p.changed <- struct{}{}
	return p
}

func start(t *testing.T, p *Prober) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestScheduleKeepsTheIntervalAndRechecksSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		started := map[string][]time.Time{}
		seen := func(r Result) bool {
			mu.Lock()
			defer mu.Unlock()
			started[r.Target] = append(started[r.Target], r.Started)
			return r.Err != nil
		}
		p := fake(Config{Observe: seen}, map[string]func(context.Context) error{
			"well": func(context.Context) error { return nil },
			"sick": func(context.Context) error { return errors.New("no") },
		}, Check{Interval: 10 * time.Second, Recheck: time.Second})
		stop := start(t, p)
		time.Sleep(1000 * time.Second)
		stop()
		if n := len(started["well"]); n < 95 || n > 105 {
			t.Errorf("%d probes of one per 10 s", n)
		}
		if n := len(started["sick"]); n < 985 || n > 1000 {
			t.Errorf("%d probes of one per second", n)
		}
		gaps := map[time.Duration]bool{}
		for i, at := range started["well"][1:] {
			gap := at.Sub(started["well"][i])
			if gap < 9*time.Second-together || gap > 11*time.Second+together {
				t.Errorf("a gap of %s", gap)
			}
			gaps[gap] = true
		}
		if len(gaps) < 20 {
			t.Errorf("no jitter: %d different gaps", len(gaps))
		}
	})
}

func TestConcurrencyIsBoundedAndNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, count atomic.Int32
		checks := map[string]func(context.Context) error{}
		for i := range 50 {
			checks[fmt.Sprint(i)] = func(ctx context.Context) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				time.Sleep(time.Second)
				return nil
			}
		}
		p := fake(Config{Observe: func(Result) bool { count.Add(1); return false }, Concurrency: 10}, checks, Check{Interval: time.Second})
		stop := start(t, p)
		time.Sleep(100 * time.Second)
		stop()
		if most.Load() != 10 {
			t.Errorf("%d at once, 10 are allowed", most.Load())
		}
		if n := count.Load(); n < 900 || n > 1000 {
			t.Errorf("%d probes of 10 per second", n)
		}
	})
}

func TestSetReplacesTargets(t *testing.T) {
	_, port := listen(t, "127.30.1.7")
	results := make(chan Result, 1000)
	p := New(Config{Observe: func(r Result) bool {
		select {
		case results <- r:
		default:
		}
		return false
	}})
	c := Check{Address: "127.30.1.7", Port: port, Interval: 100 * time.Millisecond}
	if err := p.Set([]Target{{"a", c}, {"b", c}}); err != nil {
		t.Fatal(err)
	}
	stop := start(t, p)
	defer stop()
	await := func(names ...string) {
		t.Helper()
		seen := map[string]bool{}
		for len(seen) < len(names) {
			select {
			case r := <-results:
				if r.Err != nil {
					t.Fatalf("%+v", r)
				}
				seen[r.Target] = true
			case <-time.After(10 * time.Second):
				t.Fatalf("saw %v, want %v", seen, names)
			}
		}
	}
	await("a", "b")
	if err := p.Set([]Target{{"b", c}, {"c", Check{}}}); err == nil {
		t.Error("took a check without an address")
	}
	if err := p.Set([]Target{{"b", c}, {"c", c}}); err != nil {
		t.Fatal(err)
	}
	await("b", "c")
	for len(results) > 0 {
		<-results
	}
	await("b", "c")
	for len(results) > 0 {
		if r := <-results; r.Target == "a" {
			t.Error("a target that was taken away is still probed")
		}
	}
}

// TestMain lets the test binary serve as the target of the benchmark, in a process of its own.
func TestMain(m *testing.M) {
	if addr := os.Getenv("PROBE_TEST_TARGET"); addr != "" {
		accept(addr)
		return
	}
	os.Exit(m.Run())
}

func accept(addr string) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return
	}
	for {
		if conn, err := ln.Accept(); err == nil {
			conn.Close()
		}
	}
}

// BenchmarkThousandTargets probes 1,000 targets over TCP, each once a second, for as long as
// the benchmark runs, and reports the share of one core that this takes. On loopback
// the kernel's work for the far end is done by, and counted to, who sends.
func BenchmarkThousandTargets(b *testing.B) {
	b.Run("tcp", func(b *testing.B) { thousand(b, Check{Kind: TCP, Address: "127.30.1.8"}) })
	b.Run("icmp", func(b *testing.B) { thousand(b, Check{Kind: ICMP, Address: "127.30.1.8"}) })
}

func thousand(b *testing.B, c Check) {
	ln, port := listen(b, "127.30.1.8")
	ln.Close()
	target := exec.Command(os.Args[0])
	target.Env = append(os.Environ(), fmt.Sprint("PROBE_TEST_TARGET=127.30.1.8:", port))
	if err := target.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = target.Process.Kill(); _ = target.Wait() }()
	for range 100 {
		if conn, err := net.Dial("tcp", fmt.Sprint("127.30.1.8:", port)); err == nil {
			conn.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	var n, failed atomic.Int64
	p := New(Config{Observe: func(r Result) bool {
		n.Add(1)
		if r.Err != nil {
			failed.Add(1)
		}
		return false
	}})
	var targets []Target
	c.Port, c.Interval = port, time.Second
	for i := range 1000 {
		targets = append(targets, Target{fmt.Sprint(i), c})
	}
	if err := p.Set(targets); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	begin, before := time.Now(), cpu()
	go func() { done <- p.Run(ctx) }()
	for b.Loop() {
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	<-done
	b.ReportMetric(100*(cpu()-before).Seconds()/time.Since(begin).Seconds(), "%core")
	b.ReportMetric(float64(n.Load())/time.Since(begin).Seconds(), "probes/s")
	b.ReportMetric(float64(failed.Load()), "failed")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
