package nameserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func tcp(ip string, port, service, container int64) pancake.ServicePort {
	return pancake.ServicePort{Type: "tcp", IP: ip, Port: port, ServicePort: service, ContainerPort: container}
}

func udp(ip string, port, service int64) pancake.ServicePort {
	return pancake.ServicePort{Type: "udp", IP: ip, Port: port, ServicePort: service}
}

func instance(name, host string, status pancake.ServiceStatus, ports ...pancake.ServicePort) pancake.Service {
	return pancake.Service{ID: name + host, Name: name, Hostname: host, Status: status, Created: noon, Updated: noon, Ports: ports}
}

// example is a catalogue of hosts whose zone is the first letter of their names.
func example() *catalog.Catalog {
	c := catalog.New("a1", "default")
	other := instance("prod-hello", "b9", pancake.Alive, tcp("10.9.9.9", 9, 9, 9))
	other.Created = noon.Add(time.Hour) // newer than the one whose name is the same when normalised
	c.Merge([]pancake.Service{
		instance("prod_Hello", "b1", pancake.Alive, tcp("10.0.1.1", 31000, 10080, 80), tcp("10.0.1.1", 31001, 0, 9090), udp("10.0.1.1", 31002, 53)),
		instance("prod_Hello", "a2", pancake.Alive, tcp("10.0.0.2", 31010, 10080, 80)),
		instance("prod_Hello", "a3", pancake.Sick, tcp("10.0.0.3", 31020, 10080, 80)),
		instance("prod_Hello", "b4", pancake.Draining, tcp("10.0.1.4", 31030, 10080, 80)),
		instance("prod_Hello", "b5", pancake.Tombstone, tcp("10.0.1.5", 31040, 10080, 80)),
		other,
		instance("six", "a2", pancake.Alive, tcp("fd00::2", 31050, 10081, 80)),
		instance("down", "a2", pancake.Sick, tcp("10.0.0.2", 31060, 10082, 80)),
		instance("gone", "a2", pancake.Tombstone, tcp("10.0.0.2", 31060, 10082, 80)),
		instance("wild", "a2", pancake.Alive, tcp("nowhere", 31070, 10083, 80), tcp("0.0.0.0", 31071, 10083, 80), tcp("10.0.0.2", 0, 10083, 80)),
		instance("...", "a2", pancake.Alive, tcp("10.0.0.2", 31080, 10084, 80)),
	}, noon)
	return c
}

func zoneOf(host string) string { return host[:1] }

var testZone = zone{domain: "pancake.internal.", ttl: 1, addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}

func exampleIndex() *index { return newIndex(example().Snapshot().Services(), "a1", zoneOf) }

// asIs is a shuffle that leaves the order alone.
func asIs(int, func(i, j int)) {}

