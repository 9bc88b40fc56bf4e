package goavail_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
)

// writers counts how often a place became the writer since a time, as all places know.
func (r *rig) writers(since time.Time) int {
	var most int
	for i := range r.agents {
		n := 0
		for _, e := range r.entries(i, client.KindWriter) {
			if e.At.After(since) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// troubled waits until all these places say that they cannot use the provider.
func (r *rig) troubled(asked int, places ...int) {
	r.t.Helper()
	r.await("trouble is known", func() bool {
		s := r.agents[asked].Status(r.t.Context(), false)
		return !slices.ContainsFunc(places, func(i int) bool { return s.Places[i].Trouble == "" })
	})
}

// While the provider fails everywhere, the writership does not wander from place to place:
// each tries, and then the one that has it keeps it.
func TestAnOutageForAllMovesTheWriterOnceRound(t *testing.T) {
	for name, fail := range map[string]func(*zone, error){
		"it fails":                       (*zone).failing,
		"it can be read but not changed": func(z *zone, err error) { z.refusing("", nil, err) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, 23, func(cfg *goavail.Config) { cfg.RetryMax = 200 * time.Millisecond })
			r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
			r.start(r.all()...)
			r.knows(r.writer(r.all()...), "t0", "up")
			since := time.Now()
			fail(r.zone, errors.New("500"))
			r.webs[0].down()
			r.troubled(0, r.all()...)
			time.Sleep(6 * time.Second) // for more failures than it took to come this far
			r.troubled(0, r.all()...)
			n := r.writers(since)
			if t.Logf("the writer changed %d times", n); n > len(r.places)+1 {
				t.Error("that is more than once round")
			}
			fail(r.zone, nil)
			r.live(1, 2, 3)
		})
	}
}

// A place whose own credentials are refused leaves the writing to the others, for good.
func TestOnePlaceCannotUseTheProvider(t *testing.T) {
	refused := &dns.Error{Reason: dns.Refused, Err: errors.New("403")}
	for name, what := range map[string][2]error{"at all": {refused, nil}, "for changes": {nil, refused}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, 24, nil)
			r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
			r.start(r.all()...)
			bad := r.writer(r.all()...)
			r.knows(bad, "t0", "up")
			r.zone.refusing(r.places[bad].Name, what[0], what[1])
			r.webs[0].down()
			r.live(1, 2, 3)
			good := slices.DeleteFunc(r.all(), func(i int) bool { return i == bad })
			next := r.writer(good...)
			r.troubled(next, bad)
			since := time.Now()
			r.webs[0].up()
			r.live(0, 1, 2, 3)
			// The next one goes as well: it is not the turn of the place that cannot write.
			last := good[0] + good[1] - next
			r.stop(next)
			r.writer(last)
			r.webs[1].down()
			r.live(0, 2, 3)
			for _, e := range r.entries(last, client.KindWriter) {
				if e.Place == r.places[bad].Name && e.At.After(since) {
					t.Errorf("%s, which cannot write, became the writer again in epoch %d", e.Place, e.Epoch)
				}
			}
		})
	}
}

// Once the provider works for some places again, but not for the writer, one of them writes.
func TestTheProviderComesBackForOthers(t *testing.T) {
	r := newRig(t, 3, 25, nil)
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(r.all()...)
	r.knows(r.writer(r.all()...), "t0", "up")
	broken := errors.New("500")
	r.zone.failing(broken)
	r.troubled(0, r.all()...)
	bad := r.writer(r.all()...)
	r.zone.refusing(r.places[bad].Name, broken, nil)
	r.zone.failing(nil)
	r.webs[0].down()
	r.live(1, 2, 3)
}

// If those who could use the provider do not write either, whoever cannot tries again.
func TestNobodyElseWrites(t *testing.T) {
	places := 0
	r := newRig(t, 3, 26, func(cfg *goavail.Config) {
		cfg.NoDryRun = false
		if places++; places > 1 {
			cfg.Rules.ChangesPerHour = 999 // which is not confirmed
		}
	})
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(r.all()...)
	r.writer(r.all()...)
	if _, err := r.agents[0].Apply(t.Context(), client.Request{}); err != nil {
		t.Fatal(err)
	}
	r.writer(0)
	r.zone.refusing("p0", errors.New("403"), nil)
	r.troubled(1, 0)
	since := time.Now()
	r.await("p0 to try again", func() bool {
		return slices.ContainsFunc(r.entries(1, client.KindWriter), func(e client.Entry) bool { return e.Place == "p0" && e.At.After(since) })
	})
	r.zone.refusing("", nil, nil)
	r.knows(0, "t0", "up")
	r.webs[0].down()
	r.live(1, 2, 3)
}
