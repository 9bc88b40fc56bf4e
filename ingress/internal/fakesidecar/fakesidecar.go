// Package fakesidecar is the stream of a sidecar, for tests.
package fakesidecar

import (
	"io"
	"net/http"
	"sync"
)

// Sidecar serves GET /api/traefik?watch=true as a sidecar does: the current
// line at once, and every line that is set from then on.
type Sidecar struct {
	mu      sync.Mutex
	line    string
	streams map[chan string]struct{}
	total   int
}

// New returns a Sidecar whose current line is line.
func New(line string) *Sidecar {
	return &Sidecar{line: line, streams: map[chan string]struct{}{}}
}

// Set makes line the current one and sends it.
func (s *Sidecar) Set(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = line
	for c := range s.streams {
		c <- line
	}
}

// Hangup ends all streams.
func (s *Sidecar) Hangup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.streams {
		close(c)
		delete(s.streams, c)
	}
}

// Streams counts the streams that were ever opened.
func (s *Sidecar) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (s *Sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.URL.Path != "/api/traefik" || r.URL.Query().Get("watch") != "true" {
		http.NotFound(w, r)
		return
	}
	lines := make(chan string, 100) // more than any test sends at once
	s.mu.Lock()
	lines <- s.line
	s.streams[lines] = struct{}{}
	s.total++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, lines)
	}()
	for {
		select {
		case <-r.Context().Done():
			return
		case line, open := <-lines:
			if !open {
				return
			}
			if _, err := io.WriteString(w, line+"\n"); err != nil {
				return
			}
			if http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	}
}
