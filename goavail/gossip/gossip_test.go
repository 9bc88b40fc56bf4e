package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake/goavail/vote"
	"github.com/pancake-stack/pancake/internal/testkit"
)

var secret = []byte("0123456789abcdef")

// end is one agent's gossip, and what it was told.
type end struct {
	*Gossip
	stop func()

	mu  sync.Mutex
	got []Message
}

func (e *end) heard(body string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.got {
		if string(m.Body) == body {
			n++
		}
	}
	return n
}

// peers lists n places on 127.30.20.x.
func peers(t *testing.T, n int) []Peer {
	_, port, _ := net.SplitHostPort(testkit.FreeAddr(t))
	var out []Peer
	for i := range n {
		out = append(out, Peer{Place: fmt.Sprint("p", i), Address: fmt.Sprintf("127.30.20.%d:%s", i+1, port)})
	}
	return out
}

func begin(t *testing.T, peers []Peer, place string, change func(*Config)) *end {
	t.Helper()
	e := &end{}
	cfg := Config{
		Place: place, Cluster: "c", Peers: peers, Keys: [][]byte{secret}, Private: key(place), Incarnation: 1,
		Receive: func(m Message) { e.mu.Lock(); defer e.mu.Unlock(); e.got = append(e.got, m) },
		State:   func() []Body { return []Body{{Ballots, []byte("state of " + place)}} },
		Rejoin:  200 * time.Millisecond,
	}
	for _, p := range peers {
		if p.Place == place {
			host, port, _ := net.SplitHostPort(p.Address)
			cfg.BindAddr = host
			cfg.BindPort, _ = strconv.Atoi(port)
		}
	}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Run returned %v", place, err)
		}
	})
	t.Cleanup(e.stop)
	return e
}

func await(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if fn() {
			return
		}
	}
	t.Fatal("never happened: " + what)
}

func TestAgentsStartWhileOthersAreDown(t *testing.T) {
	ps := peers(t, 3)
	a := begin(t, ps, "p0", nil)
	b := begin(t, ps, "p1", nil)
	await(t, "p0 and p1 told each other their state", func() bool { return a.heard("state of p1") > 0 && b.heard("state of p0") > 0 })
	a.Broadcast(Ballots, []byte("news"))
	await(t, "p1 hears news", func() bool { return b.heard("news") == 1 })
	big := make([]byte, 100_000)
	a.Broadcast(Records, big)
	await(t, "p1 hears what fits no packet", func() bool { return b.heard(string(big)) == 1 })
	c := begin(t, ps, "p2", nil) // much later
	await(t, "p2 knows all", func() bool { return c.heard("state of p0") > 0 && c.heard("state of p1") > 0 })
	c.Send("p1", Lease, []byte("for p1"))
	await(t, "p1 hears", func() bool { return b.heard("for p1") == 1 })
	if a.heard("for p1") != 0 {
		t.Error("p0 heard what was for p1")
	}
	// One restarts, under a new incarnation and at the same address.
	b.stop()
	b = begin(t, ps, "p1", func(cfg *Config) { cfg.Incarnation = 2 })
	await(t, "p1 is back", func() bool { b.Broadcast(Ballots, []byte("back")); return a.heard("back") > 0 && c.heard("back") > 0 })
	if a.Seen()["p1"] != 2 {
		t.Errorf("%v", a.Seen())
	}
}

