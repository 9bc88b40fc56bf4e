package executor_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// sidecar answers as a Sidecar does, with what the test says.
type sidecar struct {
	url string

	mu      sync.Mutex
	state   client.State
	members []client.Member
	drained []string
	onDrain func(id string)
	changed chan struct{} // closed and replaced at each change
}

func newSidecar(t *testing.T) *sidecar {
	t.Helper()
	s := &sidecar{
		state: client.State{
			Hostname: "node-1",
			Servers:  map[string]*client.Server{"node-1": {Name: "node-1", Services: map[string]*pancake.Service{}}},
		},
		changed: make(chan struct{}),
	}
	srv := httptest.NewServer(s)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	s.url = srv.URL
	return s
}

func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/api/watch":
		for {
			s.mu.Lock()
			b, _ := json.Marshal(s.state)
			changed := s.changed
			s.mu.Unlock()
			_, _ = w.Write(b)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-changed:
			}
		}
	case r.URL.Path == "/api/members.json":
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"Members": s.members})
	case strings.HasSuffix(r.URL.Path, "/drain"):
		id := strings.Split(r.URL.Path, "/")[3]
		s.mu.Lock()
		s.drained = append(s.drained, id)
		onDrain := s.onDrain
		s.mu.Unlock()
		if onDrain != nil {
			onDrain(id)
		}
		s.announce(&pancake.Service{ID: id, Status: pancake.Draining})
		w.WriteHeader(http.StatusAccepted)
	default:
		http.NotFound(w, r)
	}
}

// announce puts a service into the catalogue.
func (s *sidecar) announce(service *pancake.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Servers["node-1"].Services[service.ID] = service
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sidecar) drains() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.drained...)
}
