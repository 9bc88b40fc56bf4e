package traefik

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Line is the configuration as one line of JSON, for consumers that decode it
// with encoding/json: pancake-ingress and the Traefik plugin. Defaults are
// written out, since such a consumer sets none. An empty map is written as {},
// which takes routes away where a missing one is ignored.
func (c *Configuration) Line() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // rules are full of && and stay readable
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("encode Traefik configuration: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Document is the same for Traefik's own HTTP and file providers, to which an
// empty map is an error and {} takes all routes away.
func (c *Configuration) Document() ([]byte, error) {
	out := *c
	if c.HTTP != nil {
		http := *c.HTTP
		dropEmpty(&http.Routers)
		dropEmpty(&http.Services)
		dropEmpty(&http.Middlewares)
		out.HTTP = &http
		if http.Routers == nil && http.Services == nil && http.Middlewares == nil {
			out.HTTP = nil
		}
	}
	return out.Line()
}

func dropEmpty[T any](m *map[string]T) {
	if len(*m) == 0 {
		*m = nil
	}
}
