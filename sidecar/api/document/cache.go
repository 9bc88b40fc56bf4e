package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// Cache keeps the documents of the latest snapshot. The zero value is empty and
// ready; it is safe for concurrent use.
type Cache struct {
	state, byService, services kind
}

// kind is one document of the latest snapshot.
type kind struct {
	mu      sync.Mutex
	of      *catalog.Snapshot
	members []client.Member
	doc     *Document
	tail    int // where what follows the services begins
	spans   map[*pancake.Service]span
}

// span is where in the body a service is. The records of a catalogue are never
// modified, so the same pointer is the same JSON.
type span struct{ start, end int }

// writer puts a document together from what the last one has.
type writer struct {
	out   []byte
	last  []byte
	spans map[*pancake.Service]span
	next  map[*pancake.Service]span
}

func (k *kind) writer(services int) *writer {
	w := &writer{spans: k.spans, next: make(map[*pancake.Service]span, services)}
	if k.doc != nil {
		w.last = k.doc.Body
	}
	w.out = make([]byte, 0, len(w.last)+4096)
	return w
}

func (w *writer) text(parts ...string) {
	for _, p := range parts {
		w.out = append(w.out, p...)
	}
}

// service appends a record, as its last encoding or with encode.
func (w *writer) service(s *pancake.Service, encode func(*pancake.Service) ([]byte, error)) error {
	start := len(w.out)
	if at, ok := w.spans[s]; ok {
		w.out = append(w.out, w.last[at.start:at.end]...)
	} else {
		b, err := encode(s)
		if err != nil {
			return fmt.Errorf("encode service %s of host %s: %w", s.ID, s.Hostname, err)
		}
		w.out = append(w.out, b...)
	}
	w.next[s] = span{start, len(w.out)}
	return nil
}

// name appends a string as JSON has it.
func (w *writer) name(s string) {
	b, _ := json.Marshal(s) // a string always has an encoding
	w.out = append(w.out, b...)
}

func (k *kind) keep(s *catalog.Snapshot, w *writer, tail int) {
	k.of, k.doc, k.spans, k.tail = s, New(w.out), w.next, tail
}

func marshal(s *pancake.Service) ([]byte, error) { return json.Marshal(s) }

// entry encodes a record as it stands in the document of State: "id":{…}.
func entry(s *pancake.Service) ([]byte, error) {
	b, err := json.Marshal(map[string]*pancake.Service{s.ID: s})
	if err != nil {
		return nil, err
	}
	return b[1 : len(b)-1], nil
}

// State is the document of /api/state.json: json.Marshal(State(s)).
func (c *Cache) State(s *catalog.Snapshot) (*Document, error) {
	k := &c.state
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.makeState(s); err != nil {
		return nil, err
	}
	return k.doc, nil
}

// StateAt is the document of State with another time of the last change.
func (c *Cache) StateAt(s *catalog.Snapshot, lastChanged time.Time) ([]byte, error) {
	k := &c.state
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.makeState(s); err != nil {
		return nil, err
	}
	frame, err := stateFrame(s, lastChanged)
	if err != nil {
		return nil, err
	}
	return append(slices.Clip(k.doc.Body[:k.tail]), frame...), nil
}

const stateHead = `{"Servers":{`

// stateFrame is what follows the hosts in the document of State.
func stateFrame(s *catalog.Snapshot, lastChanged time.Time) ([]byte, error) {
	empty := catalog.Snapshot{Self: s.Self, Cluster: s.Cluster, LastChanged: lastChanged}
	frame, err := json.Marshal(State(&empty))
	if err != nil {
		return nil, fmt.Errorf("encode the catalogue: %w", err)
	}
	return frame[len(stateHead):], nil
}

func (k *kind) makeState(s *catalog.Snapshot) error {
	if k.of == s {
		return nil
	}
	w := k.writer(s.Len())
	w.text(stateHead)
	for i, name := range slices.Sorted(maps.Keys(s.Hosts)) {
		if i > 0 {
			w.text(",")
		}
		h := s.Hosts[name]
		w.name(name)
		w.text(`:{"Name":`)
		w.name(h.Name)
		w.text(`,"Services":{`)
		for j, id := range slices.Sorted(maps.Keys(h.Services)) {
			if j > 0 {
				w.text(",")
			}
			if err := w.service(h.Services[id], entry); err != nil {
				return err
			}
		}
		times, err := json.Marshal(struct{ LastUpdated, LastChanged time.Time }{h.LastUpdated, h.LastChanged})
		if err != nil {
			return fmt.Errorf("encode host %s: %w", name, err)
		}
		w.text("},", string(times[1:]))
	}
	tail := len(w.out)
	frame, err := stateFrame(s, s.LastChanged)
	if err != nil {
		return err
	}
	w.out = append(w.out, frame...)
	k.keep(s, w, tail)
	return nil
}

