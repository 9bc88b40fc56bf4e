package bridge

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
	"github.com/pancake-stack/pancake/sidecar/bridge/mirror"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

func nobody() Local {
	return Local{
		State: feed.New(catalog.New("p0", "new").Snapshot()),
		Peers: func() []client.Member { return []client.Member{{Name: "p0", State: client.MemberAlive}} },
		Merge: func(context.Context, []pancake.Service) {},
	}
}

func TestShape(t *testing.T) {
	ports := func(n int, proxied int64) (out []pancake.ServicePort) {
		for range n {
			out = append(out, pancake.ServicePort{Type: "tcp", Port: 31000, ServicePort: proxied, IP: "10.0.0.1", ContainerPort: 80})
		}
		return out
	}
	tests := []struct {
		name      string
		in        pancake.Service
		ok, image bool
		ports     int
	}{
		{"usual", pancake.Service{Image: "web:1", Ports: ports(2, 0)}, true, true, 2},
		{"no ports", pancake.Service{Image: "web:1"}, true, true, 0},
		{"long image", pancake.Service{Image: strings.Repeat("x", 512), Ports: ports(12, 80)}, true, false, 12},
		{"ports that no proxy uses", pancake.Service{Image: "web:1", Ports: append(ports(100, 0), ports(2, 80)...)}, true, false, 2},
		{"too large", pancake.Service{Ports: ports(100, 80)}, false, false, 100},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Labels, tt.in.Task, tt.in.Note = map[string]string{"a": "b"}, "task", "note"
			got, ok := shape(&tt.in)
			if ok != tt.ok || (got.Image != "") != tt.image || len(got.Ports) != tt.ports || got.Ports == nil {
				t.Errorf("%v %+v", ok, got)
			}
			b, err := json.Marshal(got)
			if err != nil || strings.Contains(string(b), "Labels") || strings.Contains(string(b), "Task") || strings.Contains(string(b), "ContainerPort") {
				t.Errorf("it carries what is ours alone: %s, %v", b, err)
			}
			if ok && len(b) > maxRecord {
				t.Errorf("%d bytes", len(b))
			}
		})
	}
}

