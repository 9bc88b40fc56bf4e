package gossip

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	received, sent, refused, compared, doubts *prometheus.CounterVec
	traffic                                   traffic
}

func newMetrics(to prometheus.Registerer) metrics {
	reg := promauto.With(to)
	counter := func(name, help, label string) *prometheus.CounterVec {
		return reg.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	size := counter("sidecar_gossip_bytes_total", "Bytes of gossip, without the headers of IP, UDP and TCP, by direction: sent or received.", "direction")
	packets := counter("sidecar_gossip_packets_total", "UDP packets of gossip by direction: sent or received.", "direction")
	return metrics{
		received: counter("sidecar_gossip_received_total", "Messages of peers by kind: packet, comparison or state.", "kind"),
		sent:     counter("sidecar_gossip_sent_total", "Messages to peers by kind: burst, packet, comparison or state.", "kind"),
		refused: counter("sidecar_gossip_refused_total",
			"Messages of peers that were not taken, by reason: broken, busy, checksum, oversized, wrong cluster, wrong key, not for us, no member or member mirrored.", "reason"),
		compared: counter("sidecar_gossip_compared_total", "Comparisons that this node began because of a difference, by what was compared: host, all, members or offer.", "what"),
		doubts:   counter("sidecar_gossip_doubts_total", "Members that memberlist believed dead, by what they said to this node's questions: answered, accepted a connection, refused it, were silent; and dead in the end.", "outcome"),
		traffic: traffic{
			sent: size.WithLabelValues("sent"), received: size.WithLabelValues("received"),
			packetsSent: packets.WithLabelValues("sent"), packetsReceived: packets.WithLabelValues("received"),
		},
	}
}
