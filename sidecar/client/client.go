// Package client talks to a Sidecar over its HTTP API: Client calls it and follows
// it, Receiver takes what it posts to listeners. The package reaches only the
// standard library and the words, so any Go program may import it.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

// silence is how long a watch may be quiet before it counts as broken. A
// Sidecar repeats its state at least every 10 s.
const silence = 30 * time.Second

// maxDocument bounds one document of a watch: 10,000 services are about 5 MB.
const maxDocument = 64 << 20

// Client talks to the Sidecar at URL.
type Client struct {
	// URL is where the Sidecar listens. Default http://127.0.0.1:7777.
	URL string
	// HTTP makes the requests. Default: a client of its own without a total
	// timeout, since a watch has no end.
	HTTP *http.Client
	// Timeout bounds each call but Watch. Default 2 s, sidecar-executor's EXECUTOR_HTTP_TIMEOUT.
	Timeout time.Duration
}

// State fetches the whole catalogue.
func (c *Client) State(ctx context.Context) (*State, error) {
	var s State
	if err := c.call(ctx, http.MethodGet, "/api/state.json", nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Members lists the gossip cluster, the dead included.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var out struct{ Members []Member }
	err := c.call(ctx, http.MethodGet, "/api/members.json", nil, &out)
	return out.Members, err
}

// Drain takes the service with this ID, which must be on the Sidecar's own
// host, out of traffic. Calling it again does no harm.
func (c *Client) Drain(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/api/services/"+url.PathEscape(id)+"/drain", nil, nil)
}

// Watch calls fn with the whole state at once and after every change, until
// ctx ends, the Sidecar goes away or fn fails. It never returns nil; the caller retries.
func (c *Client) Watch(ctx context.Context, fn func(*State) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(silence, func() {
		cancel(pancake.Errorf(pancake.Unavailable, "sidecar at %s was silent for %s", c.base(), silence))
	})
	defer idle.Stop()
	resp, err := c.do(ctx, http.MethodGet, "/api/watch?by_service=false", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := bound(resp.Body)
	dec := json.NewDecoder(body)
	for {
		body.left = maxDocument
		var s State
		if err := dec.Decode(&s); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return pancake.Errorf(pancake.Unavailable, "watch sidecar at %s: %w", c.base(), err)
		}
		idle.Stop() // how long the caller takes is no silence
		if err := fn(&s); err != nil {
			return err
		}
		idle.Reset(silence)
	}
}

// Raw makes a call that has no method of its own, such as a debug document's, and returns
// the answer as it is.
func (c *Client) Raw(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 2*time.Second))
	defer cancel()
	resp, err := c.do(ctx, method, path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(bound(resp.Body))
	if err != nil {
		return nil, pancake.Errorf(pancake.Unavailable, "sidecar at %s broke off its answer to %s: %w", c.base(), path, err)
	}
	return body, nil
}

// call sends in, if it is not nil, and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 2*time.Second))
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return pancake.Errorf(pancake.Invalid, "encode the body of %s %s: %w", method, path, err)
		}
	}
	resp, err := c.do(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(bound(resp.Body)).Decode(out); err != nil {
		return pancake.Errorf(pancake.Unavailable, "sidecar at %s answered %s with something unreadable: %w", c.base(), path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base()+path, bytes.NewReader(body))
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "sidecar address %q: %w", c.URL, err)
	}
	maps.Copy(req.Header, header)
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := cmp.Or(c.HTTP, defaultHTTP).Do(req)
	if err != nil {
		return nil, pancake.Errorf(pancake.Unavailable, "sidecar at %s does not answer: %w", c.base(), unwrapURL(err))
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	kind := pancake.Unavailable
	switch resp.StatusCode {
	case http.StatusNotFound:
		kind = pancake.NotFound
	case http.StatusBadRequest:
		kind = pancake.Invalid
	case http.StatusConflict:
		kind = pancake.Conflict
	case http.StatusUnauthorized:
		kind = pancake.Unauthenticated
	case http.StatusForbidden:
		kind = pancake.Forbidden
	}
	return nil, pancake.Errorf(kind, "sidecar at %s: %s %s: %s", c.base(), method, path,
		cmp.Or(message(text), resp.Status))
}

func (c *Client) base() string {
	return strings.TrimRight(cmp.Or(c.URL, "http://127.0.0.1:7777"), "/")
}

// defaultHTTP is shared so that connections are reused; it holds no state of ours.
var defaultHTTP = &http.Client{Transport: &http.Transport{
	DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
	ResponseHeaderTimeout: 5 * time.Second,
	MaxIdleConnsPerHost:   4,
	IdleConnTimeout:       time.Minute,
}}

// bounded reads a document of at most maxDocument bytes. One that is larger is an error that
// says so: a part of a state must not pass for the whole.
type bounded struct {
	io.Reader
	left int64
}

func bound(r io.Reader) *bounded { return &bounded{r, maxDocument} }

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("it is larger than the %d MiB that are taken", maxDocument>>20)
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// message takes the text out of Sidecar's {"status":"error","message":"…"}.
func message(body []byte) string {
	var e struct{ Message string }
	if json.Unmarshal(body, &e) == nil && e.Message != "" {
		return e.Message
	}
	return string(bytes.TrimSpace(body))
}

// unwrapURL drops the method and address that net/http repeats in its errors.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return fmt.Errorf("%w", err)
}
