package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// State is a snapshot as Sidecar's JSON has it. It shares the snapshot's
// services: treat it as read-only.
func State(s *catalog.Snapshot) *client.State {
	out := &client.State{Servers: make(map[string]*client.Server, len(s.Hosts)), LastChanged: s.LastChanged, ClusterName: s.Cluster, Hostname: s.Self}
	for name, h := range s.Hosts {
		out.Servers[name] = server(h)
	}
	return out
}

func server(h *catalog.Host) *client.Server {
	return &client.Server{Name: h.Name, Services: h.Services, LastUpdated: h.LastUpdated, LastChanged: h.LastChanged}
}

// documents keeps the JSON of the latest snapshot, so that any number of
// watchers cost one encoding, and that of each host, so that a change costs the
// encoding of one.
type documents struct {
	mu               sync.Mutex
	of               *catalog.Snapshot
	whole, byService []byte
	hosts            map[*catalog.Host][]byte // those of the last whole document
}

// state is the document of /api/state.json.
func (d *documents) state(s *catalog.Snapshot) ([]byte, error) {
	return d.get(s, &d.whole, d.encodeState)
}

// services is the default document of /api/watch.
func (d *documents) services(s *catalog.Snapshot) ([]byte, error) {
	return d.get(s, &d.byService, func(s *catalog.Snapshot) ([]byte, error) { return json.Marshal(s.ByService()) })
}

func (d *documents) get(s *catalog.Snapshot, doc *[]byte, encode func(*catalog.Snapshot) ([]byte, error)) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of != s {
		d.of, d.whole, d.byService = s, nil, nil
	}
	if *doc == nil {
		b, err := encode(s)
		if err != nil {
			return nil, fmt.Errorf("encode the catalogue: %w", err)
		}
		*doc = b
	}
	return *doc, nil
}

// encodeState is json.Marshal(State(s)), put together from the hosts.
func (d *documents) encodeState(s *catalog.Snapshot) ([]byte, error) {
	hosts, size := make(map[*catalog.Host][]byte, len(s.Hosts)), 256
	for _, h := range s.Hosts {
		b, ok := d.hosts[h]
		if !ok {
			var err error
			if b, err = json.Marshal(map[string]*client.Server{h.Name: server(h)}); err != nil {
				return nil, err
			}
			b = b[1 : len(b)-1] // without its braces: "name":{…}
		}
		hosts[h] = b
		size += len(b) + 1
	}
	empty := *s
	empty.Hosts = nil
	frame, err := json.Marshal(State(&empty))
	if err != nil {
		return nil, err
	}
	const head = `{"Servers":{`
	out := append(make([]byte, 0, size+len(frame)), head...)
	for i, name := range slices.Sorted(maps.Keys(s.Hosts)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, hosts[s.Hosts[name]]...)
	}
	d.hosts = hosts
	return append(out, frame[len(head):]...), nil
}
