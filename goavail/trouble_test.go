package goavail_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
)

// One set that was removed at the provider does not stop the failover of the others.
func TestOneSetCannotBeRead(t *testing.T) {
	other := dns.Key{Name: "pool", Type: dns.Pool}
	r := newRig(t, 3, 20, func(cfg *goavail.Config) {
		for i := range 5 {
			rec := cfg.Records[0]
			rec.Key = dns.Key{Name: other.Name + strings.Repeat("x", i), Type: other.Type}
			cfg.Records = append(cfg.Records, rec)
		}
		cfg.RetryMin, cfg.RetryMax = time.Hour, time.Hour
	})
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.zone.broken = map[dns.Key]bool{other: true}
	r.start(r.all()...)
	w := r.writer(r.all()...)
	r.knows(w, "t0", "up")
	r.webs[0].down()
	r.live(1, 2, 3)
	r.webs[0].up()
	r.live(0, 1, 2, 3)
	if s := r.agents[w].Status(t.Context(), false); !strings.Contains(s.Provider.Error, "there is no pool POOL") {
		t.Errorf("nobody is told: %+v", s.Provider)
	}
}

// A configuration that is new at one place does not hold up failover by the others.
func TestThoseWithAConfirmedConfigurationWrite(t *testing.T) {
	next := 0
	r := newRig(t, 3, 21, func(cfg *goavail.Config) {
		cfg.NoDryRun = false
		if next++; next == 3 {
			cfg.Rules.ChangesPerHour = 999
		}
	})
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(1, 2)
	old := r.writer(1, 2)
	if _, err := r.agents[old].Apply(t.Context(), client.Request{}); err != nil {
		t.Fatal(err)
	}
	r.start(0)
	r.await("the order is known everywhere", func() bool { return len(r.agents[0].Status(t.Context(), false).Orders) == 1 })
	r.knows(0, "t0", "up")
	r.stop(old)
	r.webs[0].down()
	r.live(1, 2, 3)
}

// Reading may take most of a lease, or more: the writer makes its change nevertheless.
func TestTheProviderIsSlow(t *testing.T) {
	r := newRig(t, 3, 22, nil)
	r.zone.slow = 1200 * time.Millisecond
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(r.all()...)
	r.knows(r.writer(r.all()...), "t0", "up")
	r.webs[0].down()
	r.live(1, 2, 3)
}
