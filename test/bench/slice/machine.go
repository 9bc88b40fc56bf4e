package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// machine is a "pancake dev" of the benchmark's own.
type machine struct {
	dir, http, ingress string
	client             *client.Client
}

func startMachine(ctx context.Context) (*machine, error) {
	dir, err := os.MkdirTemp("", "pancake-bench-")
	if err != nil {
		return nil, err
	}
	var addrs [9]string
	for i := range addrs {
		if addrs[i], err = freeAddr(); err != nil {
			return nil, err
		}
	}
	m := &machine{dir: dir, http: addrs[0], ingress: addrs[1], client: &client.Client{URL: "http://" + addrs[0]}}
	out, err := exec.CommandContext(ctx, program("pancake"), "dev", "--detach", "--data-dir", m.data(),
		"--http", m.http, "--ingress-http", m.ingress, "--grpc", addrs[2], "--sidecar-http", addrs[3], "--gossip", addrs[4],
		"--etcd-listen", addrs[5], "--etcd-peer-listen", addrs[6], "--ingress-https", addrs[7], "--ingress-admin", addrs[8]).CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pancake dev: %w\n%s", err, out), m.stop(context.WithoutCancel(ctx)))
	}
	return m, nil
}

func (m *machine) data() string { return filepath.Join(m.dir, "data") }

// stop removes the machine, its containers and its data.
func (m *machine) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program("pancake"), "dev", "down", "--purge", "--data-dir", m.data()).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("pancake dev down: %w\n%s", err, out)
	}
	return errors.Join(err, os.RemoveAll(m.dir))
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

const specText = `nmesos_version: '3.0.7'
common:
  resources: {cpus: 0.1, memoryMb: 32, instances: 1}
  container:
    image: pancake-hello
    ports: [8080]
    labels: {ServiceName: %s}
  singularity: {healthcheckUri: /healthz}
environments:
  dev: {}
`

// sample is one release, hop by hop.
type sample struct {
	total   time.Duration // from the start of the CLI to the first 200
	submit  time.Duration // CLI start to the deploy's acceptance
	plan    time.Duration // by the scheduler's own clock
	commit  time.Duration
	launch  time.Duration // task created to executor's TASK_STARTING
	start   time.Duration // TASK_STARTING to the container's start
	healthy time.Duration // start to HEALTHY at the executor
	routed  time.Duration // HEALTHY to the first 200
}

// release runs one release of a new service, measures it, and deletes it.
func (m *machine) release(ctx context.Context, service string) (sample, error) {
	var s sample
	spec := filepath.Join(m.dir, service+".yml")
	if err := os.WriteFile(spec, fmt.Appendf(nil, specText, service), 0o600); err != nil {
		return s, err
	}
	before, err := m.timings(ctx)
	if err != nil {
		return s, err
	}
	cli := exec.CommandContext(ctx, program("pancake"), "release", spec, "-e", "dev", "-t", "1", "--scheduler", m.client.URL)
	watch := m.watch(ctx, pancake.RequestID("dev", service))
	begin := time.Now()
	answered := make(chan time.Time, 1)
	go func() { answered <- m.firstAnswer(ctx, service+".localhost") }()
	if out, err := cli.CombinedOutput(); err != nil {
		return s, fmt.Errorf("release %s: %w\n%s", service, err, out)
	}
	first := <-answered
	if first.IsZero() {
		return s, fmt.Errorf("%s was never routed", service)
	}
	marks, err := watch()
	if err != nil {
		return s, err
	}
	after, err := m.timings(ctx)
	if err != nil {
		return s, err
	}
	s = sample{
		total: first.Sub(begin), submit: marks.accepted.Sub(begin),
		plan: after.plan - before.plan, commit: after.commit - before.commit,
		launch: marks.starting.Sub(marks.created), start: marks.running.Sub(marks.starting),
		healthy: marks.healthy.Sub(marks.running), routed: max(0, first.Sub(marks.healthy)),
	}
	return s, m.forget(ctx, pancake.RequestID("dev", service))
}

// forget deletes a request and waits until it is gone, so that rounds do not disturb each other.
func (m *machine) forget(ctx context.Context, id string) error {
	if err := m.client.Delete(ctx, id); err != nil {
		return err
	}
	for range 600 {
		if _, err := m.client.Request(ctx, id); pancake.KindOf(err) == pancake.NotFound {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s was not gone after 30 s", id)
}

// firstAnswer polls Traefik until it answers 200 for host; zero when it never does.
func (m *machine) firstAnswer(ctx context.Context, host string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.ingress+"/", nil)
		if err != nil {
			return time.Time{}
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Now()
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Time{}
}

// marks are the times at which a release passed its hops.
type marks struct {
	accepted, created, starting, running, healthy time.Time
}

func (mk marks) complete() bool { return !mk.healthy.IsZero() }

// watch collects the marks of a request's first task. The function that it
// returns waits until they are complete.
func (m *machine) watch(ctx context.Context, request string) func() (marks, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	var mk marks
	done := make(chan error, 1)
	go func() {
		complete := errors.New("complete")
		err := m.client.Events(ctx, request, 0, func(e client.Event) error {
			if e.Body == nil {
				return nil
			}
			if e.Body.Deploy != nil && mk.accepted.IsZero() {
				mk.accepted = e.Body.Deploy.Created
			}
			if e.Body.Task != nil {
				mk.note(*e.Body.Task)
			}
			if mk.complete() {
				return complete
			}
			return nil
		})
		if errors.Is(err, complete) {
			err = nil
		}
		done <- err
	}()
	return func() (marks, error) {
		defer cancel()
		return mk, <-done
	}
}

func (mk *marks) note(t pancake.Task) {
	mk.created = t.Created
	switch {
	case t.Status.State == pancake.TaskStarting && mk.starting.IsZero():
		mk.starting = t.Status.Updated
	case t.Status.State == pancake.TaskRunning && mk.running.IsZero():
		mk.running = t.Status.Updated
	}
	if t.Status.Health == pancake.Healthy && mk.healthy.IsZero() {
		mk.healthy = t.Status.Updated
	}
}

// timings are sums that the scheduler counts on /metrics.
type timings struct{ plan, commit time.Duration }

func (m *machine) timings(ctx context.Context) (timings, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.http+"/metrics", nil)
	if err != nil {
		return timings{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return timings{}, err
	}
	defer resp.Body.Close()
	found := map[string]time.Duration{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && strings.HasSuffix(name, "_seconds_sum") {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return timings{}, fmt.Errorf("metric %s: %w", name, err)
			}
			found[name] = time.Duration(seconds * float64(time.Second))
		}
	}
	plan, ok1 := found["pancake_scheduler_plan_seconds_sum"]
	commit, ok2 := found["pancake_scheduler_commit_seconds_sum"]
	if !ok1 || !ok2 {
		return timings{}, errors.Join(errors.New("the scheduler's metrics have no plan and commit seconds"), lines.Err())
	}
	return timings{plan, commit}, nil
}
