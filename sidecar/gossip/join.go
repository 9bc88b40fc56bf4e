package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/memberlist"
)

// rejoinEvery is how often the seeds that are not members are tried again, so
// that two clusters which never met find each other.
const rejoinEvery = 30 * time.Second

// join tries the seeds until one answers, and from then on those that are not
// members, for ever. Without seeds this host waits to be joined.
func (g *Gossip) join(ctx context.Context, list *memberlist.Memberlist) error {
	if len(g.cfg.Seeds) == 0 {
		close(g.joined)
		<-ctx.Done()
		return ctx.Err()
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 500*time.Millisecond, rejoinEvery
	told, joined := false, false
	for {
		err := g.tryJoin(ctx, list)
		if !joined && err == nil {
			joined = true
			close(g.joined)
		}
		next := wait.NextBackOff()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case g.peers.alive() > 0 || err == nil:
			next = max(next, rejoinEvery)
			told = false
		case !told:
			told = true // once: the rest is the same
			g.log.WarnContext(ctx, "no seed answers; this host goes on alone and keeps trying", "seeds", g.cfg.Seeds, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(next):
		}
	}
}

// Joined is closed once a seed has told all that it knows, or there is none to ask.
func (g *Gossip) Joined() <-chan struct{} { return g.joined }

// tryJoin joins the seeds that are not members yet; it is enough that one
// answers. It returns when the attempt, which cannot be cancelled, has ended, or
// leaves it behind when ctx does: tcpTimeout ends it.
func (g *Gossip) tryJoin(ctx context.Context, list *memberlist.Memberlist) error {
	seeds, err := g.missing(ctx)
	if len(seeds) == 0 {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := list.Join(seeds)
		done <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		if err == nil {
			g.soon()
		}
		return err
	}
}

// missing returns the addresses of the seeds that are neither members nor this
// host. The error is about those that have no address.
func (g *Gossip) missing(ctx context.Context) (addresses []string, err error) {
	port := fmt.Sprint(7946)
	if g.cfg.BindPort > 0 {
		port = fmt.Sprint(g.cfg.BindPort)
	}
	for _, seed := range g.cfg.Seeds {
		host, p, splitErr := net.SplitHostPort(seed)
		if splitErr != nil {
			host, p = seed, port
		}
		lookup, cancel := context.WithTimeout(ctx, tcpTimeout)
		ips, lookupErr := net.DefaultResolver.LookupHost(lookup, host)
		cancel()
		if lookupErr != nil {
			err = errors.Join(err, fmt.Errorf("seed %s: %w", seed, lookupErr))
			continue
		}
		for _, ip := range ips {
			if addr := net.JoinHostPort(ip, p); !g.peers.isAlive(addr) {
				addresses = append(addresses, addr)
			}
		}
	}
	return addresses, err
}

// retry tries the members that were lost, one after the other, for ever: a packet
// and the begin of a connection each, and an exchange with one that answers.
func (g *Gossip) retry(ctx context.Context, list *memberlist.Memberlist) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lostEvery/2 + rand.N(lostEvery)):
		}
		node := g.peers.lost(time.Now())
		// In a slow network an answer comes too late for memberlist, and a connection does not.
		if node == nil || !g.answers(list, node) && g.knock(node.Address()) != accepted {
			continue
		}
		g.log.InfoContext(ctx, "a member that was lost answers again", "name", node.Name, "address", node.Address())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.exchange(ctx, list, node.Address())
		}()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
		}
	}
}
