package sidecar_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// secured starts three Sidecars whose gossip is encrypted with key.
func secured(t *testing.T, key []byte) []*node {
	t.Helper()
	var nodes []*node
	seed := ""
	for i := 1; i <= 3; i++ {
		nodes = append(nodes, start(t, fmt.Sprintf("n%d", i), fmt.Sprintf("127.0.0.%d", i), func(c *sidecar.Config) {
			c.GossipKeys = [][]byte{key}
			if seed != "" {
				c.Seeds = []string{seed}
			}
		}))
		seed = nodes[0].address()
	}
	for _, n := range nodes {
		eventually(t, n.name+" knows three members", func() bool { return n.alive() == 3 })
	}
	return nodes
}

// watchMembers looks until stop at what the nodes say of each other, and fails the
// test when one misses another.
func watchMembers(t *testing.T, nodes []*node) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			for looks := 0; ctx.Err() == nil; looks++ {
				members, err := n.Members(ctx)
				if ctx.Err() != nil {
					return
				}
				for _, m := range members {
					if err != nil || len(members) != len(nodes) || m.State != client.MemberAlive {
						t.Errorf("%s sees %v (%v) after %d looks", n.name, members, err, looks)
						return
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// TestGossipKeyRotation replaces the key of three Sidecars, one after the other at
// each step, while services come and drain. No member is lost, and every change
// reaches all. In the end only the new key opens the door.
func TestGossipKeyRotation(t *testing.T) {
	d := newDocker(t)
	was, is := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	nodes := secured(t, was)
	stop := watchMembers(t, nodes)
	change := func(i int) {
		t.Helper()
		id := d.run(fmt.Sprintf("127.0.0.%d", i), map[string]string{pancake.LabelAgent: fmt.Sprintf("%s/n%d", t.Name(), i), pancake.LabelServiceName: "hello"})
		all(t, nodes, fmt.Sprintf("n%d", i), id, pancake.Alive)
		if err := nodes[i-1].Drain(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		all(t, nodes, fmt.Sprintf("n%d", i), id, pancake.Draining)
	}
	for _, keys := range [][][]byte{{was, is}, {is, was}, {is}} {
		for i, n := range nodes {
			if err := n.SetGossipKeys(keys); err != nil {
				t.Fatal(err)
			}
			change(i + 1)
		}
	}
	stop()
	seed := nodes[0].address()
	join := func(name, ip string, keys ...[]byte) *node {
		return start(t, name, ip, func(c *sidecar.Config) { c.Seeds, c.GossipKeys, c.Passive = []string{seed}, keys, true })
	}
	late := join("late", "127.0.0.4", is)
	eventually(t, "who has the new key is taken in", func() bool { return late.alive() == 4 })
	for _, out := range []*node{join("old", "127.0.0.5", was), join("plain", "127.0.0.6")} {
		if n := out.alive(); n != 1 {
			t.Errorf("%s knows %d members", out.name, n)
		}
	}
	if n := nodes[0].alive(); n != 4 {
		t.Errorf("n1 knows %d members", n)
	}
}

func TestSetGossipKeysRefuses(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	for name, tc := range map[string]struct {
		has, gets [][]byte
		want      pancake.Kind
	}{
		"in clear":  {nil, [][]byte{key}, pancake.Conflict},
		"none":      {[][]byte{key}, nil, pancake.Invalid},
		"too short": {[][]byte{key}, [][]byte{key[:5]}, pancake.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, "n1", "127.0.0.1", func(c *sidecar.Config) { c.Passive, c.GossipKeys = true, tc.has })
			if err := n.SetGossipKeys(tc.gets); pancake.KindOf(err) != tc.want {
				t.Errorf("got %v", err)
			}
		})
	}
}
