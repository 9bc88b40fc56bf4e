// Package client talks to a scheduler over its HTTP API. It reaches only the
// standard library and the words, so any Go program may import it.
package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

// maxBody bounds one answer, and one event or log line.
const maxBody = 64 << 20

// Client talks to the scheduler at URL. Any scheduler of a cluster will do:
// those that do not lead hand the call on.
type Client struct {
	// URL is where the scheduler listens. Default http://127.0.0.1:7099.
	URL string
	// HTTP makes the requests. Default: a shared client without a total
	// timeout, since events and logs have no end.
	HTTP *http.Client
	// Timeout bounds each call but Events and Logs. Default 10 s.
	Timeout time.Duration
	// User is sent as X-Username, as nmesos does.
	User string
	// Token says who calls. It is sent over https only: a scheduler without TLS
	// knows no tokens, and others could read it on the way.
	Token string
}

// NewHTTP makes what Client.HTTP needs to check a scheduler in another way than by
// the host name in its certificate, or to show a certificate of the caller's own.
func NewHTTP(cfg *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSClientConfig:     cfg,
		ForceAttemptHTTP2:   true, // a TLS configuration of our own would switch it off
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     time.Minute,
	}}
}

// Requests lists all requests, by id.
func (c *Client) Requests(ctx context.Context) (out []RequestView, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/requests", nil, &out)
}

// Request returns one request with its deploys and tasks.
func (c *Client) Request(ctx context.Context, id string) (out RequestView, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/requests/"+url.PathEscape(id), nil, &out)
}

// Deploy returns one deploy with its tasks.
func (c *Client) Deploy(ctx context.Context, request, id string) (out DeployView, err error) {
	path := "/v1/requests/" + url.PathEscape(request) + "/deploys/" + url.PathEscape(id)
	return out, c.call(ctx, http.MethodGet, path, nil, &out)
}

// Deploys lists the deploys of a request, newest first.
func (c *Client) Deploys(ctx context.Context, request string) (out []pancake.Deploy, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/requests/"+url.PathEscape(request)+"/deploys", nil, &out)
}

// Submit stores a request and starts a deploy of it. It fails with Invalid,
// Conflict (a deploy is pending, or has this id) or NoRoom, and then nothing has changed.
func (c *Client) Submit(ctx context.Context, body DeployBody) (out DeployView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/deploys", body, &out)
}

// Scale changes the number of instances of a request.
func (c *Client) Scale(ctx context.Context, id string, instances int) (out RequestView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/requests/"+url.PathEscape(id)+"/scale", ScaleBody{instances}, &out)
}

// Delete stops the tasks of a request and forgets it.
func (c *Client) Delete(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/requests/"+url.PathEscape(id), nil, nil)
}

// Tasks lists the live tasks, of one request or, with "", of all.
func (c *Client) Tasks(ctx context.Context, request string, history bool) (out []pancake.Task, err error) {
	q := url.Values{}
	if request != "" {
		q.Set("request", request)
	}
	if history {
		q.Set("history", "true")
	}
	return out, c.call(ctx, http.MethodGet, "/v1/tasks?"+q.Encode(), nil, &out)
}

// Task returns one task, live or remembered.
func (c *Client) Task(ctx context.Context, id string) (out pancake.Task, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/tasks/"+url.PathEscape(id), nil, &out)
}

// KillTask stops one task; its request starts another in its place.
func (c *Client) KillTask(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/tasks/"+url.PathEscape(id)+"/kill", nil, nil)
}

// Agents lists the agents, by id.
func (c *Client) Agents(ctx context.Context) (out []AgentView, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/agents", nil, &out)
}

// Agent returns one agent.
func (c *Client) Agent(ctx context.Context, id string) (out AgentView, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/agents/"+url.PathEscape(id), nil, &out)
}

// FreezeAgent has an agent get no new tasks; it keeps those it has.
func (c *Client) FreezeAgent(ctx context.Context, id string) (out AgentView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/agents/"+url.PathEscape(id)+"/freeze", nil, &out)
}

// DecommissionAgent empties an agent: parallel of its tasks at a time, 0 meaning 5,
// are replaced on other agents, and go once their replacements are healthy.
func (c *Client) DecommissionAgent(ctx context.Context, id string, parallel int) (out AgentView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/agents/"+url.PathEscape(id)+"/decommission", DecommissionBody{parallel}, &out)
}

// ActivateAgent takes a FreezeAgent or DecommissionAgent back.
func (c *Client) ActivateAgent(ctx context.Context, id string) (out AgentView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/agents/"+url.PathEscape(id)+"/activate", nil, &out)
}

// ForgetAgent removes an agent that is gone. It fails with Conflict for one that is
// there, or still holds tasks.
func (c *Client) ForgetAgent(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/agents/"+url.PathEscape(id), nil, nil)
}

// Leader says who leads. It fails with Unavailable while nobody does.
func (c *Client) Leader(ctx context.Context) (out LeaderView, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/leader", nil, &out)
}

