package guard

import (
	"fmt"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	l, now := newLimits(2, 3), time.Now()
	for i := range 3 {
		if wait := l.take("a", now); wait != 0 {
			t.Fatalf("call %d has to wait %s", i, wait)
		}
	}
	for range 5 { // those that are refused do not count
		if wait := l.take("a", now); wait != 500*time.Millisecond {
			t.Fatalf("one too many waits %s", wait)
		}
	}
	if wait := l.take("b", now); wait != 0 {
		t.Errorf("another client waits %s", wait)
	}
	if wait := l.take("a", now.Add(500*time.Millisecond)); wait != 0 {
		t.Errorf("after the wait it has to wait %s", wait)
	}
	none := newLimits(-1, 1)
	for range 100 {
		if none.take("a", now) != 0 || none.size() != 0 {
			t.Fatal("no limit counts")
		}
	}
}

func TestLimitsRememberFewClients(t *testing.T) {
	l, now := newLimits(1, 1), time.Now()
	l.take("first", now)
	l.take("busy", now)
	for i := range maxBuckets - 1 {
		l.take(fmt.Sprint("stranger ", i), now)
		if l.take("busy", now) == 0 {
			t.Fatal("a client that goes on calling is forgotten")
		}
	}
	if n := l.size(); n != maxBuckets {
		t.Errorf("%d clients are remembered", n)
	}
	if l.take("first", now) != 0 {
		t.Error("the one that called least lately is remembered")
	}
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1": "address 10.0.0.1", "::ffff:10.0.0.1": "address 10.0.0.1", "2001:db8:1:2:3::4": "address 2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::": "address 2001:db8:1:2::/64", "fe80::1%eth0": "address fe80::/64", "": "address ",
	} {
		if got := network(addr); got != want {
			t.Errorf("%q: %q, want %q", addr, got, want)
		}
	}
}
