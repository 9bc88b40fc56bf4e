package rfc2136_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake/goavail/dns/dnstest"
	"github.com/pancake-stack/pancake/goavail/dns/rfc2136"
)

const (
	zone        = "example.test"
	secret      = "c2VjcmV0IG9mIHRoZSBjb250cmFjdCBvZiBnb2F2YWls"
	otherSecret = "YW5vdGhlciBzZWNyZXQgb2YgdGhlIGNvbnRyYWN0IQ=="
)

// The configuration is the one that docs/goavail/providers.md recommends, with
// other keys beside it.
const namedConf = `
options {
	directory "%[1]s";
	listen-on port %[3]s { %[2]s; };
	listen-on-v6 { none; };
	pid-file none;
	session-keyfile none;
	recursion no;
	notify no;
	dnssec-validation no;
	empty-zones-enable no;
	allow-transfer { key admin; };
};
controls { };
key goavail { algorithm hmac-sha256; secret "%[4]s"; };
key admin { algorithm hmac-sha512; secret "%[4]s"; };
key narrow { algorithm hmac-sha256; secret "%[4]s"; };
key reader { algorithm hmac-sha256; secret "%[4]s"; };
zone "example.test" {
	type primary;
	file "zone";
	update-policy {
		grant goavail zonesub A AAAA CNAME TXT;
		grant narrow name www.example.test A AAAA;
		grant narrow name _goavail-a.www.example.test TXT;
		grant narrow name _goavail-aaaa.www.example.test TXT;
		grant admin zonesub ANY;
	};
};
zone "sub.example.test" {
	type primary;
	file "sub";
	update-policy { grant goavail zonesub A AAAA CNAME TXT; grant admin zonesub ANY; };
};
zone "other.test" { type primary; file "other"; update-policy { grant admin zonesub ANY; }; };
`

const zoneFile = `$TTL 600
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.31.1.1
`

// bind is a real BIND, as a child of the test.
type bind struct {
	addr  string
	admin mdns.Client
}

func named(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../../bin/tools/bind/named")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("named"); err != nil {
			t.Fatal("BIND is missing: run scripts/bind.sh")
		}
	}
	return path
}

func startBind(t *testing.T) *bind {
	path, dir := named(t), t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // BIND listens on addresses of interfaces only
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	host, port, _ := net.SplitHostPort(addr)
	for name, text := range map[string]string{
		"named.conf": fmt.Sprintf(namedConf, dir, host, port, secret),
		"zone":       zoneFile + "sub IN NS ns.sub\nns.sub IN A 127.31.1.1\n", "sub": zoneFile, "other": zoneFile,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	cmd := exec.Command(path, "-g", "-4", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start BIND: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("BIND said:\n%s", log.String())
		}
	})
	b := &bind{addr: addr, admin: mdns.Client{Net: "tcp", Timeout: 10 * time.Second, TsigSecret: map[string]string{"admin.": secret}}}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if answer, err := mdns.Exchange(new(mdns.Msg).SetQuestion(zone+".", mdns.TypeSOA), addr); err == nil && answer.Authoritative {
			return b
		}
		if time.Now().After(end) {
			t.Fatal("BIND does not answer")
		}
	}
}

// update makes changes as an administrator does, with nsupdate.
func (b *bind) update(t *testing.T, in string, change func(*mdns.Msg)) {
	t.Helper()
	m := new(mdns.Msg).SetUpdate(in + ".")
	change(m)
	m.SetTsig("admin.", mdns.HmacSHA512, 300, time.Now().Unix())
	answer, _, err := b.admin.ExchangeContext(t.Context(), m, b.addr)
	if err != nil || answer.Rcode != mdns.RcodeSuccess {
		t.Fatalf("update: %v %v", err, answer)
	}
}

// transfer lists a zone.
func (b *bind) transfer(t *testing.T, name string) []mdns.RR {
	t.Helper()
	m := new(mdns.Msg).SetAxfr(name + ".")
	m.SetTsig("admin.", mdns.HmacSHA512, 300, time.Now().Unix())
	tr := &mdns.Transfer{TsigSecret: b.admin.TsigSecret}
	messages, err := tr.In(m, b.addr)
	if err != nil {
		t.Fatal(err)
	}
	var out []mdns.RR
	for e := range messages {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		out = append(out, e.RR...)
	}
	return out
}

func zoneOf(name string) string {
	if strings.HasSuffix(name, "sub."+zone) {
		return "sub." + zone
	}
	return zone
}