// The JSON of a service is NinesStack Sidecar's, byte for byte.
func TestRecordOnTheWire(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 5, time.UTC)
	s, _ := shape(&pancake.Service{
		ID: "deadbeef0123", Name: "web", Image: "web:1", Created: at, Hostname: "p1", Updated: at, ProxyMode: "http", Status: pancake.Draining,
		Ports: []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 8080, IP: "10.0.0.1", ContainerPort: 80}},
	})
	b, err := json.Marshal(s)
	const want = `{"ID":"deadbeef0123","Name":"web","Image":"web:1","Created":"2026-05-01T12:00:00.000000005Z","Hostname":"p1",` +
		`"Ports":[{"Type":"tcp","Port":31000,"ServicePort":8080,"IP":"10.0.0.1"}],"Updated":"2026-05-01T12:00:00.000000005Z","ProxyMode":"http","Status":4}`
	if err != nil || string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestDecodeState(t *testing.T) {
	const state = `{"Servers":{"o1":{"Name":"o1","Services":{
		"a":{"ID":"a","Name":"web","Hostname":"o1","Updated":"2026-05-01T12:00:00Z","Status":0},
		"b":{"ID":"b","Hostname":"o1","Status":99},
		"c":{"ID":7},"d":null}},"o2":null},"ClusterName":"bench"}`
	cluster, records, err := decodeState([]byte(state))
	if cluster != "bench" || len(records) != 1 || records[0].ID != "a" || err == nil {
		t.Errorf("%q, %+v, %v", cluster, records, err)
	}
	c := catalog.New("bridge", "bench")
	c.Merge([]pancake.Service{{ID: "a", Hostname: "o1", Updated: time.Now()}}, time.Now())
	b, err := encodeState(c.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if cluster, records, err := decodeState(b); cluster != "bench" || len(records) != 1 || err != nil {
		t.Errorf("%q, %+v, %v", cluster, records, err)
	}
}

// TestTheirsHaveNoLabels: anybody can speak in the old cluster, and labels make routes here.
func TestTheirsHaveNoLabels(t *testing.T) {
	s, err := decodeRecord([]byte(`{"ID":"a","Hostname":"o1","Labels":{"traefik.http.routers.a.rule":"PathPrefix(` + "`/`" + `)"},"Task":"t","Note":"n"}`))
	if err != nil || s.Labels != nil || s.Task != "" || s.Note != "" {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Servers":{"o1":{"Services":{"a":{"ID":"a","Hostname":"o1"}}}},"ClusterName":"bench"}`))
	f.Add([]byte(`{"ID":"a","Name":"web","Hostname":"o1","Updated":"2026-05-01T12:00:00Z","Ports":[{"Port":80}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, records, _ := decodeState(b)
		if s, err := decodeRecord(b); err == nil {
			records = append(records, s)
		}
		c := catalog.New("bridge", "bench")
		c.Merge(records, time.Now())
		if _, err := encodeState(c.Snapshot()); err != nil {
			t.Errorf("what was taken cannot be told on: %v", err)
		}
		for i := range records {
			if s, ok := shape(&records[i]); ok && size(&s) > maxRecord {
				t.Errorf("%d bytes", size(&s))
			}
		}
		_ = bridgeOf(b)
	})
}

func TestElect(t *testing.T) {
	ours := map[string]mirror.Presence{"p1": mirror.Present, "p2": mirror.Present, "p3": mirror.Gone}
	tests := []struct {
		self    string
		bridges map[string]string
		want    string
	}{
		{"b2", nil, "b2"},
		{"b2", map[string]string{"b1": "p1", "b2": "p2"}, "b1"},
		{"b1", map[string]string{"b1": "p1", "b2": "p2"}, "b1"},
		{"b2", map[string]string{"b1": "p3"}, "b2"},        // it is dead with us
		{"b2", map[string]string{"b1": "elsewhere"}, "b2"}, // it works for another cluster
	}
	for _, tt := range tests {
		if got := elect(tt.self, tt.bridges, ours); got != tt.want {
			t.Errorf("%s among %v: %s, want %s", tt.self, tt.bridges, got, tt.want)
		}
	}
	if m, err := json.Marshal(meta{ClusterName: "bench", State: "Running"}); err != nil || string(m) != `{"ClusterName":"bench","State":"Running"}` || bridgeOf(m) != "" {
		t.Errorf("a Sidecar's meta data: %s, %v", m, err)
	}
}

func TestAlone(t *testing.T) {
	member := func(name string, state client.MemberState) client.Member {
		return client.Member{Name: name, State: state}
	}
	self := member("p0", client.MemberAlive)
	tests := []struct {
		name    string
		members []client.Member
		want    bool
	}{
		{"a cluster of one", []client.Member{self}, false},
		{"one of two is dead", []client.Member{self, member("p1", client.MemberDead)}, false},
		{"the others have left", []client.Member{self, member("p1", client.MemberLeft), member("p2", client.MemberLeft)}, false},
		{"the others are dead", []client.Member{self, member("p1", client.MemberDead), member("p2", client.MemberDead)}, true},
		{"one lives", []client.Member{self, member("p1", client.MemberDead), member("p2", client.MemberDead), member("p3", client.MemberAlive)}, false},
	}
	for _, tt := range tests {
		if got := alone(tt.members, "p0"); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestConfig(t *testing.T) {
	good := Config{Ours: nobody(), Host: "p0", Cluster: "bench", Seeds: []string{"o1"}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no seeds":      func(c *Config) { c.Seeds = nil },
		"no cluster":    func(c *Config) { c.Cluster = "" },
		"bind name":     func(c *Config) { c.BindAddr = "localhost" },
		"advertised":    func(c *Config) { c.AdvertiseAddr = "localhost" },
		"name of host":  func(c *Config) { c.Name = "p0" },
		"too long meta": func(c *Config) { c.Host = strings.Repeat("x", 500) },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, urls := range [][]string{nil, {"old:7777"}, {"ftp://old"}} {
		if _, err := NewImporter(ImportConfig{Ours: nobody(), URLs: urls}); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%v: %v", urls, err)
		}
	}
}

func TestLocalWatchLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n := 0
		if err := nobody().Watch(ctx, func(*catalog.Snapshot) { n++ }); err == nil {
			t.Error("a watch ended without an error")
		}
		if n < 7 || n > 20 {
			t.Errorf("shown %d times in a minute", n)
		}
	})
}

// count sums a counter over its label's values, by these.
func count(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return out
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

func TestGarbageIsCountedAndLoggedOnce(t *testing.T) {
	reg, lines := prometheus.NewRegistry(), &counting{}
	b, err := New(Config{
		Ours: nobody(), Host: "p0", Cluster: "bench", Seeds: []string{"127.23.1.1:1"}, BindAddr: "127.23.1.2", BindPort: -1,
		Metrics: reg, Log: slog.New(lines),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	eventually(t, "the bridge to listen", func() bool { return b.Status().Address != "" })
	udp, err := net.Dial("udp", b.Status().Address)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	far := fmt.Sprintf(`{"ID":"a","Hostname":"o1","Updated":%q}`, time.Now().Add(48*time.Hour).Format(time.RFC3339))
	for range 3 {
		for _, packet := range []string{
			"\x08not json", "\x08{}", "\x08" + far, "\x04\x81\xabClusterName\xa5other", "\x03\x80", "\xff\xff\xff", "\x0c1234", "\x07\xff", "\x0a", "\x08[[[[",
		} {
			if _, err := udp.Write([]byte(packet)); err != nil {
				t.Fatal(err)
			}
		}
		for _, stream := range []string{"\x06\x81\xabClusterName\xa5other", "\x06garbage", "\x09garbage", "GET / HTTP/1.1\r\n\r\n", "\x0a"} {
			tcp, err := net.Dial("tcp", b.Status().Address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tcp.Write([]byte(stream)); err != nil {
				t.Fatal(err)
			}
			_ = tcp.Close()
		}
	}
	eventually(t, "all of it to be counted", func() bool {
		got := count(t, reg, "sidecar_bridge_refused_total")
		return got["record"] >= 9 && got["cluster"] >= 9 && got["malformed"] >= 12 && got["encrypted"] >= 6 && got["ahead"] >= 3
	})
	if n := lines.count(); n > 6 {
		t.Errorf("%d warnings about 5 causes and the seed", n)
	}
	cancel()
	if err := <-done; err == nil || ctx.Err() == nil {
		t.Errorf("it ended by itself: %v", err)
	}
}

// TestStateBeyondTheBound: nothing of it is merged, and the log and a metric say why. A state
// that is cut short is not merged either.
func TestStateBeyondTheBound(t *testing.T) {
	reg := prometheus.NewRegistry()
	var said logbuf.Buffer
	b, err := New(Config{
		Ours: nobody(), Host: "p0", Cluster: "bench", Seeds: []string{"127.62.1.1:1"}, BindAddr: "127.62.1.2", BindPort: -1,
		Metrics: reg, Log: slog.New(slog.NewTextHandler(&said, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	eventually(t, "the bridge to listen", func() bool { return b.Status().Address != "" })
	say := func(length, state string) {
		tcp, err := net.Dial("tcp", b.Status().Address)
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		_, _ = io.WriteString(tcp, "\x06\x84\xabClusterName\xa5bench\xa5Nodes\x00\xacUserStateLen"+length+"\xa4Join\xc2"+state) // it may be cut off
		if c, ok := tcp.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, tcp) // until the bridge is done with it
	}
	service := func(id string) string {
		return fmt.Sprintf(`{"Servers":{"o1":{"Name":"o1","Services":{"a":{"ID":%q,"Name":"web","Hostname":"o1","Updated":%q}}}},"ClusterName":"bench"}`, id, time.Now().Format(time.RFC3339))
	}
	say("\xce\x01\x40\x00\x01", service("large")) // 20 MiB and a byte
	say("\xcd\xff\xff", service("cut"))           // of 64 kB
	fits := service("fits")
	say(string(binary.BigEndian.AppendUint16([]byte{0xcd}, uint16(len(fits)))), fits)
	eventually(t, "the state that fits", func() bool {
		h := b.loop.old.Load().Hosts["o1"]
		b.loop.poke()
		return h != nil && h.Services["fits"] != nil
	})
	if services := b.loop.old.Load().Hosts["o1"].Services; len(services) != 1 {
		t.Errorf("taken were %v", services)
	}
	if got := count(t, reg, "sidecar_bridge_refused_total")["oversized"]; got != 1 || !strings.Contains(said.String(), "20 MiB are taken") {
		t.Errorf("counted %v times:\n%s", got, said.String())
	}
	cancel()
	<-done
}

// An old Sidecar that was restarted knows only itself for a moment.
func TestImportWaitsBeforeItBelievesInAnEnd(t *testing.T) {
	im, err := NewImporter(ImportConfig{Ours: nobody(), URLs: []string{"http://old:7777"}})
	if err != nil {
		t.Fatal(err)
	}
	svc := func(host, id string) *pancake.Service {
		return &pancake.Service{Hostname: host, ID: id, Updated: time.Now()}
	}
	full := &client.State{Servers: map[string]*client.Server{
		"o1": {Services: map[string]*pancake.Service{"a": svc("o1", "a"), "b": svc("o1", "b"), "bad": nil}},
		"o2": {Services: map[string]*pancake.Service{"c": svc("o2", "c")}},
		"o3": nil,
	}}
	less := &client.State{Servers: map[string]*client.Server{"o1": {Services: map[string]*pancake.Service{"a": svc("o1", "a")}}}}
	take := func(s *client.State, now time.Time) (ended []string) {
		im.take(t.Context(), s, now)
		for _, r := range <-im.loop.incoming {
			if r.Status == pancake.Tombstone {
				ended = append(ended, r.Hostname+r.ID)
			}
		}
		return ended
	}
	now := time.Now()
	hosts := func() map[string]mirror.Presence { h, _ := im.hosts(now); return h }
	take(full, now)
	take(less, now.Add(time.Second))
	if ended := take(full, now.Add(20*time.Second)); len(ended) > 0 || hosts()["o2"] != mirror.Present {
		t.Errorf("ended %v, hosts %v", ended, hosts())
	}
	take(less, now.Add(21*time.Second))
	if ended := take(less, now.Add(21*time.Second+absence)); len(ended) != 2 || hosts()["o2"] != mirror.Gone || hosts()["o1"] != mirror.Present {
		t.Errorf("ended %v, hosts %v", ended, hosts())
	}
	if ended := take(less, now.Add(5*time.Minute)); len(ended) > 0 {
		t.Errorf("ended again: %v", ended)
	}
	if h, _ := im.hosts(now.Add(4 * time.Hour)); len(h) != 1 {
		t.Errorf("a host that went hours ago is remembered: %v", h)
	}
}

// A Sidecar whose watch fails is polled.
func TestImportPolls(t *testing.T) {
	var polls int
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/state.json" {
			http.Error(w, "not here", http.StatusNotFound)
			return
		}
		polls++
		fmt.Fprintf(w, `{"Servers":{"o1":{"Name":"o1","Services":{"a":{"ID":"a","Hostname":"o1","Status":0,"Updated":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	}))
	defer old.Close()
	taken := make(chan pancake.Service, 1024)
	ours := nobody()
	ours.Merge = func(_ context.Context, records []pancake.Service) {
		for _, r := range records {
			taken <- r
		}
	}
	im, err := NewImporter(ImportConfig{Ours: ours, URLs: []string{old.URL}, PollInterval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- im.Run(ctx) }()
	for range 3 { // the repetitions too
		select {
		case s := <-taken:
			if s.Hostname != "o1" || s.ID != "a" {
				t.Errorf("%+v", s)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was imported")
		}
	}
	if im.Ready() != nil {
		t.Error(im.Ready())
	}
	cancel()
	<-done
	if polls < 3 {
		t.Errorf("%d polls", polls)
	}
}

// A port that is taken is a conflict, as everywhere.
func TestPortIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.62.4.4:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(ln.Addr())
	}
	b, err := New(Config{
		Ours: nobody(), Host: "p0", Cluster: "bench", Seeds: []string{"127.62.4.1:1"}, BindAddr: "127.62.4.4", BindPort: addr.Port,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"asked": b.PortIsFree(t.Context()), "run": b.Run(t.Context())} {
		if pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%s: %s: %v", name, pancake.KindOf(err), err)
		}
	}
}
