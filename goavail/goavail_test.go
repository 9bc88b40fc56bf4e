package goavail_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/probe"
	"github.com/pancake-stack/pancake/goavail/vote"
	"github.com/pancake-stack/pancake/internal/testkit"
)

// TestFiveAgents plays what production does to DNS, over real memberlist.
func TestFiveAgents(t *testing.T) {
	r := newRig(t, 5, 10, nil)
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(r.all()...)
	r.writer(r.all()...)
	r.knows(0, "t0", "up")

	r.webs[0].down()
	r.live(1, 2, 3)
	r.webs[0].up()
	r.live(0, 1, 2, 3)

	for range 3 { // it flaps
		r.webs[1].down()
		r.live(0, 2, 3)
		r.webs[1].up()
		r.live(0, 1, 2, 3)
	}

	for _, w := range r.webs { // all die
		w.down()
	}
	for _, i := range r.all() {
		for _, target := range []string{"t0", "t1", "t2", "t3"} {
			r.knows(i, target, "down")
		}
	}
	time.Sleep(500 * time.Millisecond) // for a write that was decided on before
	r.live(0, 1, 2, 3)
	r.steady(time.Second, 0, 1, 2, 3)
	for _, w := range r.webs {
		w.up()
	}
	// They come back one by one, so that the last may be out for a moment.
	for _, target := range []string{"t0", "t1", "t2", "t3"} {
		r.knows(0, target, "up")
	}
	r.live(0, 1, 2, 3)

	// All restart while a record is out and its target comes back meanwhile.
	r.webs[2].down()
	r.live(0, 1, 3)
	r.stop(r.all()...)
	r.webs[2].up()
	r.start(r.all()...)
	r.live(0, 1, 2, 3)

	// And while the target is still down: nothing changes.
	r.webs[2].down()
	r.live(0, 1, 3)
	r.stop(r.all()...)
	r.start(r.all()...)
	r.writer(r.all()...)
	r.steady(time.Second, 0, 1, 3)
	r.webs[2].up()
	r.live(0, 1, 2, 3)

	// Every place has the same history.
	r.await("one history", func() bool {
		for _, i := range r.all() {
			if len(r.entries(i, client.KindChange)) != len(r.zone.written()) {
				return false
			}
		}
		return true
	})
}

func TestPartitions(t *testing.T) {
	r := newRig(t, 5, 11, nil)
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(r.all()...)
	old := r.writer(r.all()...)
	r.knows(old, "t0", "up")

	// The writer is cut off: it stops before anybody else begins.
	r.cables.move(1, r.places[old].Address)
	rest := slices.DeleteFunc(r.all(), func(i int) bool { return i == old })
	r.webs[0].down()
	r.live(1, 2, 3)
	r.await("the one that is cut off knows that it does not write", func() bool { return !r.agents[old].Status(t.Context(), false).Writer.Me })
	r.cables.move(0, r.places[old].Address)
	r.webs[0].up()
	r.live(0, 1, 2, 3)

	// Two against three: only the three act, whoever wrote before.
	small, large := rest[:2], append(rest[2:], old)
	for _, i := range small {
		r.cables.move(2, r.places[i].Address)
	}
	r.await("a writer among the three, and none among the two", func() bool {
		n := 0
		for _, i := range r.all() {
			if r.agents[i].Status(t.Context(), false).Writer.Me {
				n++
				if slices.Contains(small, i) {
					return false
				}
			}
		}
		return n == 1
	})
	before := len(r.zone.written())
	r.webs[1].down()
	r.live(0, 2, 3)
	for _, w := range r.zone.written()[before:] {
		for _, i := range small {
			if w.by == r.places[i].Name {
				t.Errorf("%s wrote in the minority", w.by)
			}
		}
	}
	for _, i := range small {
		r.cables.move(0, r.places[i].Address)
	}
	r.await("all places hear each other again", func() bool {
		for _, i := range r.all() {
			for _, p := range r.agents[i].Status(t.Context(), false).Places {
				if !p.Alive {
					return false
				}
			}
		}
		return true
	})
	r.webs[1].up()
	r.live(0, 1, 2, 3)

	// Two of five left cannot do anything; three can.
	r.stop(large...)
	r.webs[3].down()
	r.steady(3*time.Second, 0, 1, 2, 3)
	r.start(large[0])
	r.live(0, 1, 2)
}