// refusals counts the messages that were not taken for a reason.
func refusals(t *testing.T, from prometheus.Gatherer, reason string) float64 {
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "goavail_gossip_refused_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestRogues lets in nobody who should not be heard.
func TestRogues(t *testing.T) {
	ps := peers(t, 4)
	listed := append(append([]Peer{}, ps[:2]...), Peer{Place: "p2", Address: ps[2].Address, Key: public("p2")})
	metrics := prometheus.NewRegistry()
	a := begin(t, listed, "p0", func(cfg *Config) { cfg.Metrics = metrics })
	b := begin(t, listed, "p1", nil)
	await(t, "p0 knows p1", func() bool { b.Broadcast(Ballots, []byte("hello")); return a.heard("hello") > 0 })

	rogue := func(name, at string, change func(*Config)) *end {
		host, port, _ := net.SplitHostPort(at)
		return begin(t, append([]Peer{{Place: name}}, listed...), name, func(cfg *Config) {
			cfg.BindAddr = host
			cfg.BindPort, _ = strconv.Atoi(port)
			cfg.Incarnation = 1 << 60
			if change != nil {
				change(cfg)
			}
		})
	}
	say := func(r *end, text string) {
		for range 20 { // the others would have heard within the first
			r.Broadcast(Ballots, []byte(text))
			time.Sleep(20 * time.Millisecond)
		}
		if n := a.heard(text) + b.heard(text); n != 0 {
			t.Errorf("%s was heard %d times", text, n)
		}
		r.stop()
	}
	say(rogue("p3", ps[3].Address, func(cfg *Config) { cfg.Keys = [][]byte{[]byte("another key 0123")} }), "without the key")
	say(rogue("p3", ps[3].Address, func(cfg *Config) { cfg.Keys = nil }), "in clear")
	say(rogue("p3", ps[3].Address, nil), "of a place that is not configured")
	say(rogue("p2", ps[3].Address, func(cfg *Config) { cfg.Private, cfg.Peers = key("rogue"), ps }), "in the name of a place with a key")
	say(rogue("p1", ps[3].Address, func(cfg *Config) { cfg.Private = key("rogue") }), "in the name of a living place")

	// Past memberlist's doors.
	for reason, envelope := range map[string][]byte{
		"signature": seal(Message{From: "p1", Stamp: vote.Stamp{Incarnation: 1 << 61}, Kind: Ballots, Body: []byte("forged")}, "c", key("rogue")),
		"stranger":  seal(Message{From: "p9", Stamp: vote.Stamp{Incarnation: 1 << 61}, Kind: Ballots, Body: []byte("forged")}, "c", key("rogue")),
		"broken":    []byte("forged"),
		"repeated":  seal(Message{From: "p1", Stamp: vote.Stamp{Incarnation: 1, Seq: 1}, Kind: Ballots, Body: []byte("hello")}, "c", key("p1")),
	} {
		before, heard := refusals(t, metrics, reason), a.heard("hello")
		a.take(envelope)
		if refusals(t, metrics, reason) != before+1 || a.heard("forged") != 0 || a.heard("hello") > heard {
			t.Errorf("%s: taken", reason)
		}
	}
	delegate{a.Gossip}.MergeRemoteState([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01forged"), false)
	b.Broadcast(Ballots, []byte("still here"))
	await(t, "p0 still hears p1", func() bool { return a.heard("still here") == 1 })
}

func TestOldMessagesDoNotCountAfterARestart(t *testing.T) {
	ps := peers(t, 2)
	a := begin(t, ps, "p0", func(cfg *Config) { cfg.Seen = map[string]uint64{"p1": 5}; cfg.Peers[1].Key = public("p1") })
	a.take(seal(Message{From: "p1", Stamp: vote.Stamp{Incarnation: 4, Seq: 999}, Kind: Ballots, Body: []byte("old")}, "c", key("p1")))
	if a.heard("old") != 0 {
		t.Error("an old message was taken")
	}
	a.take(seal(Message{From: "p1", Stamp: vote.Stamp{Incarnation: 7, Seq: 1}, Kind: Ballots, Body: []byte("new")}, "c", key("p1")))
	if a.heard("new") != 1 {
		t.Error("a new message was refused")
	}
}

func TestConfigIsChecked(t *testing.T) {
	ok := Config{Place: "p0", Cluster: "c", Private: key("p0"), Receive: func(Message) {}, State: func() []Body { return nil }}
	if _, err := New(ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no place": func(c *Config) { c.Place = "" }, "no key": func(c *Config) { c.Private = nil },
		"short key": func(c *Config) { c.Keys = [][]byte{[]byte("short")} }, "address": func(c *Config) { c.Peers = []Peer{{Place: "p1", Address: "nowhere"}} },
		"not ours": func(c *Config) { c.Peers = []Peer{{Place: "p0", Key: public("p1")}} },
	} {
		cfg := ok
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
