package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/rfc2136"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/vote"
)

const (
	places   = 5
	records  = 10 // that are watched at the same time
	deaths   = 5  // of the target of each
	interval = time.Second
	zone     = "bench.test"
	port     = 8080
	stable   = "127.32.1.250" // a target that never dies
)

func target(i int) string  { return fmt.Sprintf("127.32.1.%d", i+1) }
func newName(i int) string { return fmt.Sprintf("new%d.%s", i, zone) }
func oldName(i int) string { return fmt.Sprintf("old%d.%s", i, zone) }

// failovers lets targets die, and returns how long it took each time until the name
// server answered without them, by our doing and by the old goavail's.
func failovers(ctx context.Context, out io.Writer) (ours, old []time.Duration, err error) {
	dir, err := os.MkdirTemp("", "bench-goavail-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bind, err := startBind(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	defer bind.stop()
	if err := serveAt(stable).up(); err != nil {
		return nil, nil, err
	}
	targets := make([]*server, records)
	for i := range targets {
		targets[i] = serveAt(target(i))
		if err := targets[i].up(); err != nil {
			return nil, nil, err
		}
	}
	running, stop := context.WithCancel(ctx)
	var agents errgroup.Group
	for i := range places {
		agent, err := newAgent(i, dir, bind)
		if err != nil {
			stop()
			return nil, nil, err
		}
		agents.Go(func() error { return agent.Run(running) })
	}
	// The old one's three agents: more only slowed it down, for each told all others in turn.
	former := newFormer(3, bind)
	agents.Go(func() error { return former.run(running) })
	defer func() {
		stop()
		if waitErr := agents.Wait(); !errors.Is(waitErr, context.Canceled) {
			err = errors.Join(err, waitErr)
		}
	}()
	var mu sync.Mutex
	var all errgroup.Group
	for i := range records {
		all.Go(func() error {
			for range deaths {
				a, b, err := die(ctx, bind, targets[i], i)
				if err != nil {
					return err
				}
				mu.Lock()
				ours, old = append(ours, a), append(old, b)
				fmt.Fprintf(out, "\r  %d of %d deaths", len(ours), records*deaths)
				mu.Unlock()
			}
			return nil
		})
	}
	err = all.Wait()
	fmt.Fprintln(out)
	return ours, old, err
}

// die waits until both records hold the target, kills it at a random moment, measures, and
// brings it back.
func die(ctx context.Context, bind *bind, t *server, i int) (ours, old time.Duration, err error) {
	if _, err := bind.until(ctx, newName(i), t.ip, true); err != nil {
		return 0, 0, err
	}
	if _, err := bind.until(ctx, oldName(i), t.ip, true); err != nil {
		return 0, 0, err
	}
	time.Sleep(interval + rand.N(2*interval))
	t.down()
	begin := time.Now()
	var both errgroup.Group
	both.Go(func() error {
		at, err := bind.until(ctx, newName(i), t.ip, false)
		ours = at.Sub(begin)
		return err
	})
	both.Go(func() error {
		at, err := bind.until(ctx, oldName(i), t.ip, false)
		old = at.Sub(begin)
		return err
	})
	if err := both.Wait(); err != nil {
		return 0, 0, err
	}
	return ours, old, t.up()
}

func newAgent(i int, dir string, b *bind) (*goavail.Agent, error) {
	provider, err := rfc2136.New(rfc2136.Config{Server: b.addr, Key: rfc2136.Key{Name: "goavail", Secret: secret}, Zones: []string{zone}})
	if err != nil {
		return nil, err
	}
	check := func(address string) probe.Check {
		return probe.Check{Kind: probe.TCP, Address: address, Port: port, Interval: interval, Timeout: interval, Fall: 3, Rise: 3}
	}
	cfg := goavail.Config{
		Cluster: "bench", Place: fmt.Sprintf("p%d", i), Provider: provider, NoDryRun: true, DataDir: filepath.Join(dir, fmt.Sprintf("p%d", i)),
		BindAddr: fmt.Sprintf("127.32.0.%d", i+1), HTTPAddr: fmt.Sprintf("127.32.0.%d:7950", i+1),
		Targets: []goavail.Target{{Name: "stable", Check: check(stable)}},
		// Every target dies on purpose, again and again: what stops that is off.
		Rules: vote.Rules{PanicPercent: 100, BreakerPercent: 100, ChangesPerHour: 100_000, Damping: vote.Damping{HalfLife: -1}},
	}
	for j := range places {
		cfg.Places = append(cfg.Places, goavail.Place{Name: fmt.Sprintf("p%d", j), Region: fmt.Sprintf("r%d", j), Address: fmt.Sprintf("127.32.0.%d:7951", j+1)})
	}
	for j := range records {
		name := fmt.Sprintf("t%d", j)
		cfg.Targets = append(cfg.Targets, goavail.Target{Name: name, Check: check(target(j))})
		cfg.Records = append(cfg.Records, goavail.Record{
			Key: dns.Key{Name: newName(j), Type: dns.A}, TTL: 5, Members: []goavail.Member{{Target: name}, {Target: "stable"}},
		})
	}
	return goavail.New(cfg)
}

// server is a target.
type server struct {
	ip string
	ln net.Listener
}

func serveAt(ip string) *server { return &server{ip: ip} }

func (s *server) up() (err error) {
	s.ln, err = net.Listen("tcp", fmt.Sprintf("%s:%d", s.ip, port))
	if err != nil {
		return err
	}
	go func(ln net.Listener) { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}(s.ln)
	return nil
}

func (s *server) down() { _ = s.ln.Close() }

// until asks the name server until a name holds a value, or does not, and returns when
// that was.
func (b *bind) until(ctx context.Context, name, value string, there bool) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := mdns.Client{Timeout: time.Second}
	for ctx.Err() == nil {
		answer, _, err := client.ExchangeContext(ctx, new(mdns.Msg).SetQuestion(name+".", mdns.TypeA), b.addr)
		if err == nil && (answer.Rcode == mdns.RcodeSuccess || answer.Rcode == mdns.RcodeNameError) {
			has := slices.ContainsFunc(answer.Answer, func(rr mdns.RR) bool { return strings.HasSuffix(rr.String(), "\t"+value) })
			if has == there {
				return time.Now(), nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Time{}, fmt.Errorf("%s: %s there: %v, was never answered", name, value, there)
}