// Logs calls fn with each line that a task printed: the last tail lines (0
// means all), then, with follow, every new one until the task ends.
func (c *Client) Logs(ctx context.Context, task string, tail int, follow bool, fn func(LogLine) error) error {
	path := fmt.Sprintf("/v1/tasks/%s/logs?tail=%d&follow=%t", url.PathEscape(task), tail, follow)
	resp, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		var l LogLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return pancake.Errorf(pancake.Unavailable, "scheduler sent an unreadable log line: %w", err)
		}
		if l.Error != "" {
			return pancake.Errorf(pancake.Unavailable, "logs of %s: %s", task, l.Error)
		}
		if err := fn(l); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Events calls fn with each change of one request or, with "", of all, that
// was committed after the event with id since (0 means from now on). It ends
// with an error when the connection breaks, ctx ends, or fn fails; the caller resumes.
func (c *Client) Events(ctx context.Context, request string, since uint64, fn func(Event) error) error {
	return c.stream(ctx, request, since, func() {}, fn)
}

// Changed calls fn as soon as the stream of changes stands and again after each
// change of one request or, with "", of all. What fn reads from the scheduler
// therefore misses nothing. It ends as Events does.
func (c *Client) Changed(ctx context.Context, request string, fn func()) error {
	return c.stream(ctx, request, 0, fn, func(Event) error { fn(); return nil })
}

func (c *Client) stream(ctx context.Context, request string, since uint64, opened func(), fn func(Event) error) error {
	header := http.Header{"Accept": {"text/event-stream"}}
	if since > 0 {
		header.Set("Last-Event-ID", strconv.FormatUint(since, 10))
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/events?request="+url.QueryEscape(request), nil, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	opened()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return pancake.Errorf(pancake.Unavailable, "scheduler sent an unreadable event: %w", err)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return pancake.Errorf(pancake.Unavailable, "event stream of %s ended: %w", c.base(), cmp.Or(lines.Err(), io.EOF))
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 10*time.Second))
	defer cancel()
	resp, err := c.do(ctx, method, path, in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(out); err != nil {
		return pancake.Errorf(pancake.Unavailable, "scheduler at %s answered %s with something unreadable: %w", c.base(), path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, in any, header http.Header) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", in, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base()+path, body)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "scheduler address %q: %w", c.URL, err)
	}
	maps.Copy(req.Header, header)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.User != "" {
		req.Header.Set("X-Username", c.User)
	}
	if c.Token != "" && req.URL.Scheme == "https" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := cmp.Or(c.HTTP, defaultHTTP).Do(req)
	if err != nil {
		return nil, c.unreached(unwrapURL(err))
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, failure(resp)
}

// unreached says why there is no answer.
func (c *Client) unreached(err error) error {
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return pancake.Errorf(pancake.Unauthenticated,
			"scheduler at %s shows a certificate that is not trusted here: %w\nIs it the right address? If so, tell Pancake what to trust with \"pancake login\" or --ca.", c.base(), err)
	}
	if clock, ok := errors.AsType[clockError](err); ok && clock.Clock() {
		return pancake.Errorf(pancake.Unauthenticated, "scheduler at %s cannot be trusted by the clock here: %w", c.base(), err)
	}
	if strings.Contains(err.Error(), "remote error: tls: bad certificate") { // as crypto/tls puts it
		return pancake.Errorf(pancake.Unauthenticated,
			"scheduler at %s refuses the certificate it was shown, and says in its log why. It may have been revoked or be of another CA, or one of the two clocks is wrong; check the clocks of both machines, or get a new one with \"pancake ca issue\".", c.base())
	}
	if pancake.KindOf(err) == pancake.Unauthenticated {
		return pancake.Errorf(pancake.Unauthenticated,
			"scheduler at %s is not the one it should be: %w\nIs it the right address? After its CA was replaced, or for another cluster, run \"pancake login\" again.", c.base(), err)
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return pancake.Errorf(pancake.Invalid, "scheduler at %s does not speak TLS; if it is to be insecure, write http:// in its address", c.base())
	}
	return pancake.Errorf(pancake.Unavailable,
		"scheduler at %s does not answer: %w\nIs it running? Start one with \"pancake dev\", or name another with --scheduler or PANCAKE_SCHEDULER.", c.base(), err)
}

// clockError is a refusal of a certificate for its time.
type clockError interface {
	error
	Clock() bool
}

// failure turns an answer that is not 2xx into an error of the kind it names.
func failure(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var e ErrorBody
	if json.Unmarshal(text, &e) == nil && e.Message != "" {
		return &pancake.Error{Kind: e.Kind, Message: e.Message}
	}
	if resp.StatusCode == http.StatusBadRequest && strings.Contains(string(text), "HTTP request to an HTTPS server") { // as net/http puts it
		return pancake.Errorf(pancake.Invalid, "scheduler at %s speaks TLS only; write https:// in its address", resp.Request.URL.Host)
	}
	return pancake.Errorf(pancake.Unavailable, "%s %s: %s: %s", resp.Request.Method, resp.Request.URL, resp.Status,
		strings.TrimSpace(string(text[:min(len(text), 500)])))
}

func (c *Client) base() string {
	u := strings.TrimRight(cmp.Or(c.URL, "http://127.0.0.1:7099"), "/")
	if !strings.Contains(u, "://") {
		u = "http://" + u
	}
	return u
}

// defaultHTTP is shared so that connections are reused; it holds no state of ours.
var defaultHTTP = NewHTTP(nil)

// unwrapURL drops the method and address that net/http repeats in its errors.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
