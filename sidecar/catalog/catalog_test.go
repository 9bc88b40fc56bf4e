package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// at is a record of service 1 of host h.
func at(h string, updated time.Time, status pancake.ServiceStatus) pancake.Service {
	return pancake.Service{Hostname: h, ID: "1", Name: "x", Updated: updated, Status: status}
}

// one is the record of service 1 of host h, which must exist.
func one(t *testing.T, c *catalog.Catalog, h string) *pancake.Service {
	t.Helper()
	host := c.Snapshot().Hosts[h]
	if host == nil || host.Services["1"] == nil {
		t.Fatalf("service 1 of %s is not known", h)
	}
	return host.Services["1"]
}

// settled is the catalogue of "self", on which nothing ran at the start.
func settled() *catalog.Catalog {
	c := catalog.New("self", "c")
	c.Settle(noon)
	return c
}

func TestLifespans(t *testing.T) {
	for status, lifespan := range map[pancake.ServiceStatus]time.Duration{
		pancake.Alive: 80 * time.Second, pancake.Sick: 80 * time.Second, pancake.Unknown: 80 * time.Second, pancake.Draining: 10 * time.Minute,
	} {
		for _, clock := range []time.Duration{0, -time.Hour, 5 * time.Minute} { // of the other host, against ours
			c := settled()
			c.Merge([]pancake.Service{at("h", noon.Add(clock), status)}, noon)
			if changes := c.Sweep(noon.Add(lifespan)); len(changes) != 0 {
				t.Errorf("%s, clock %s off: ended too early: %v", status, clock, changes)
			}
			changes := c.Sweep(noon.Add(lifespan + 1))
			if len(changes) != 1 || !changes[0].Status() || changes[0].Before != status {
				t.Fatalf("%s, clock %s off: %v", status, clock, changes)
			}
			if s := one(t, c, "h"); s.Status != pancake.Tombstone || !s.Updated.Equal(noon.Add(clock+time.Second)) {
				t.Errorf("%s: %+v", status, s)
			}
		}
	}
}

