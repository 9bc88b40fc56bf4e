package main

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// former is the rule set of the goavail that came before, as its source has it
// (bparli/goavail, 943ae65), as far as it decides how quick it is:
//
//   - Each agent connects to each target every interval, in a goroutine per target.
//   - It tells its peers once, when a sample differs from the target's state and the
//     counter of such samples before it equals the threshold: one sample more than that.
//   - An agent acts when a peer's message comes in, if enough peers agree and it has seen
//     the same itself.
//
// What only made it slower is left out: the distributed lock before each write, and
// listing the provider's zones and records.
type former struct {
	bind   *bind
	agents []*formerAgent
}

const (
	threshold = 3
	agree     = 1 // peers beside the agent that acts: two agents
)

type formerAgent struct {
	mu    sync.Mutex
	count [records]int
	live  [records]bool
	peers [records]map[int]bool // what other agents said last
	acted [records]bool         // what this agent made of the record
}

func newFormer(n int, b *bind) *former {
	f := &former{bind: b}
	for range n {
		a := &formerAgent{}
		for i := range records {
			a.live[i], a.acted[i], a.peers[i] = true, true, map[int]bool{}
		}
		f.agents = append(f.agents, a)
	}
	return f
}

func (f *former) run(ctx context.Context) error {
	for i := range records {
		for _, value := range []string{stable, target(i)} {
			if err := f.bind.update(ctx, oldName(i), value, true); err != nil {
				return err
			}
		}
	}
	var group errgroup.Group
	for id := range f.agents {
		for i := range records {
			group.Go(func() error { return f.watch(ctx, id, i) })
		}
	}
	return group.Wait()
}

// watch is the loop of one agent about one target.
func (f *former) watch(ctx context.Context, id, i int) error {
	time.Sleep(rand.N(interval)) // agents do not start together
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(target(i), "8080"), 10*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		live := err == nil
		if !f.sample(id, i, live) {
			continue
		}
		for peer := range f.agents {
			if peer == id {
				continue
			}
			if err := f.hear(ctx, peer, id, i, live); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// sample counts a result, and says whether the peers are to be told.
func (f *former) sample(id, i int, ok bool) bool {
	a := f.agents[id]
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok == a.live[i] {
		a.count[i] = 0
		return false
	}
	fires := a.count[i] == threshold
	a.count[i]++
	if fires {
		a.live[i], a.count[i] = ok, 0
	}
	return fires
}

// hear is the message of a peer coming in.
func (f *former) hear(ctx context.Context, id, from, i int, live bool) error {
	a := f.agents[id]
	a.mu.Lock()
	a.peers[i][from] = live
	same := 0
	for _, said := range a.peers[i] {
		if said == live {
			same++
		}
	}
	act := same >= agree && a.live[i] == live && a.acted[i] != live
	if act {
		a.acted[i] = live
	}
	a.mu.Unlock()
	if !act {
		return nil
	}
	return f.bind.update(ctx, oldName(i), target(i), live)
}
