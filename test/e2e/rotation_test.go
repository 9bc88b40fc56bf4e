//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// secured is a scheduler and two agents on loopback, secure all the same.
type secured struct {
	t      *testing.T
	home   string // of the operator
	url    string
	agents []*process
	sides  []string // addresses of the agents' Sidecars

	trusted atomic.Pointer[identity.Bundle]
}

// agentIPs are where they are; each names its data directory, too.
var agentIPs = []string{"127.0.0.6", "127.0.0.7"}

func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{t: t, home: t.TempDir()}
	httpAddr, grpcAddr := freeAddr(t, "127.0.0.1"), freeAddr(t, "127.0.0.1")
	s.url = "https://" + httpAddr
	data := filepath.Join(s.home, "scheduler")
	scheduler := start(t, "scheduler", "--secure", "--data-dir", data, "--http", httpAddr, "--grpc", grpcAddr,
		"--etcd-listen", freeAddr(t, "127.0.0.1"), "--etcd-peer-listen", freeAddr(t, "127.0.0.1"),
		"--api-rate", "0") // the load is all from one address
	scheduler.waitFor("Pancake is ready")
	s.operator(loginArgs(t, scheduler, data, s.url)...)
	s.fetchTrust()
	token := strings.TrimSpace(s.operator("token", "create", "--agent", "--uses", "2"))
	gossip := []string{freeAddr(t, agentIPs[0]), freeAddr(t, agentIPs[1])}
	for i, ip := range agentIPs {
		s.sides = append(s.sides, freeAddr(t, "127.0.0.1"))
		p := start(t, "agent", "--secure", "--join", token, "--data-dir", filepath.Join(s.home, ip), "--hostname", "node-"+ip, "--advertise", ip,
			"--scheduler", grpcAddr, "--http", s.sides[i], "--gossip", gossip[i], "--seeds", gossip[1-i],
			"--foreign-containers=false", "--drain", "1s", "--resources", "cpus:1;mem:512")
		p.waitFor("Pancake is ready")
		s.agents = append(s.agents, p)
	}
	return s
}

// as runs the CLI for somebody, with the token if there is one, and returns what
// it said and its exit code.
func (s *secured) as(token, dir string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	vars := []string{"HOME=" + s.home, "XDG_CONFIG_HOME="}
	if token != "" {
		vars = append(vars, "PANCAKE_TOKEN="+token)
	}
	return runCommand(s.t, dir, append([]string{binary(s.t, "pancake")}, args...), vars...)
}