func TestTheProviderFails(t *testing.T) {
	r := newRig(t, 3, 12, nil)
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(r.all()...)
	r.knows(r.writer(r.all()...), "t0", "up")
	for _, err := range []error{
		errors.New("500"),
		&dns.Error{Reason: dns.RateLimited, RetryAfter: 300 * time.Millisecond, Err: errors.New("429")},
	} {
		r.zone.failing(err)
		r.webs[0].down()
		r.knows(0, "t0", "down")
		r.steady(2*time.Second, 0, 1, 2, 3)
		r.zone.failing(nil)
		r.live(1, 2, 3)
		r.webs[0].up()
		r.live(0, 1, 2, 3)
	}
	// The change is made and its answer lost: nobody makes it twice.
	before := len(r.zone.written())
	r.zone.mu.Lock()
	r.zone.late = true
	r.zone.mu.Unlock()
	r.webs[0].down()
	r.live(1, 2, 3)
	r.steady(2*time.Second, 1, 2, 3)
	if n := len(r.zone.written()) - before; n != 1 {
		t.Errorf("%d writes of one change", n)
	}
	r.await("the doubt is written down", func() bool {
		return slices.ContainsFunc(r.entries(0, client.KindChange), func(e client.Entry) bool { return e.Unsure })
	})
}

func TestDriftIsMendedAndForeignRecordsAreLeftAlone(t *testing.T) {
	r := newRig(t, 1, 13, nil)
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(0)
	r.knows(r.writer(0), "t0", "up")
	r.await("the records are read", func() bool { return !r.agents[0].Status(t.Context(), false).Provider.Read.IsZero() })
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1))...) // somebody removes two
	r.live(0, 1, 2, 3)
	if drifts := r.entries(0, client.KindDrift); len(drifts) == 0 || drifts[0].Set != www.String() {
		t.Errorf("no drift is reported: %+v", drifts)
	}
	// Somebody else's record beside ours, and one of ours that somebody took over.
	r.zone.mu.Lock()
	s := r.zone.sets[www]
	s.Members = slices.Clone(s.Members)
	s.Members[0].Owner = ""
	s.Members = append(s.Members, dns.Member{Value: "192.0.2.99", On: true})
	r.zone.sets[www] = s
	r.zone.mu.Unlock()
	r.webs[0].down()
	r.webs[1].down()
	want := "127.30.13.101 127.30.13.103 127.30.13.104 192.0.2.99"
	r.await("only what is ours goes", func() bool { return r.zone.values(www) == want })
	plan, err := r.agents[0].Plan(t.Context())
	if err != nil || !slices.Equal(plan.Foreign, []string{www.String() + " 127.30.13.101", www.String() + " 192.0.2.99"}) {
		t.Errorf("%+v, %v", plan, err)
	}
	// Once adopted, it goes too.
	if _, err := r.agents[0].Adopt(t.Context(), client.Request{About: "www.example.org"}); err != nil {
		t.Fatal(err)
	}
	r.await("the adopted one goes", func() bool { return r.zone.values(www) == "127.30.13.103 127.30.13.104 192.0.2.99" })
}

func TestOrders(t *testing.T) {
	r := newRig(t, 3, 14, nil)
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(r.all()...)
	w := r.writer(r.all()...)
	r.knows(w, "t0", "up")
	other := (w + 1) % 3
	give := func(_ []client.Order, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// To an agent that does not write.
	give(r.agents[other].Drain(t.Context(), client.Request{About: "t0", By: "me", Why: "test"}))
	r.live(1, 2, 3)
	// It outlives a restart of all.
	r.stop(r.all()...)
	r.start(r.all()...)
	r.writer(r.all()...)
	r.knows(other, "t0", "up")
	r.steady(time.Second, 1, 2, 3)
	give(r.agents[other].Restore(t.Context(), client.Request{About: "t0"}))
	r.live(0, 1, 2, 3)

	give(r.agents[other].Hold(t.Context(), client.Request{}))
	r.await("everybody knows of it", func() bool {
		return r.agents[w].Status(t.Context(), false).Sets[0].Held && r.agents[other].Status(t.Context(), false).Sets[0].Held
	})
	r.webs[1].down()
	r.knows(other, "t1", "down")
	r.steady(time.Second, 0, 1, 2, 3)
	give(r.agents[other].Hold(t.Context(), client.Request{Release: true}))
	r.live(0, 2, 3)

	give(r.agents[other].Drain(t.Context(), client.Request{About: "t1", Maintenance: true, For: 2}))
	r.webs[1].up()
	r.live(0, 1, 2, 3) // once the two seconds are over
	give(r.agents[other].Restore(t.Context(), client.Request{About: "t2", Force: true, For: 60}))
	r.webs[2].down()
	r.knows(other, "t2", "down")
	r.steady(time.Second, 0, 1, 2, 3)
	give(r.agents[other].Restore(t.Context(), client.Request{About: "t2"}))
	r.live(0, 1, 3)
	if _, err := r.agents[other].Drain(t.Context(), client.Request{About: "nobody"}); err == nil {
		t.Error("drained nobody")
	}
}

func TestANewConfigurationIsShownFirst(t *testing.T) {
	r := newRig(t, 1, 15, func(cfg *goavail.Config) { cfg.NoDryRun = false })
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1))...)
	r.start(0)
	r.writer(0)
	r.await("the difference is shown", func() bool { return len(r.entries(0, client.KindPlan)) > 0 })
	r.steady(time.Second, 0, 1)
	if plan, err := r.agents[0].Plan(t.Context()); err != nil || !plan.DryRun || len(plan.Diff) != 2 || !strings.HasPrefix(plan.Diff[0], "+ www.example.org A 127.30.15.103  # t2: 1 of 1 places") {
		t.Errorf("%+v, %v", plan, err)
	}
	if _, err := r.agents[0].Apply(t.Context(), client.Request{}); err != nil {
		t.Fatal(err)
	}
	r.live(0, 1, 2, 3)
	// It is remembered.
	r.stop(0)
	r.start(0)
	r.webs[0].down()
	r.live(1, 2, 3)
	// Another configuration is new again.
	r.stop(0)
	r.change = func(cfg *goavail.Config) { cfg.NoDryRun, cfg.Identity = false, "another zone" }
	r.start(0)
	r.webs[0].up()
	r.knows(r.writer(0), "t0", "up")
	r.steady(time.Second, 1, 2, 3)
}

