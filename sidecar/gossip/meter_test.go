package gossip

import (
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// holding is a transport that, as memberlist's own, ends only when what it holds has been taken.
type holding struct {
	memberlist.Transport
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (h *holding) PacketCh() <-chan *memberlist.Packet { return h.packets }
func (h *holding) StreamCh() <-chan net.Conn           { return h.streams }

func (h *holding) Shutdown() error {
	h.packets <- &memberlist.Packet{}
	near, _ := net.Pipe()
	h.streams <- near
	return nil
}

func TestMeterEndsThoughNobodyReads(t *testing.T) {
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "n"})
	h := &holding{packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	w := newMeter(h, traffic{counter, counter, counter, counter})
	h.packets <- &memberlist.Packet{}
	ended := make(chan error)
	go func() { ended <- w.Shutdown() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the transport does not end")
	}
}
