//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pancake-stack/pancake/sidecar"
)

// sidecarNode describes a Sidecar that the test binary runs itself: one with a slow
// wire, or a wrong clock. Neither can be had from outside.
type sidecarNode struct {
	Hostname, IP, Static string
	Seeds                []string
	Delay                time.Duration // of each packet, one way
	Ahead                time.Duration // of the clock
}

// runSidecarNode runs the Sidecar until SIGTERM.
func runSidecarNode(text string) error {
	var n sidecarNode
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	slow, err := newSlowTransport(n.IP, n.Delay)
	if err != nil {
		return err
	}
	s, err := sidecar.New(sidecar.Config{
		Hostname: n.Hostname, AdvertiseIP: n.IP, BindAddr: n.IP, Seeds: n.Seeds, HTTPAddr: net.JoinHostPort(n.IP, "7777"),
		Discovery: []sidecar.Method{sidecar.ByStatic}, StaticFile: n.Static, Transport: slow,
		Now: func() time.Time { return time.Now().Add(n.Ahead) },
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// start runs it on the host.
func (n sidecarNode) start(t *testing.T, h host) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	args := h.on("env", sidecarVariable+"="+string(text), self)
	return startProgram(t, args[0], args[1:]...)
}

// slowTransport is real UDP and TCP on which everything takes a while longer, but for
// what a host sends to itself.
type slowTransport struct {
	*memberlist.NetTransport
	self  string
	delay time.Duration
}

func newSlowTransport(ip string, delay time.Duration) (*slowTransport, error) {
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{ip}, BindPort: 7946, Logger: log.New(io.Discard, "", 0),
	})
	return &slowTransport{t, net.JoinHostPort(ip, "7946"), delay}, err
}

func (t *slowTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (t *slowTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if a.Addr == t.self {
		return t.NetTransport.WriteToAddress(b, a)
	}
	packet := append([]byte(nil), b...) // memberlist reuses it
	time.AfterFunc(t.delay, func() {
		_, _ = t.NetTransport.WriteToAddress(packet, a) // as lost as any other
	})
	return time.Now(), nil
}

func (t *slowTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *slowTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	time.Sleep(2 * t.delay) // there and back
	c, err := t.NetTransport.DialAddressTimeout(a, timeout)
	if err != nil {
		return nil, err
	}
	return &slowConn{c, t.delay}, nil
}

// slowConn delays what is written: memberlist writes a message at a time.
type slowConn struct {
	net.Conn
	delay time.Duration
}

func (c *slowConn) Write(b []byte) (int, error) {
	time.Sleep(c.delay)
	return c.Conn.Write(b)
}

// manyHosts makes hosts that are all on one switch, and a link to it from here.
func manyHosts(t *testing.T, n int) []host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	id := fmt.Sprintf("pks-%x", os.Getpid()&0xffff)
	prefix := fmt.Sprintf("10.78.%d.", os.Getpid()%250+1)
	sw := id + "-s"
	t.Cleanup(func() { removeNamespace(t, sw) })
	ip(t, "netns", "add", sw)
	ip(t, "-n", sw, "link", "add", "br0", "type", "bridge")
	ip(t, "-n", sw, "link", "set", "br0", "up")
	here := id + "h"
	t.Cleanup(func() { ip(t, "link", "del", here) }) // which would take a while to follow its namespace
	ip(t, "link", "add", here, "type", "veth", "peer", "name", "here", "netns", sw)
	ip(t, "-n", sw, "link", "set", "here", "master", "br0", "up")
	ip(t, "addr", "add", prefix+"254/24", "dev", here)
	ip(t, "link", "set", here, "up")
	hosts := make([]host, n)
	for i := range hosts {
		h := host{name: fmt.Sprintf("%s-%d", id, i+1), link: "eth0", ip: fmt.Sprintf("%s%d", prefix, i+1)}
		hosts[i] = h
		t.Cleanup(func() { removeNamespace(t, h.name) })
		ip(t, "netns", "add", h.name)
		port := fmt.Sprintf("p%d", i+1)
		ip(t, "link", "add", h.link, "netns", h.name, "type", "veth", "peer", "name", port, "netns", sw)
		ip(t, "-n", sw, "link", "set", port, "master", "br0", "up")
		ip(t, "-n", h.name, "link", "set", "lo", "up")
		ip(t, "-n", h.name, "addr", "add", h.ip+"/24", "dev", h.link)
		ip(t, "-n", h.name, "link", "set", h.link, "up")
	}
	return hosts
}

func removeNamespace(t *testing.T, name string) {
	if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
		t.Errorf("ip netns del %s: %v: %s", name, err, out)
	}
}

// iptables runs the command of that name on the host.
func (h host) iptables(t *testing.T, args ...string) {
	t.Helper()
	line := h.on(append([]string{"iptables", "-w"}, args...)...)
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", line, err, out)
	}
}

// cut keeps two groups of hosts from hearing each other; heal ends that.
func cut(t *testing.T, a, b []host) (heal func()) {
	t.Helper()
	change := func(how string) {
		for _, x := range a {
			for _, y := range b {
				x.iptables(t, how, "INPUT", "-s", y.ip, "-j", "DROP")
				y.iptables(t, how, "INPUT", "-s", x.ip, "-j", "DROP")
			}
		}
	}
	change("-A")
	return func() { change("-D") }
}

// lose has a host lose that share of the packets of other hosts.
func (h host) lose(t *testing.T, share float64, from []host) {
	t.Helper()
	for _, o := range from {
		h.iptables(t, "-A", "INPUT", "-s", o.ip, "-m", "statistic", "--mode", "random", "--probability", fmt.Sprint(share), "-j", "DROP")
	}
}

// writeStatic replaces the file of a host's services, at once.
func writeStatic(t *testing.T, path string, names []string) {
	t.Helper()
	type entry struct {
		Service struct {
			Name, Image, ProxyMode string
			Ports                  []map[string]any
		}
		Check struct{ Type, Args string }
	}
	entries := make([]entry, len(names))
	for i, name := range names {
		e := &entries[i]
		e.Service.Name, e.Service.Image, e.Service.ProxyMode = name, "example/"+name+":1", "http"
		e.Service.Ports = []map[string]any{{"Type": "tcp", "Port": 31000 + i, "ServicePort": 10000 + i}}
		e.Check.Type = "AlwaysSuccessful"
	}
	text, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(next, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}
