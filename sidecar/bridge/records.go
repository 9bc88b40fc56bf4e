package bridge

import (
	"encoding/json"
	"fmt"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// maxRecord is the most that the JSON of one service may have, in bytes, on the
// old side. There a message has to fit into a packet of 1,400 with memberlist's
// headers; a larger one would block a Sidecar's queue for good.
const maxRecord = 1300

// shape gives a record of ours the form in which a NinesStack Sidecar takes it.
// It has only Sidecar's own fields; what is still too large loses its image,
// then its ports that no proxy uses. It returns false if even that is not enough.
func shape(s *pancake.Service) (out pancake.Service, ok bool) {
	out = *s
	out.Labels, out.Task, out.Note = nil, "", ""
	out.Ports = make([]pancake.ServicePort, len(s.Ports)) // never null
	for i, p := range s.Ports {
		p.ContainerPort = 0
		out.Ports[i] = p
	}
	if size(&out) <= maxRecord {
		return out, true
	}
	out.Image = ""
	if size(&out) <= maxRecord {
		return out, true
	}
	proxied := []pancake.ServicePort{}
	for _, p := range out.Ports {
		if p.ServicePort != 0 {
			proxied = append(proxied, p)
		}
	}
	out.Ports = proxied
	return out, size(&out) <= maxRecord
}

// shortened reports whether shape has left out more than what is ours alone.
func shortened(s, shaped *pancake.Service) bool {
	return s.Image != shaped.Image || len(s.Ports) != len(shaped.Ports)
}

func size(s *pancake.Service) int {
	b, err := json.Marshal(s)
	if err != nil {
		return maxRecord + 1 // a year that RFC 3339 cannot write; catalog.Valid keeps it out
	}
	return len(b)
}

// decodeRecord reads a message of theirs: the JSON of one service.
func decodeRecord(b []byte) (pancake.Service, error) {
	var s pancake.Service
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("a message is not the JSON of a service: %w", err)
	}
	s.Labels, s.Task, s.Note = nil, "", "" // they have none; whoever says otherwise could make routes here
	return s, catalog.Valid(&s)
}

// decodeState reads a state of theirs. A service that is broken costs the
// others nothing; the error is about the first.
func decodeState(b []byte) (cluster string, records []pancake.Service, err error) {
	var state struct {
		ClusterName string
		Servers     map[string]struct {
			Services map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &state); err != nil {
		return "", nil, fmt.Errorf("a state is not JSON: %w", err)
	}
	for _, server := range state.Servers {
		for _, raw := range server.Services {
			s, bad := decodeRecord(raw)
			if bad == nil {
				records = append(records, s)
			} else if err == nil {
				err = bad
			}
		}
	}
	return state.ClusterName, records, err
}

// encodeState is the state that a Sidecar of theirs reads.
func encodeState(s *catalog.Snapshot) ([]byte, error) {
	out := client.State{Servers: make(map[string]*client.Server, len(s.Hosts)), LastChanged: s.LastChanged, ClusterName: s.Cluster, Hostname: s.Self}
	for name, h := range s.Hosts {
		out.Servers[name] = &client.Server{Name: name, Services: h.Services, LastUpdated: h.LastUpdated, LastChanged: h.LastChanged}
	}
	return json.Marshal(out)
}

// meta is what a bridge says of itself in the old cluster. Sidecars hand it on
// unread; bridges know each other by it.
type meta struct {
	ClusterName string
	State       string
	// Bridge is the name under which the bridge's host is a member of our cluster.
	Bridge string `json:"PancakeBridge,omitempty"`
}

// bridgeOf returns the host of ours on which the bridge runs whose meta data b
// is, "" for a Sidecar.
func bridgeOf(b []byte) string {
	var m meta
	if json.Unmarshal(b, &m) != nil {
		return ""
	}
	return m.Bridge
}