// brief is a reply: its code and the data of its records, by section.
func brief(m *dns.Msg) string {
	out := []string{dns.RcodeToString[m.Rcode]}
	for _, section := range []struct {
		sign string
		list []dns.RR
	}{{"", m.Answer}, {"!", m.Ns}, {"+", m.Extra}} {
		for _, rr := range section.list {
			h := rr.Header()
			if h.Rrtype == dns.TypeSOA {
				out = append(out, section.sign+"SOA")
				continue
			}
			if h.Rrtype != dns.TypeOPT {
				out = append(out, section.sign+dns.TypeToString[h.Rrtype]+" "+strings.TrimPrefix(rr.String(), h.String()))
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestAnswers(t *testing.T) {
	const (
		nodata = "NOERROR, !SOA"
		no     = "NXDOMAIN, !SOA"
		here   = "SRV 1 1 31010 0a000002.addr.pancake.internal."
		there  = "SRV 2 1 31000 0a000101.addr.pancake.internal."
		both   = "NOERROR, " + here + ", " + there + ", +A 10.0.0.2, +A 10.0.1.1"
	)
	x := exampleIndex()
	for _, tt := range []struct{ name, kind, want string }{
		{"prod-hello.service", "A", "NOERROR, A 10.0.0.2, A 10.0.1.1"},
		{"PROD_hello.Service", "A", "NOERROR, A 10.0.0.2, A 10.0.1.1"},
		{"prod-hello.service", "AAAA", nodata},
		{"prod-hello.service", "SRV", both},
		{"prod-hello.service", "TXT", nodata},
		{"prod-hello.service", "ANY", `NOERROR, HINFO "RFC8482" ""`},
		{"10080.prod-hello.service", "SRV", both},
		{"80.prod-hello.service", "SRV", both}, // the container's port
		{"9090.prod-hello.service", "SRV", "NOERROR, SRV 2 1 31001 0a000101.addr.pancake.internal., +A 10.0.1.1"},
		{"9090.prod-hello.service", "A", "NOERROR, A 10.0.1.1"},
		{"81.prod-hello.service", "SRV", no},
		{"0.prod-hello.service", "A", no},
		{"65536.prod-hello.service", "A", no},
		{"http.prod-hello.service", "A", no},
		{"a.10080.prod-hello.service", "A", no},
		{"_prod-hello._tcp.service", "SRV", both},
		{"_prod_hello._tcp.service", "SRV", both},
		{"_prod-hello._udp.service", "SRV", "NOERROR, SRV 2 1 31002 0a000101.addr.pancake.internal., +A 10.0.1.1"},
		{"_prod-hello._sctp.service", "SRV", no},
		{"_down._udp.service", "SRV", no},
		{"_10080._tcp.prod-hello.service", "SRV", both},
		{"_10080._udp.prod-hello.service", "SRV", no},
		{"_53._udp.prod-hello.service", "SRV", "NOERROR, SRV 2 1 31002 0a000101.addr.pancake.internal., +A 10.0.1.1"},
		{"10080._tcp.prod-hello.service", "SRV", no},
		{"_tcp.prod-hello.service", "SRV", nodata},
		{"_udp.six.service", "SRV", no},
		{"_tcp.service", "SRV", nodata},
		{"prod-hello._tcp.service", "SRV", no},
		{"six.service", "AAAA", "NOERROR, AAAA fd00::2"},
		{"six.service", "A", nodata},
		{"six.service", "SRV", "NOERROR, SRV 1 1 31050 fd000000000000000000000000000002.addr.pancake.internal., +AAAA fd00::2"},
		{"down.service", "A", nodata}, // it exists, and nobody is well
		{"10082.down.service", "SRV", nodata},
		{"gone.service", "A", no},
		{"wild.service", "SRV", nodata},
		{"none.service", "A", no},
		{"none.service", "ANY", no},
		{"service", "A", nodata},
		{"addr", "A", nodata},
		{"0a000002.addr", "A", "NOERROR, A 10.0.0.2"},
		{"0A000002.addr", "AAAA", nodata},
		{"7f000001.addr", "A", no}, // no address of ours
		{"x.0a000002.addr", "A", no},
		{"other", "A", no},
		{"", "SOA", "NOERROR, SOA"},
		{"", "NS", "NOERROR, NS ns.pancake.internal., +A 10.0.0.1, +AAAA fd00::1"},
		{"", "A", nodata},
		{"ns", "A", "NOERROR, A 10.0.0.1"},
		{"", "AXFR", "REFUSED"},
		{"..example.com", "A", "REFUSED"},
		{"..xpancake.internal", "A", "REFUSED"},
		{"..internal", "A", "REFUSED"},
		{"..", "NS", "REFUSED"},
	} {
		name := tt.name + ".pancake.internal."
		if outside, ok := strings.CutPrefix(tt.name, ".."); ok {
			name = dns.Fqdn(outside)
		}
		req := new(dns.Msg).SetQuestion(strings.TrimPrefix(name, "."), dns.StringToType[tt.kind])
		m := testZone.answer(x, req, asIs, true)
		if got := brief(m); got != tt.want {
			t.Errorf("%s %s\ngot  %s\nwant %s", tt.name, tt.kind, got, tt.want)
		}
		if m.Id != req.Id || !m.Response || m.Question[0] != req.Question[0] || m.Authoritative != (m.Rcode != dns.RcodeRefused) {
			t.Errorf("%s: %v", tt.name, m)
		}
		for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
			if rr.Header().Ttl != 1 {
				t.Errorf("%s: %s may be kept for %d s", tt.name, rr, rr.Header().Ttl)
			}
		}
	}
}

func TestOddRequests(t *testing.T) {
	x := exampleIndex()
	for name, tt := range map[string]struct {
		change func(*dns.Msg)
		want   int
	}{
		"update":          {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"no question":     {func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		"two":             {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		"chaos":           {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		"EDNS 1":          {func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		"EDNS 0":          {func(m *dns.Msg) { m.SetEdns0(1232, true) }, dns.RcodeSuccess},
		"EDNS of 0 bytes": {func(m *dns.Msg) { m.SetEdns0(0, false) }, dns.RcodeSuccess},
	} {
		req := new(dns.Msg).SetQuestion("six.service.pancake.internal.", dns.TypeAAAA)
		tt.change(req)
		m := testZone.answer(x, req, asIs, true)
		if m.Rcode != tt.want || (m.IsEdns0() != nil) != (req.IsEdns0() != nil) {
			t.Errorf("%s: %v", name, m)
		}
	}
}

// many is a service with more instances than fit into a packet.
func many() *catalog.Catalog {
	c := catalog.New("a1", "default")
	var records []pancake.Service
	for i := range 300 {
		records = append(records, instance("many", fmt.Sprintf("b%d", i), pancake.Alive, tcp(fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), 31000, 10080, 80)))
	}
	records = append(records, instance("many", "a2", pancake.Alive, tcp("10.0.0.2", 31000, 10080, 80)))
	c.Merge(records, noon)
	return c
}

func TestTruncation(t *testing.T) {
	x := newIndex(many().Snapshot().Services(), "a1", zoneOf)
	for _, tt := range []struct {
		edns uint16
		udp  bool
		most int
	}{{0, true, 512}, {100, true, 512}, {1000, true, 1000}, {4096, true, 1232}, {0, false, 65535}, {512, false, 65535}} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeSRV} {
			req := new(dns.Msg).SetQuestion("many.service.pancake.internal.", kind)
			if tt.edns > 0 {
				req.SetEdns0(tt.edns, false)
			}
			m := testZone.answer(x, req, byChance, tt.udp)
			b, err := m.Pack()
			if err != nil || len(b) > tt.most || m.Truncated != tt.udp || !tt.udp && len(m.Answer) != 301 {
				t.Errorf("%+v: %d bytes, %d records, truncated %t, %v", tt, len(b), len(m.Answer), m.Truncated, err)
			}
			if len(m.Answer) == 0 || !strings.Contains(m.Answer[0].String(), "10.0.0.2") && !strings.Contains(m.Answer[0].String(), "0a000002") {
				t.Errorf("%+v: this host's zone is not first: %v", tt, m.Answer[:1])
			}
		}
	}
}

// TestShuffled asks often enough that each order of three must show.
func TestShuffled(t *testing.T) {
	c := catalog.New("a1", "default")
	for i := range 3 {
		c.Merge([]pancake.Service{instance("s", fmt.Sprintf("a%d", i), pancake.Alive, tcp(fmt.Sprintf("10.0.0.%d", i), 31000, 1, 1))}, noon)
	}
	x, orders := newIndex(c.Snapshot().Services(), "a1", zoneOf), map[string]bool{}
	for range 1000 { // that one is missing happens once in 10^78
		orders[brief(testZone.answer(x, new(dns.Msg).SetQuestion("s.service.pancake.internal.", dns.TypeA), byChance, true))] = true
	}
	if len(orders) != 6 {
		t.Errorf("%d orders: %v", len(orders), orders)
	}
}

func TestNormalise(t *testing.T) {
	for name, want := range map[string]string{
		"hello": "hello", "prod_Hello": "prod-hello", "registry:5000/a/b.c": "registry-5000-a-b-c", "--a__b--": "a-b", "é": "", "": "",
		strings.Repeat("a", 62) + "_bcd": strings.Repeat("a", 62), strings.Repeat("x", 100): strings.Repeat("x", 63),
	} {
		if got := Normalise(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		label := Normalise(rapid.String().Draw(t, "name"))
		if Normalise(label) != label {
			t.Fatalf("%q is not normalised", label)
		}
		if _, ok := dns.IsDomainName(label + ".service."); label != "" && (!ok || len(label) > 63) {
			t.Fatalf("%q is no label", label)
		}
	})
}

// FuzzAnswer: whatever arrives, the reply can be sent, is of the request, and fits.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"prod-hello.service.pancake.internal.", "_a._tcp.service.pancake.internal.", ".", `x\.pancake.internal.`, `\000.service.pancake.internal.`} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY, dns.TypeNS} {
			m := new(dns.Msg).SetQuestion(name, kind)
			m.SetEdns0(1400, true)
			b, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	x := exampleIndex()
	f.Fuzz(func(t *testing.T, packet []byte) {
		req := new(dns.Msg)
		if req.Unpack(packet) != nil {
			return // the server answers that itself
		}
		m := testZone.answer(x, req, byChance, true)
		b, err := m.Pack()
		if err != nil {
			t.Fatalf("%v\nto %v\ncannot be sent: %v", m, req, err)
		}
		if len(b) > maxUDP && len(req.Question) <= 1 || m.Id != req.Id || !m.Response {
			t.Fatalf("%d bytes: %v\nto %v", len(b), m, req)
		}
		if err := new(dns.Msg).Unpack(b); err != nil {
			t.Fatalf("%v cannot be read: %v", m, err)
		}
	})
}

// start runs a name server for a catalogue and returns where.
func start(t *testing.T, addr string, c *catalog.Catalog) (string, *feed.Feed[*catalog.Snapshot]) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	state := feed.New(c.Snapshot())
	s, err := New(Config{State: state, Listener: ln, Packets: packets, Zone: zoneOf, Advertise: testZone.addrs})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err == nil {
			t.Error("Run returned nil")
		}
	})
	return ln.Addr().String(), state
}

func ask(t *testing.T, addr, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 20 * time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, kind), addr)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestServer(t *testing.T) {
	c := example()
	addr, state := start(t, "127.22.5.1:0", c)
	for _, network := range []string{"udp", "tcp"} {
		if got := brief(ask(t, addr, network, "six.service.pancake.internal.", dns.TypeAAAA)); got != "NOERROR, AAAA fd00::2" {
			t.Errorf("%s: %s", network, got)
		}
	}
	down := instance("down", "a2", pancake.Alive, tcp("10.0.0.2", 31060, 10082, 80))
	down.Updated = noon.Add(time.Second)
	c.Merge([]pancake.Service{down}, noon)
	state.Set(c.Snapshot())
	for end := time.Now().Add(time.Minute); brief(ask(t, addr, "udp", "down.service.pancake.internal.", dns.TypeA)) != "NOERROR, A 10.0.0.2"; {
		if time.Now().After(end) {
			t.Fatal("a change is never answered with")
		}
	}
}