func (b *bind) add(t *testing.T, records ...dnstest.Record) {
	for some := range slices.Chunk(records, 200) {
		b.update(t, zoneOf(some[0].Name), func(m *mdns.Msg) {
			for _, r := range some {
				m.Insert([]mdns.RR{rr(t, r)})
			}
		})
	}
}

func rr(t *testing.T, r dnstest.Record) mdns.RR {
	t.Helper()
	value := r.Value
	if r.Type == "CNAME" {
		value = mdns.Fqdn(value)
	}
	out, err := mdns.NewRR(fmt.Sprintf("%s. %d IN %s %s", r.Name, r.TTL, r.Type, value))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (b *bind) records(t *testing.T) []dnstest.Record {
	var out []dnstest.Record
	for _, name := range []string{zone, "sub." + zone} {
		for _, rr := range b.transfer(t, name) {
			h := rr.Header()
			if h.Rrtype == mdns.TypeSOA || h.Rrtype == mdns.TypeNS || strings.HasPrefix(h.Name, "ns.") {
				continue
			}
			value := strings.TrimPrefix(rr.String(), h.String())
			if h.Rrtype == mdns.TypeCNAME {
				value = strings.TrimSuffix(value, ".")
			}
			out = append(out, dnstest.Record{
				Name: strings.TrimSuffix(h.Name, "."), Type: mdns.TypeToString[h.Rrtype], Value: value, TTL: int(h.Ttl),
			})
		}
	}
	return out
}

// writes are the changes of the zones, which their serials count.
func (b *bind) writes(t *testing.T) int {
	n := 0
	for _, name := range []string{zone, "sub." + zone} {
		if soa, ok := b.transfer(t, name)[0].(*mdns.SOA); ok {
			n += int(soa.Serial)
		}
	}
	return n
}

func (b *bind) resolve(t *testing.T, name, typ string) []string {
	t.Helper()
	answer, err := mdns.ExchangeContext(t.Context(), new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.StringToType[typ]), b.addr)
	if err != nil {
		t.Fatalf("resolve %s: %v", name, err)
	}
	var out []string
	for _, rr := range answer.Answer {
		if mdns.TypeToString[rr.Header().Rrtype] == typ {
			out = append(out, strings.TrimSuffix(mdns.Field(rr, 1), "."))
		}
	}
	slices.Sort(out)
	return out
}

func (b *bind) provider(t *testing.T, cfg rfc2136.Config) *rfc2136.Provider {
	t.Helper()
	if cfg.Server == "" {
		cfg.Server = b.addr
	}
	cfg.Timeout = 2 * time.Second
	p, err := rfc2136.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// proxy is a way to BIND on which messages get lost.
type proxy struct {
	to   string
	addr string

	mu     sync.Mutex
	fault  string // for the next update
	broken bool
	calls  int
}

func startProxy(t *testing.T, to string) *proxy {
	ln, err := net.Listen("tcp", "127.31.1.2:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: to, addr: ln.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return p
}

func (p *proxy) serve(conn *net.TCPConn) {
	defer conn.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		raw, err := receive(conn)
		if err != nil {
			return
		}
		fault := p.next(raw)
		var answer []byte
		if fault != dnstest.TimeoutBefore && fault != dnstest.ResetBefore && fault != "broken" {
			if send(server, raw) != nil {
				return
			}
			if answer, err = receive(server); err != nil {
				return
			}
		}
		switch fault {
		case dnstest.TimeoutBefore, dnstest.TimeoutAfter:
			_, _ = io.Copy(io.Discard, conn) // until the client gives up
			return
		case dnstest.ResetBefore, dnstest.ResetAfter:
			_ = conn.SetLinger(0)
			return
		case dnstest.StatusAfter, "broken":
			m := new(mdns.Msg)
			if m.Unpack(raw) != nil {
				return
			}
			if answer, err = new(mdns.Msg).SetRcode(m, mdns.RcodeServerFailure).Pack(); err != nil {
				return
			}
		}
		if send(conn, answer) != nil {
			return
		}
	}
}

// next says what goes wrong with a message.
func (p *proxy) next(raw []byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.broken {
		return "broken"
	}
	m := new(mdns.Msg)
	if m.Unpack(raw) != nil || m.Opcode != mdns.OpcodeUpdate || len(m.Ns) == 0 {
		return ""
	}
	fault := p.fault
	p.fault = ""
	return fault
}

func (p *proxy) set(change func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func receive(r io.Reader) ([]byte, error) {
	var size uint16
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	raw := make([]byte, size)
	_, err := io.ReadFull(r, raw)
	return raw, err
}

func send(w io.Writer, raw []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
	return err
}
