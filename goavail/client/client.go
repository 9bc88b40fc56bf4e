package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

// Client talks to one agent. The zero value talks to the one on this machine.
type Client struct {
	URL     string        // default http://127.0.0.1:7950
	Token   string        // if the agent wants one
	Timeout time.Duration // of one call. Default 10 s
	HTTP    *http.Client  // default: one of its own
}

// maxDocument bounds an answer, in bytes.
const maxDocument = 64 << 20

// Status returns what the agent knows; with answers, also what DNS answers now.
func (c *Client) Status(ctx context.Context, answers bool) (out Status, err error) {
	path := "/v1/status"
	if answers {
		path += "?answers=1"
	}
	err = c.call(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// History returns the newest entries, newest last. 0 is all that are kept.
func (c *Client) History(ctx context.Context, limit int) (out []Entry, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/history?limit="+strconv.Itoa(limit), nil, &out)
	return out, err
}

// Plan reads the live records and returns what would be changed.
func (c *Client) Plan(ctx context.Context) (out Plan, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/plan", nil, &out)
	return out, err
}

// Apply confirms the configuration, so that it is acted on from now on.
func (c *Client) Apply(ctx context.Context, r Request) ([]Order, error) {
	return c.order(ctx, "apply", r)
}

// Hold stops all changes, of one set or of all; see Request.Release.
func (c *Client) Hold(ctx context.Context, r Request) ([]Order, error) {
	return c.order(ctx, "hold", r)
}

// Drain takes a target out of service, as far as others are left, or puts it in maintenance.
func (c *Client) Drain(ctx context.Context, r Request) ([]Order, error) {
	return c.order(ctx, "drain", r)
}

// Restore takes back what Drain ordered and forgets the target's falls; see Request.Force.
func (c *Client) Restore(ctx context.Context, r Request) ([]Order, error) {
	return c.order(ctx, "restore", r)
}

// Adopt marks records that are listed in the configuration but foreign as ours.
func (c *Client) Adopt(ctx context.Context, r Request) ([]Order, error) {
	return c.order(ctx, "adopt", r)
}

// order gives an order. It returns one per set or target that it is about.
func (c *Client) order(ctx context.Context, what string, r Request) (out []Order, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/"+what, r, &out)
	return out, err
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 10*time.Second))
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return pancake.Errorf(pancake.Invalid, "encode the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base()+path, body)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "goavail's address %q: %w", c.URL, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := cmp.Or(c.HTTP, defaultHTTP).Do(req)
	if err != nil {
		return pancake.Errorf(pancake.Unavailable, "goavail at %s does not answer: %w", c.base(), cause(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return failure(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(out); err != nil {
		return pancake.Errorf(pancake.Unavailable, "goavail at %s answered %s with something unreadable: %w", c.base(), path, err)
	}
	return nil
}

func (c *Client) base() string {
	return strings.TrimRight(cmp.Or(c.URL, "http://127.0.0.1:7950"), "/")
}

// failure reads the error that an agent answers with.
func failure(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what there is of it
	var e struct {
		Kind    pancake.Kind `json:"kind"`
		Message string       `json:"message"`
	}
	if json.Unmarshal(text, &e) == nil && e.Message != "" {
		return pancake.Errorf(cmp.Or(e.Kind, pancake.Internal), "%s", e.Message)
	}
	return pancake.Errorf(pancake.Unavailable, "goavail answered %s", resp.Status)
}

// cause drops the method and address that net/http repeats in its errors.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// defaultHTTP is shared so that connections are reused; it holds no state of ours.
var defaultHTTP = &http.Client{Transport: &http.Transport{
	DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	MaxIdleConnsPerHost: 2,
	IdleConnTimeout:     time.Minute,
}}