func TestServerTruncates(t *testing.T) {
	addr, _ := start(t, "127.22.5.2:0", many())
	if m := ask(t, addr, "udp", "many.service.pancake.internal.", dns.TypeA); !m.Truncated {
		t.Errorf("%d records over UDP, not truncated", len(m.Answer))
	}
	if m := ask(t, addr, "tcp", "many.service.pancake.internal.", dns.TypeA); m.Truncated || len(m.Answer) != 301 {
		t.Errorf("%d records over TCP, truncated %t", len(m.Answer), m.Truncated)
	}
}

// TestDig asks as people do.
func TestDig(t *testing.T) {
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("dig is not installed: apt install bind9-dnsutils")
	}
	addr, _ := start(t, "127.22.5.3:0", example())
	host, port, _ := net.SplitHostPort(addr)
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), dig, append([]string{"@" + host, "-p", port, "+tries=3", "+time=10"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("dig %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	want := "1 1 31010 0a000002.addr.pancake.internal.\n2 1 31000 0a000101.addr.pancake.internal.\n"
	if got := run("+short", "_prod-hello._tcp.service.pancake.internal", "SRV"); got != want {
		t.Errorf("SRV: %s", got)
	}
	if got := run("+short", "prod_hello.service.pancake.internal"); got != "10.0.0.2\n10.0.1.1\n" {
		t.Errorf("A: %s", got)
	}
	if got := run("+short", "+tcp", "six.service.pancake.internal", "AAAA"); got != "fd00::2\n" {
		t.Errorf("AAAA over TCP: %s", got)
	}
	if got := run("none.service.pancake.internal"); !strings.Contains(got, "status: NXDOMAIN") || !strings.Contains(got, "SOA") {
		t.Errorf("none: %s", got)
	}
	if got := run("+edns=5", "+noednsneg", "six.service.pancake.internal"); !strings.Contains(got, "BADVERS") {
		t.Errorf("EDNS 5: %s", got)
	}
}

func TestNew(t *testing.T) {
	state := feed.New(example().Snapshot())
	for name, cfg := range map[string]Config{
		"root": {State: state, Domain: "."}, "empty label": {State: state, Domain: "a..b"}, "long": {State: state, Domain: strings.Repeat("a.", 80)},
		"ttl": {State: state, TTL: time.Millisecond},
	} {
		if _, err := New(cfg); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := New(Config{State: state, Addr: "127.22.5.4:-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("an address that is none: %v", err)
	}
}

// TestZonesThatBecomeKnown: a host says where it is some time after its services are known.
func TestZonesThatBecomeKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known atomic.Bool
		s, err := New(Config{State: feed.New(example().Snapshot()), Zone: func(host string) string {
			if known.Load() {
				return zoneOf(host)
			}
			return ""
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.follow(ctx) }()
		known.Store(true)
		time.Sleep(time.Minute)
		for _, p := range s.index.Load().services["prod-hello"].ports {
			if here := p.addr.As4()[2] == 0; p.near != here {
				t.Errorf("%s is near: %t", p.addr, p.near)
			}
		}
		cancel()
		<-done
	})
}

// full is a listener on a host without file descriptors.
type full struct{ net.Listener }

func (full) Accept() (net.Conn, error) { return nil, syscall.EMFILE }

func TestAcceptDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, start := &limited{Listener: full{}, free: make(chan struct{}, 1)}, time.Now()
		for range 100 {
			if _, err := l.Accept(); err == nil {
				t.Fatal("accepted")
			}
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("a hundred failures within %s", took)
		}
	})
}
