package api

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// State is a snapshot as Sidecar's JSON has it. It shares the snapshot's
// services: treat it as read-only.
func State(s *catalog.Snapshot) *client.State {
	out := &client.State{Servers: make(map[string]*client.Server, len(s.Hosts)), LastChanged: s.LastChanged, ClusterName: s.Cluster, Hostname: s.Self}
	for name, h := range s.Hosts {
		out.Servers[name] = &client.Server{Name: h.Name, Services: h.Services, LastUpdated: h.LastUpdated, LastChanged: h.LastChanged}
	}
	return out
}

// documents keeps the JSON of the latest snapshot, so that any number of
// watchers cost one encoding.
type documents struct {
	mu               sync.Mutex
	of               *catalog.Snapshot
	whole, byService []byte
}

// state is the document of /api/state.json.
func (d *documents) state(s *catalog.Snapshot) ([]byte, error) {
	return d.get(s, &d.whole, func() any { return State(s) })
}

// services is the default document of /api/watch.
func (d *documents) services(s *catalog.Snapshot) ([]byte, error) {
	return d.get(s, &d.byService, func() any { return s.ByService() })
}

func (d *documents) get(s *catalog.Snapshot, doc *[]byte, make func() any) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of != s {
		d.of, d.whole, d.byService = s, nil, nil
	}
	if *doc == nil {
		b, err := json.Marshal(make())
		if err != nil {
			return nil, fmt.Errorf("encode the catalogue: %w", err)
		}
		*doc = b
	}
	return *doc, nil
}