// TestPrimaryAndBackup fails over a CNAME, which has room for one, and switches a pool.
func TestPrimaryAndBackup(t *testing.T) {
	alias, pool := dns.Key{Name: "app.example.org", Type: dns.CNAME}, dns.Key{Name: "pool", Type: dns.Pool}
	r := newRig(t, 1, 16, func(cfg *goavail.Config) {
		cfg.Records = []goavail.Record{
			{Key: alias, Members: []goavail.Member{{Target: "t0", Value: "one.example.net"}, {Target: "t1", Value: "two.example.net"}}},
			{Key: pool, Members: []goavail.Member{{Target: "t0"}, {Target: "t1"}, {Target: "t2"}}},
		}
	})
	r.zone.put(pool, "test", strings.Fields(r.ip(0, 1, 2))...)
	r.start(0)
	shows := func(name, members string) {
		t.Helper()
		r.await(name+" and "+members, func() bool { return r.zone.values(alias) == name && r.zone.values(pool) == members })
	}
	shows("one.example.net", r.ip(0, 1, 2)) // made, as there was none
	r.webs[0].down()
	shows("two.example.net", r.ip(1, 2))
	r.zone.mu.Lock()
	if n := len(r.zone.sets[pool].Members); n != 3 {
		t.Errorf("the pool has %d members left; they should be switched, not removed", n)
	}
	r.zone.mu.Unlock()
	r.webs[0].up()
	shows("one.example.net", r.ip(0, 1, 2))
}

// TestReload takes over other targets and records without a restart.
func TestReload(t *testing.T) {
	r := newRig(t, 1, 17, nil)
	r.start(0)
	r.live(0, 1, 2, 3)
	targets, records := r.work()
	targets[1].Drain = true
	records[0].Members = records[0].Members[:3]
	if err := r.agents[0].Reload(targets, records); err != nil {
		t.Fatal(err)
	}
	r.live(0, 2)
	records[0].Members[0].Target = "nobody"
	if err := r.agents[0].Reload(targets, records); err == nil {
		t.Error("took a record of a target that is not listed")
	}
	r.steady(500*time.Millisecond, 0, 2)
}

// A platform that has lost more than min_healthy allows keeps nothing from being taken over.
func TestFewerMembersThanTheMinimum(t *testing.T) {
	r := newRig(t, 1, 23, func(cfg *goavail.Config) { cfg.Records[0].MinHealthy = 3 })
	r.start(0)
	r.live(0, 1, 2, 3)
	targets, records := r.work()
	targets[1].Drain = true
	records[0].MinHealthy = 3
	few := slices.Clone(records)
	few[0].Members = few[0].Members[:2]
	if err := r.agents[0].Reload(targets[:2], few); err != nil {
		t.Fatal(err)
	}
	r.await("the drain is known, and what is not listed any more is kept", func() bool {
		kept := 0
		for _, m := range r.agents[0].Status(t.Context(), false).Sets[0].Members {
			if m.Want && m.Rule == string(vote.RuleMinimum) && (m.Target == "" || m.Target == "t1" && strings.Contains(m.Reason, "the platform drains it")) {
				kept++
			}
		}
		return kept == 3
	})
	r.steady(time.Second, 0, 1, 2, 3)
	// So does a restart.
	r.stop(0)
	r.change = func(cfg *goavail.Config) { cfg.Targets, cfg.Records = targets[:2], few }
	r.start(0)
	r.knows(r.writer(0), "t0", "up")
	r.steady(time.Second, 0, 1, 2, 3)
	if err := r.agents[0].Reload(targets, records); err != nil {
		t.Fatal(err)
	}
	r.live(0, 2, 3)
}