// operator runs the CLI for who is logged in, and expects success.
func (s *secured) operator(args ...string) string {
	s.t.Helper()
	out, errs, code := s.as("", s.home, args...)
	if code != 0 {
		s.t.Fatalf("pancake %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// fetchTrust reads which CAs are trusted now, for the clients of the test.
func (s *secured) fetchTrust() {
	s.t.Helper()
	bundle, err := identity.ParseBundlePEM([]byte(s.operator("ca", "show", "--pem")))
	if err != nil {
		s.t.Fatal(err)
	}
	s.trusted.Store(&bundle)
}

// client is one of the API. With fresh, each call makes a connection of its own.
func (s *secured) client(token string, fresh bool) *client.Client {
	expect := identity.Expect{Kinds: []identity.Kind{identity.Scheduler}}
	cfg := identity.TrustTLS(*s.trusted.Load(), expect)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		return identity.TrustTLS(*s.trusted.Load(), expect).VerifyConnection(cs)
	}
	c := &client.Client{URL: s.url, Token: token, HTTP: client.NewHTTP(cfg)}
	c.HTTP.Transport.(*http.Transport).DisableKeepAlives = fresh
	return c
}

// flow is what goes on while certificates are replaced.
type flow struct {
	sent, failed, dropped atomic.Int64
	mu                    sync.Mutex
	first                 error
	cancel                context.CancelFunc
	wg                    sync.WaitGroup
}

func (f *flow) note(count *atomic.Int64, err error) {
	count.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		f.first = fmt.Errorf("at %s: %w", time.Now().Format("15:04:05.000"), err)
	}
}

// startFlow has clients call the API, on old connections and on new ones, and
// keeps streams open: of events, and of a task's log, which comes over the agent link.
func (s *secured) startFlow(token, task string) *flow {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	f := &flow{cancel: cancel}
	for i := range 4 {
		c := s.client(token, i%2 == 1)
		f.wg.Go(func() {
			for ctx.Err() == nil {
				_, err := c.Requests(context.WithoutCancel(ctx))
				f.sent.Add(1)
				if err != nil {
					f.note(&f.failed, err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	for _, stream := range []func(c *client.Client) error{
		func(c *client.Client) error {
			return c.Events(ctx, "", 0, func(client.Event) error { return nil })
		},
		func(c *client.Client) error {
			return c.Logs(ctx, task, 1, true, func(client.LogLine) error { return nil })
		},
	} {
		c := s.client(token, false)
		f.wg.Go(func() {
			if err := stream(c); ctx.Err() == nil {
				f.note(&f.dropped, fmt.Errorf("a stream ended: %w", cmp.Or(err, io.EOF)))
			}
		})
	}
	s.t.Cleanup(f.stop)
	return f
}

func (f *flow) stop() {
	f.cancel()
	f.wg.Wait()
}

// sessions counts how often the agents have registered.
func (s *secured) sessions() int {
	n := 0
	for _, p := range s.agents {
		n += strings.Count(p.out.String(), "registered with the scheduler")
	}
	return n
}

// members waits until each Sidecar knows both hosts.
func (s *secured) members() {
	s.t.Helper()
	for _, addr := range s.sides {
		eventually(s.t, time.Minute, "both members in "+addr, func() error {
			resp, err := http.Get("http://" + addr + "/api/services.json")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var view struct{ ClusterMembers map[string]any }
			if err := json.NewDecoder(resp.Body).Decode(&view); err != nil {
				return err
			}
			if len(view.ClusterMembers) != 2 {
				return fmt.Errorf("members: %v", view.ClusterMembers)
			}
			return nil
		})
	}
}

// certified waits until each agent has a certificate of a CA that is trusted now, and
// trusts no other CA.
func (s *secured) certified() {
	s.t.Helper()
	for _, ip := range agentIPs {
		eventually(s.t, time.Minute, "a certificate on "+ip, func() error {
			leaf, err := identity.Files{Dir: filepath.Join(s.home, ip, "identity")}.Load()
			if err != nil {
				return err
			}
			if !leaf.Bundle.Equal(*s.trusted.Load()) {
				return fmt.Errorf("it trusts %v, the scheduler %v", leaf.Bundle.Fingerprints(), s.trustedNow())
			}
			_, err = leaf.Check(time.Now())
			return err
		})
	}
}

func TestRotation(t *testing.T) {
	removeContainers(t, "dev_turn")
	s := newSecured(t)
	dir := spec(t, "turn", 2)
	if out, errs, code := s.as("", dir, "release", "turn", "-e", "dev", "-t", "1"); code != 0 {
		t.Fatalf("release: %s%s", out, errs)
	}
	text, err := os.ReadFile(filepath.Join(s.home, "scheduler", "operator.token"))
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(text))
	tasks, err := s.client(token, true).Tasks(t.Context(), "dev_turn", false)
	if err != nil || len(tasks) != 2 {
		t.Fatalf("tasks: %v, %v", tasks, err)
	}
	s.members()
	before, keys, sessions := s.trustedNow(), s.gossipKeys(), s.sessions()
	s.certified()
	f := s.startFlow(token, tasks[0].ID)

	for _, step := range [][]string{{}, {"--continue"}, {"--continue"}} {
		s.operator(append([]string{"ca", "rotate"}, step...)...)
		s.fetchTrust()
		time.Sleep(2 * time.Second) // traffic in each phase
		s.operator(append([]string{"gossip-key", "rotate"}, step...)...)
		time.Sleep(2 * time.Second)
	}
	s.members()
	f.stop()
	t.Logf("requests sent %d, failed %d; streams dropped %d; sessions of agents before and after %d, %d",
		f.sent.Load(), f.failed.Load(), f.dropped.Load(), sessions, s.sessions())
	if f.failed.Load() > 0 || f.dropped.Load() > 0 || s.sessions() != sessions {
		t.Errorf("first failure: %v", f.first)
	}
	s.certified() // by the new CA, which alone is trusted now
	if after := s.gossipKeys(); len(after) != 1 || slices.Contains(keys, after[0]) {
		t.Errorf("gossip keys before %v, after %v", keys, after)
	}
	if after := s.trustedNow(); after == before || strings.Contains(after, before) {
		t.Errorf("CAs before %s, after %s", before, after)
	}
	healthy(t, func(dir string, args ...string) string { return s.operator(args...) }, "dev_turn", 2)
}

// trustedNow are the fingerprints of the CAs that are trusted.
func (s *secured) trustedNow() string { return fmt.Sprint(s.trusted.Load().Fingerprints()) }

// gossipKeys are the ids of the gossip keys there are now.
func (s *secured) gossipKeys() []string {
	s.t.Helper()
	var view client.GossipView
	if err := json.Unmarshal([]byte(s.operator("gossip-key", "show", "-o", "json")), &view); err != nil {
		s.t.Fatal(err)
	}
	return view.KeyIDs
}
