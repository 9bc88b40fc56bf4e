package sidecar_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
)

// TestPortsThatAreTaken end Run at once, though nothing has been discovered: there is no
// Docker here.
func TestPortsThatAreTaken(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.62.5.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.62.5.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	portOf := func(a net.Addr) int {
		switch a := a.(type) {
		case *net.TCPAddr:
			return a.Port
		case *net.UDPAddr:
			return a.Port
		}
		t.Fatalf("%v has no port", a)
		return 0
	}
	taken := tcp.Addr().String()
	for name, tc := range map[string]struct {
		port   sidecar.Port
		addr   string
		change func(*sidecar.Config)
		kind   pancake.Kind
	}{
		"http":             {sidecar.PortHTTP, taken, func(c *sidecar.Config) { c.HTTPAddr = taken }, pancake.Conflict},
		"gossip":           {sidecar.PortGossip, taken, func(c *sidecar.Config) { c.BindPort = portOf(tcp.Addr()) }, pancake.Conflict},
		"gossip over UDP":  {sidecar.PortGossip, udp.LocalAddr().String(), func(c *sidecar.Config) { c.BindPort = portOf(udp.LocalAddr()) }, pancake.Conflict},
		"envoy":            {sidecar.PortEnvoy, taken, func(c *sidecar.Config) { c.EnvoyAddr = taken }, pancake.Conflict},
		"dns":              {sidecar.PortDNS, taken, func(c *sidecar.Config) { c.DNSAddr = taken }, pancake.Conflict},
		"dns over UDP":     {sidecar.PortDNS, udp.LocalAddr().String(), func(c *sidecar.Config) { c.DNSAddr = udp.LocalAddr().String() }, pancake.Conflict},
		"of another place": {sidecar.PortGossip, "192.0.2.1", func(c *sidecar.Config) { c.BindAddr = "192.0.2.1" }, pancake.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := sidecar.Config{Hostname: "n1", BindAddr: "127.62.5.1", BindPort: -1, HTTPAddr: "127.62.5.1:0", DockerHost: "unix:///nonexistent/docker.sock"}
			tc.change(&cfg)
			s, err := sidecar.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err = s.Run(ctx)
			of, ok := errors.AsType[*sidecar.PortError](err)
			if !ok || of.Port != tc.port || pancake.KindOf(err) != tc.kind || !strings.Contains(err.Error(), "cannot listen on "+tc.addr) {
				t.Errorf("%s: %v", pancake.KindOf(err), err)
			}
		})
	}
}

// TestDNSBeforeTheCatalogueIsComplete does not deny what may well be there.
func TestDNSBeforeTheCatalogueIsComplete(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.62.5.2:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := udp.LocalAddr().String()
	_ = udp.Close() // it was free a moment ago
	s, err := sidecar.New(sidecar.Config{
		Hostname: "n1", BindAddr: "127.62.5.2", BindPort: -1, HTTPAddr: "127.62.5.2:0", DockerHost: "unix:///nonexistent/docker.sock", DNSAddr: addr,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	query := new(dns.Msg).SetQuestion("web.service.pancake.internal.", dns.TypeA)
	eventually(t, "an answer", func() bool {
		answer, _, err := (&dns.Client{Timeout: time.Second}).Exchange(query, addr)
		if err == nil && answer.Rcode != dns.RcodeServerFailure {
			t.Errorf("the answer is %s", dns.RcodeToString[answer.Rcode])
		}
		return err == nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