// Records that are new are shown before they are acted on, also without a restart.
func TestReloadedRecordsAreShownFirst(t *testing.T) {
	r := newRig(t, 1, 24, func(cfg *goavail.Config) { cfg.NoDryRun, cfg.ReadEvery = false, time.Minute })
	r.start(0)
	a := r.agents[r.writer(0)]
	apply := func() {
		t.Helper()
		if _, err := a.Apply(t.Context(), client.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	r.live(0, 1, 2, 3)
	targets, records := r.work()
	records[0].Members = records[0].Members[:3]
	if err := a.Reload(targets, records); err != nil {
		t.Fatal(err)
	}
	r.live(0, 1, 2) // members need nobody's leave
	shown := len(r.entries(0, client.KindPlan))
	more := dns.Key{Name: "more.example.org", Type: dns.A}
	records = append(records, goavail.Record{Key: more, TTL: 30, Members: []goavail.Member{{Target: "t3"}}})
	if err := a.Reload(targets, records); err != nil {
		t.Fatal(err)
	}
	r.await("the new record is shown", func() bool {
		plans := r.entries(0, client.KindPlan)
		return len(plans) > shown && plans[len(plans)-1].Set == more.String()
	})
	if s := a.Status(t.Context(), false); !s.DryRun {
		t.Error("the configuration counts as confirmed")
	}
	r.webs[0].down()
	r.knows(0, "t0", "down")
	r.steady(time.Second, 0, 1, 2)
	if got := r.zone.values(more); got != "" {
		t.Errorf("%s holds %s, which nobody has confirmed", more, got)
	}
	apply()
	r.live(1, 2)
	r.await("the new record", func() bool { return r.zone.values(more) == r.ip(3) })
}

// TestCanaries: a place that sees nothing at all abstains.
func TestCanaries(t *testing.T) {
	canary := &web{t: t, addr: "127.30.18.200:17950"}
	canary.up()
	defer canary.down()
	r := newRig(t, 1, 18, func(cfg *goavail.Config) {
		cfg.Canaries = []goavail.Target{{Name: "canary", Check: probe.Check{Address: "127.30.18.200", Port: 17950, Interval: 100 * time.Millisecond}}}
	})
	r.zone.put(www, "test", strings.Fields(r.ip(0, 1, 2, 3))...)
	r.start(0)
	r.knows(0, "t0", "up")
	canary.down()
	r.await("it abstains", func() bool { return r.agents[0].Status(t.Context(), false).Abstains != "" })
	r.webs[0].down()
	r.knows(0, "t0", "unknown")
	r.steady(time.Second, 0, 1, 2, 3)
	canary.up()
	r.live(1, 2, 3)
}

// TestStatusAsksWhatDNSAnswers compares with a resolver of the test's own.
func TestStatusAsksWhatDNSAnswers(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.30.19.200:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &mdns.Server{PacketConn: pc, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg).SetReply(q)
		for _, ip := range []string{"192.0.2.2", "192.0.2.1"} {
			rr, _ := mdns.NewRR(q.Question[0].Name + " 60 IN A " + ip)
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = srv.ActivateAndServe() }()
	defer func() { _ = srv.Shutdown() }()
	told := make(chan client.Entry, 100)
	r := newRig(t, 1, 19, func(cfg *goavail.Config) {
		cfg.Resolvers = []string{pc.LocalAddr().String()}
		cfg.Notify = func(_ context.Context, e client.Entry) { told <- e }
	})
	r.start(0)
	r.live(0, 1, 2, 3)
	s := r.agents[0].Status(t.Context(), true)
	if got := s.Sets[0]; !slices.Equal(got.Answer, []string{"192.0.2.1", "192.0.2.2"}) || got.AnswerError != "" {
		t.Errorf("%+v", got)
	}
	for e := range told { // the first change is told
		if e.Kind == client.KindChange && len(e.Moves) > 0 && e.Moves[0].In && e.Epoch == s.Writer.Epoch {
			break
		}
	}
}

// TestEtcdElectsTheWriter leaves the election to a real etcd, and the votes to the places.
func TestEtcdElectsTheWriter(t *testing.T) {
	etcd := testkit.Etcd(t)
	r := newRig(t, 3, 21, func(cfg *goavail.Config) { cfg.Etcd = etcd })
	r.start(r.all()...)
	r.live(0, 1, 2, 3)
	old := r.writer(r.all()...)
	epoch := r.agents[old].Status(t.Context(), false).Writer.Epoch
	r.stop(old)
	rest := slices.DeleteFunc(r.all(), func(i int) bool { return i == old })
	next := r.writer(rest...)
	if got := r.agents[next].Status(t.Context(), false).Writer.Epoch; got <= epoch {
		t.Errorf("epoch %d after %d", got, epoch)
	}
	r.webs[0].down()
	r.live(1, 2, 3)
}