func TestTombstonesAreForgottenAndStayAway(t *testing.T) {
	c := settled()
	alive, tomb := at("h", noon, pancake.Alive), at("h", noon.Add(time.Second), pancake.Tombstone)
	c.Merge([]pancake.Service{alive, tomb}, noon)
	for minutes := range 60 * 4 {
		now := noon.Add(time.Duration(minutes) * time.Minute)
		c.Sweep(now)
		changes, refused := c.Merge([]pancake.Service{alive}, now)
		if len(changes) != 0 {
			t.Fatalf("it came back after %d minutes", minutes)
		}
		known := c.Snapshot().Hosts["h"] != nil
		if known != (minutes <= 180) {
			t.Fatalf("after %d minutes: known is %t", minutes, known)
		}
		if minutes > 180 && (len(refused) != 1 || refused[0].Reason != catalog.RefusedStale) {
			t.Fatalf("after %d minutes: %v", minutes, refused)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	c := settled()
	with := func(change func(*pancake.Service)) pancake.Service {
		s := at("h", noon, pancake.Alive)
		change(&s)
		return s
	}
	for name, tt := range map[string]struct {
		record pancake.Service
		want   catalog.Reason
	}{
		"fine":            {at("h", noon, pancake.Alive), ""},
		"a little ahead":  {at("h", noon.Add(24*time.Hour), pancake.Alive), ""},
		"far ahead":       {at("h", noon.Add(24*time.Hour+1), pancake.Alive), catalog.RefusedAhead},
		"stale":           {at("h", noon.Add(-3*time.Hour-1), pancake.Alive), catalog.RefusedStale},
		"no host":         {at("", noon, pancake.Alive), catalog.RefusedInvalid},
		"unknown status":  {at("h", noon, 5), catalog.RefusedInvalid},
		"negative status": {at("h", noon, -1), catalog.RefusedInvalid},
		"long name":       {with(func(s *pancake.Service) { s.Name = strings.Repeat("x", catalog.MaxText+1) }), catalog.RefusedInvalid},
		"not UTF-8":       {with(func(s *pancake.Service) { s.Image = "\xff" }), catalog.RefusedInvalid},
		"port":            {with(func(s *pancake.Service) { s.Ports = []pancake.ServicePort{{Port: 65536}} }), catalog.RefusedInvalid},
		"ports":           {with(func(s *pancake.Service) { s.Ports = make([]pancake.ServicePort, catalog.MaxPorts+1) }), catalog.RefusedInvalid},
		"labels": {with(func(s *pancake.Service) {
			s.Labels = map[string]string{"a": strings.Repeat("x", catalog.MaxLabelBytes)}
		}), catalog.RefusedInvalid},
		"year 10000": {with(func(s *pancake.Service) { s.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }), catalog.RefusedInvalid},
	} {
		_, refused := c.Merge([]pancake.Service{tt.record}, noon)
		var got catalog.Reason
		if len(refused) > 0 {
			got = refused[0].Reason
		}
		if got != tt.want {
			t.Errorf("%s: refused as %q, want %q", name, got, tt.want)
		}
	}
}

func TestNobodyOverrulesAHost(t *testing.T) {
	c := settled()
	c.Discover(pancake.Service{ID: "1", Name: "x"}, noon)
	c.SetStatus("1", pancake.Alive, "", noon)
	later := noon.Add(time.Minute)

	changes, _ := c.Merge([]pancake.Service{at("self", later, pancake.Tombstone)}, noon)
	if s := one(t, c, "self"); len(changes) != 1 || s.Status != pancake.Alive || !s.Updated.After(later) {
		t.Errorf("called dead, it answers %+v (%v)", s, changes)
	}
	if changes, _ = c.Merge([]pancake.Service{at("self", noon.Add(-1), pancake.Sick)}, noon); len(changes) != 0 {
		t.Errorf("an old record changed %v", changes)
	}
	c.Remove("1", later)
	changes, _ = c.Merge([]pancake.Service{at("self", later.Add(time.Minute), pancake.Alive)}, later)
	if s := one(t, c, "self"); len(changes) != 1 || s.Status != pancake.Tombstone || !s.Updated.After(later.Add(time.Minute)) {
		t.Errorf("called alive, it answers %+v (%v)", s, changes)
	}
}

func TestDrainingLastsUntilTheContainerIsGone(t *testing.T) {
	c := settled()
	svc := pancake.Service{ID: "1", Name: "x"}
	if _, _, err := c.Drain("1", noon); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("draining nothing: %v", err)
	}
	c.Discover(svc, noon)
	c.SetStatus("1", pancake.Alive, "", noon)
	if _, changes, err := c.Drain("1", noon); err != nil || len(changes) != 1 || changes[0].Refresh {
		t.Errorf("%v %v", changes, err)
	}
	if _, changes, err := c.Drain("1", noon); err != nil || len(changes) != 0 {
		t.Errorf("the second time: %v %v", changes, err)
	}
	for i, status := range []pancake.ServiceStatus{pancake.Sick, pancake.Unknown, pancake.Alive} {
		c.SetStatus("1", status, "why", noon.Add(time.Duration(i+1)*time.Second))
		c.Sweep(noon.Add(time.Duration(i+1) * 15 * time.Minute))
		if s := one(t, c, "self"); s.Status != pancake.Draining || s.Note != "why" {
			t.Errorf("a check says %s: %+v", status, s)
		}
	}
	c.Remove("1", noon.Add(time.Hour))
	c.Discover(svc, noon.Add(time.Hour)) // docker restart: the same container
	c.SetStatus("1", pancake.Alive, "", noon.Add(time.Hour))
	if s := one(t, c, "self"); s.Status != pancake.Alive {
		t.Errorf("started again: %+v", s)
	}
}

func TestRestartBelievesThePeers(t *testing.T) {
	for _, before := range []pancake.ServiceStatus{pancake.Alive, pancake.Draining} {
		c := catalog.New("self", "c")
		c.Merge([]pancake.Service{at("self", noon, before)}, noon)
		if changes := c.Discover(pancake.Service{ID: "1", Name: "x"}, noon); len(changes) != 0 {
			t.Errorf("announced before its first check: %v", changes)
		}
		c.Settle(noon)
		if s := one(t, c, "self"); s.Status != before || c.Complete() {
			t.Errorf("before the check: %+v", s)
		}
		c.SetStatus("1", pancake.Alive, "", noon)
		if s := one(t, c, "self"); s.Status != before || !s.Updated.After(noon) || !c.Complete() {
			t.Errorf("behind the check: %+v", s)
		}
	}
	c := catalog.New("self", "c")
	c.Merge([]pancake.Service{at("self", noon, pancake.Alive)}, noon)
	if changes := c.Settle(noon); len(changes) != 1 || one(t, c, "self").Status != pancake.Tombstone {
		t.Errorf("it does not run any more: %v", changes)
	}
}

// What a living host says needs no repetition, and its clock does not matter.
func TestLivingHostsDoNotExpire(t *testing.T) {
	for _, clock := range []time.Duration{0, -5 * time.Hour, time.Hour, 23 * time.Hour} {
		c := settled()
		c.HostJoined("h")
		changes, refused := c.Merge([]pancake.Service{at("h", noon.Add(clock), pancake.Alive)}, noon)
		if len(changes) != 1 || len(refused) != 0 {
			t.Fatalf("clock %s off: %v %v", clock, changes, refused)
		}
		if changes := c.Sweep(noon.Add(1000 * time.Hour)); len(changes) != 0 {
			t.Errorf("clock %s off: %v", clock, changes)
		}
		if s := c.Snapshot(); s.LastChanged.After(noon) || s.Hosts["h"].LastChanged.After(noon) {
			t.Errorf("clock %s off: last changed %s", clock, s.LastChanged)
		}
	}
}

func TestOwnServicesAreNotRepeated(t *testing.T) {
	c := settled()
	c.Discover(pancake.Service{ID: "1", Name: "x"}, noon)
	for i := range 600 { // 20 minutes of sweeps, with a check that says something else each time
		now := noon.Add(time.Duration(i) * 2 * time.Second)
		changes := append(c.SetStatus("1", pancake.Sick, strings.Repeat("x", i%2), now), c.Sweep(now)...)
		for _, change := range changes {
			if !change.Local {
				t.Fatalf("gossiped: %+v", change)
			}
		}
	}
}

func TestHostGone(t *testing.T) {
	c := settled()
	c.Merge([]pancake.Service{at("h", noon, pancake.Alive), at("i", noon, pancake.Alive)}, noon)
	if changes := c.HostGone("h", noon); len(changes) != 1 || one(t, c, "h").Status != pancake.Tombstone || one(t, c, "i").Status != pancake.Alive {
		t.Errorf("%v", changes)
	}
	if changes := append(c.HostGone("h", noon), c.HostGone("never", noon)...); len(changes) != 0 {
		t.Errorf("the second time: %v", changes)
	}
	c.Discover(pancake.Service{ID: "1"}, noon)
	if changes := c.HostGone("self", noon); len(changes) != 0 {
		t.Errorf("this host itself: %v", changes)
	}
}

// A host that comes back is believed when it, or a member that knows, says the same again; not before.
func TestHostComesBack(t *testing.T) {
	c := settled()
	c.HostJoined("h")
	was := at("h", noon, pancake.Alive)
	other := was
	other.ID = "2"
	c.Merge([]pancake.Service{was, other}, noon)
	digest := c.Snapshot().Digest
	c.HostGone("h", noon.Add(time.Second))
	gone := c.Snapshot()
	if gone.Digest != 0 || gone.Hosts["h"].Written("1").Status != pancake.Alive || gone.Hosts["h"].Services["1"].Status != pancake.Tombstone || !gone.Hosts["h"].Gone {
		t.Fatalf("gone: %+v", gone.Hosts["h"])
	}
	newer := at("h", noon.Add(time.Minute), pancake.Alive)
	if changes, _ := c.Merge([]pancake.Service{was, newer}, noon); len(changes) != 0 {
		t.Fatalf("others speak for a host that has gone: %v", changes)
	}
	c.HostJoined("h")
	if one(t, c, "h").Status != pancake.Tombstone {
		t.Fatal("it is believed before it has spoken")
	}
	changes, _ := c.Merge([]pancake.Service{was}, noon.Add(time.Hour))
	if len(changes) != 1 || changes[0].Before != pancake.Tombstone || changes[0].Local || one(t, c, "h").Status != pancake.Alive {
		t.Fatalf("%+v", changes)
	}
	c.Merge([]pancake.Service{other}, noon.Add(time.Hour))
	if got := c.Snapshot(); got.Digest != digest || got.Hosts["h"].Ended != nil {
		t.Fatalf("%+v", got.Hosts["h"])
	}
}

func TestWhatNobodyRepeatsStaysForgotten(t *testing.T) {
	c := settled()
	was := at("h", noon, pancake.Alive)
	c.Merge([]pancake.Service{was}, noon)
	c.Sweep(noon.Add(catalog.AliveFor + 1))
	// Another node, where it has not expired yet, compares notes.
	if changes, _ := c.Merge([]pancake.Service{was}, noon.Add(catalog.AliveFor+2)); len(changes) != 0 {
		t.Fatalf("two nodes would keep it alive for ever: %v", changes)
	}
	if changes, _ := c.Merge([]pancake.Service{at("h", noon.Add(1), pancake.Alive)}, noon.Add(catalog.AliveFor+2)); len(changes) != 1 {
		t.Fatalf("something new: %v", changes)
	}
}

func TestMirroredHosts(t *testing.T) {
	bridge, other := catalog.New("bridge", "c"), settled()
	foreign := at("old", noon, pancake.Alive)
	changes, refused := bridge.Mirror([]pancake.Service{foreign, at("bridge", noon, pancake.Alive), {}}, noon)
	if len(changes) != 1 || len(refused) != 2 || refused[0].Reason != catalog.RefusedMember || refused[1].Reason != catalog.RefusedInvalid {
		t.Fatalf("%v %v", changes, refused)
	}
	other.Merge([]pancake.Service{foreign}, noon)
	now := noon
	for range 500 { // more than 8 hours
		now = now.Add(time.Minute)
		foreign.Updated = now
		if changes, _ := bridge.Mirror([]pancake.Service{foreign}, now); len(changes) > 0 {
			other.Merge([]pancake.Service{*changes[0].Service}, now)
		}
		if !bridge.Snapshot().Hosts["old"].Mirrored || len(bridge.Sweep(now)) != 0 {
			t.Fatal("the bridge does not speak for it any more")
		}
		if _, ok := other.Heard("old", bridge.Snapshot().Hosts["old"].Digest, now); !ok {
			t.Fatal("the two do not agree")
		}
		if changes := other.Sweep(now); len(changes) != 0 {
			t.Fatalf("it expired: %v", changes)
		}
	}
	now = now.Add(catalog.AliveFor + 1)
	if changes := append(bridge.Sweep(now), other.Sweep(now)...); len(changes) != 2 || bridge.Snapshot().Hosts["old"].Mirrored {
		t.Fatalf("nobody speaks for it any more: %v", changes)
	}
	if changes, ok := other.Heard("old", catalog.Hash(&foreign), now); ok || len(changes) != 0 {
		t.Fatalf("of other records: %v", changes)
	}
	if changes, ok := other.Heard("old", catalog.Hash(other.Snapshot().Hosts["old"].Written("1")), now); !ok || len(changes) != 1 || one(t, other, "old").Status != pancake.Alive {
		t.Fatalf("the bridge is back: %v", changes)
	}
	other.HostJoined("old")
	if _, refused := other.Mirror([]pancake.Service{foreign}, now); len(refused) != 1 || refused[0].Reason != catalog.RefusedMember {
		t.Fatalf("it is a member now: %v", refused)
	}
}

func TestSnapshotsDoNotChange(t *testing.T) {
	c := settled()
	c.Merge([]pancake.Service{at("h", noon, pancake.Alive), at("i", noon, pancake.Alive)}, noon)
	before := c.Snapshot()
	c.Merge([]pancake.Service{at("h", noon.Add(1), pancake.Sick)}, noon)
	after := c.Snapshot()
	if before.Hosts["h"].Services["1"].Status != pancake.Alive || after.Hosts["h"].Services["1"].Status != pancake.Sick {
		t.Error("a snapshot changed, or did not")
	}
	if before.Hosts["i"] != after.Hosts["i"] {
		t.Error("a host that did not change was copied")
	}
	if !after.LastChanged.Equal(noon) || !after.Hosts["h"].LastUpdated.Equal(noon.Add(1)) {
		t.Errorf("last changed %s", after.LastChanged)
	}
}