// State is a snapshot as Sidecar's JSON has it. It shares the snapshot's
// services: treat it as read-only.
func State(s *catalog.Snapshot) *client.State {
	out := &client.State{Servers: make(map[string]*client.Server, len(s.Hosts)), LastChanged: s.LastChanged, ClusterName: s.Cluster, Hostname: s.Self}
	for name, h := range s.Hosts {
		out.Servers[name] = &client.Server{Name: h.Name, Services: h.Services, LastUpdated: h.LastUpdated, LastChanged: h.LastChanged}
	}
	return out
}

// ByService is the default document of /api/watch: json.Marshal(s.ByService()).
func (c *Cache) ByService(s *catalog.Snapshot) (*Document, error) {
	k := &c.byService
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.makeByService(s); err != nil {
		return nil, err
	}
	return k.doc, nil
}

func (k *kind) makeByService(s *catalog.Snapshot) error {
	if k.of == s {
		return nil
	}
	services := s.Services()
	w := k.writer(len(services))
	w.text("{")
	for i, svc := range services {
		switch {
		case i > 0 && services[i-1].Name == svc.Name:
			w.text(",")
		default:
			if i > 0 {
				w.text("],")
			}
			w.name(svc.Name)
			w.text(":[")
		}
		if err := w.service(svc, marshal); err != nil {
			return err
		}
	}
	if len(services) > 0 {
		w.text("]")
	}
	w.text("}")
	k.keep(s, w, len(w.out))
	return nil
}

// List encodes some services of a snapshot, in the order given, as {"Services":[…]}.
func (c *Cache) List(s *catalog.Snapshot, services []*pancake.Service) (*Document, error) {
	k := &c.byService
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.makeByService(s); err != nil {
		return nil, err
	}
	out := []byte(`{"Services":[`)
	for i, svc := range services {
		if i > 0 {
			out = append(out, ',')
		}
		at := k.spans[svc]
		out = append(out, k.doc.Body[at.start:at.end]...)
	}
	return New(append(out, "]}\n"...)), nil
}

// Services is the document of /api/services.json, laid out as Sidecar does.
func (c *Cache) Services(s *catalog.Snapshot, members []client.Member) (*Document, error) {
	k := &c.services
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == s && slices.Equal(k.members, members) {
		return k.doc, nil
	}
	// The frame is a document without services, {"Services": {},…}, and they go
	// between its braces.
	frame, err := json.MarshalIndent(Services{Services: map[string][]*pancake.Service{}, ClusterMembers: hosts(s, members), ClusterName: s.Cluster}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the members: %w", err)
	}
	const head = "{\n  \"Services\": {"
	services := s.Services()
	w := k.writer(len(services))
	w.text(head)
	for i, svc := range services {
		switch {
		case i > 0 && services[i-1].Name == svc.Name:
			w.text(",\n      ")
		default:
			if i > 0 {
				w.text("\n    ],")
			}
			w.text("\n    ")
			w.name(svc.Name)
			w.text(": [\n      ")
		}
		if err := w.service(svc, indented); err != nil {
			return nil, err
		}
	}
	if len(services) > 0 {
		w.text("\n    ]\n  ")
	}
	tail := len(w.out)
	w.out = append(w.out, frame[len(head):]...)
	k.keep(s, w, tail)
	k.members = slices.Clone(members)
	return k.doc, nil
}

// indented encodes a record as it stands in the document of Services.
func indented(s *pancake.Service) ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, b, "      ", "  ")
	return out.Bytes(), err
}

// Services is the answer of /api/services.json and /api/services/<name>.json.
type Services struct {
	Services       map[string][]*pancake.Service
	ClusterMembers map[string]Host `json:",omitempty"`
	ClusterName    string
}

// Host is Sidecar's ApiServer.
type Host struct {
	Name         string
	LastUpdated  time.Time
	ServiceCount int
}

// hosts are the members that are alive, and how many services they announce.
func hosts(s *catalog.Snapshot, members []client.Member) map[string]Host {
	out := map[string]Host{}
	for _, m := range members {
		if m.State != client.MemberAlive {
			continue
		}
		host := Host{Name: m.Name, LastUpdated: time.Unix(0, 0).UTC()}
		if h := s.Hosts[m.Name]; h != nil {
			host.LastUpdated, host.ServiceCount = h.LastUpdated, len(h.Services)
		}
		out[m.Name] = host
	}
	return out
}
