package gossip_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
	"github.com/pancake-stack/pancake/sidecar/gossip"
)

// TestBadInput has a node of a real network hear what no honest peer says. It counts
// each reason, logs it once, and goes on.
func TestBadInput(t *testing.T) {
	for name, keys := range map[string][][]byte{"in clear": nil, "encrypted": {[]byte("0123456789abcdef")}} {
		t.Run(name, func(t *testing.T) {
			reg, log := prometheus.NewRegistry(), &logbuf.Buffer{}
			victim := begin(t, "victim", func(c *gossip.Config) {
				c.BindAddr, c.BindPort, c.Keys, c.Metrics = "127.20.255.1", -1, keys, reg
				c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
			})
			t.Cleanup(victim.stop)
			within(t, 30*time.Second, "it listens", func() bool { return len(victim.Members()) == 1 })
			address := victim.Members()[0].Address
			friend := begin(t, "friend", func(c *gossip.Config) {
				c.BindAddr, c.BindPort, c.Keys, c.Seeds = "127.20.255.2", -1, keys, []string{address}
			})
			t.Cleanup(friend.stop)
			stranger := func(label string, key []byte) (*memberlist.Memberlist, *memberlist.Node) {
				c := memberlist.DefaultLANConfig()
				c.Name, c.BindAddr, c.BindPort, c.Label, c.SecretKey, c.LogOutput = "stranger", "127.20.255.3", 0, label, key, io.Discard
				list, err := memberlist.Create(c)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := list.Shutdown(); err != nil {
						t.Error(err)
					}
				})
				to, err := net.ResolveUDPAddr("udp", address)
				if err != nil {
					t.Fatal(err)
				}
				return list, &memberlist.Node{Addr: to.IP, Port: uint16(to.Port)}
			}
			key := append([]byte(nil), bytes.Join(keys, nil)...)
			member, to := stranger("pancake/default", key)
			foreign, _ := stranger("pancake/other", key)
			var thief *memberlist.Memberlist
			if keys != nil {
				thief, _ = stranger("pancake/default", []byte("fedcba9876543210"))
			}
			good := gossip.Encode([]*pancake.Service{{Hostname: "h", ID: "1", Updated: time.Now(), Created: time.Unix(1, 0)}})
			bad := [][]byte{good[:len(good)-2], []byte("PNK\x02\x01\xff\xff\xff\xff"), []byte("PNK\x09\x01"), []byte("PNK\x02\x2a"), []byte("{}"), nil}
			raw := func(network string, b []byte) {
				conn, err := net.DialTimeout(network, address, 5*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = conn.Write(b) // it may hang up
				_ = conn.Close()
			}
			for range 5 {
				for _, b := range bad {
					_ = member.SendBestEffort(to, b) // it cannot be lost on loopback for long: five times
					_ = member.SendReliable(to, b)
				}
				_ = foreign.SendReliable(to, good)
				_ = foreign.SendBestEffort(to, good)
				if thief != nil {
					_ = thief.SendBestEffort(to, good)
					_ = thief.SendReliable(to, good)
				}
				for _, b := range []string{"x", "\xf4\x0fpancake/default", "\xf4\x0fpancake/default\x08", "\xf4\x0fpancake/default\x06\xff\xff", strings.Repeat("y", 3000)} {
					raw("udp", []byte(b))
					raw("tcp", []byte(b))
				}
			}
			count := func(reason string) float64 {
				n := 0.0
				families, err := reg.Gather()
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range families {
					for _, m := range f.GetMetric() {
						for _, l := range m.GetLabel() {
							if f.GetName() == "sidecar_gossip_refused_total" && l.GetValue() == reason {
								n += m.GetCounter().GetValue()
							}
						}
					}
				}
				return n
			}
			want := []string{"broken", "wrong cluster"}
			if thief != nil {
				want = append(want, "wrong key")
			}
			for _, reason := range want {
				within(t, 30*time.Second, "it is counted: "+reason, func() bool { return count(reason) >= 3 })
			}
			for _, reason := range want {
				if n := strings.Count(log.String(), reason); reason == "wrong cluster" && n > 1 {
					t.Errorf("%s is logged %d times:\n%s", reason, n, log)
				}
			}
			if n := strings.Count(log.String(), "\n"); n > 12 {
				t.Errorf("%d lines are logged:\n%s", n, log)
			}
			victim.Start("1", nil)
			within(t, 30*time.Second, "it goes on", func() bool { return friend.Sees("victim", "1") == "Alive" })
			if got := victim.Sees("h", "1"); got != "not known" {
				t.Errorf("it believed a stranger: %s", got)
			}
		})
	}
}
