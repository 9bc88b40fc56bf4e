package health

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/pancake-stack/pancake"
)

const (
	// maxBody is how much of a body is searched, in bytes.
	maxBody = 256 << 10
	// maxRedirects is how many redirects are followed.
	maxRedirects = 5
)

// newTransport makes a transport that keeps no connections, so that each check
// is one.
func newTransport() *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext, MaxResponseHeaderBytes: 64 << 10}
}

// client makes the client of one check.
func (c *Checker) client(h httpSettings, t tlsSettings) (*http.Client, error) {
	out := &http.Client{Transport: c.transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects || h.redirects == redirectNone || h.redirects == redirectSame && req.URL.Host != via[0].URL.Host {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	if t.isZero() {
		return out, nil
	}
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	own := newTransport()
	own.TLSClientConfig = config
	out.Transport = own
	return out, nil
}

func (c *Checker) get(ctx context.Context, h httpSettings, t tlsSettings, target string) error {
	req, err := http.NewRequestWithContext(ctx, h.method, target, nil)
	if err != nil {
		return fmt.Errorf("HttpGet %s: %w", target, err)
	}
	req.Header = h.headers.Clone()
	req.Host = req.Header.Get("Host") // "" is the URL's
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "pancake-sidecar")
	}
	client, err := c.client(h, t)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", h.method, target, reason(ctx, err))
	}
	defer resp.Body.Close()
	if !h.accepts(resp.StatusCode) {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, MaxNote)) // what there is of it
		return fmt.Errorf("%s %s: %s %s", h.method, target, resp.Status, body)
	}
	if h.body == "" && h.match == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s %s: %w", h.method, target, reason(ctx, err))
	}
	return h.search(body, target)
}

// search looks for what the body has to have.
func (h *httpSettings) search(body []byte, target string) error {
	wanted, label := h.body, pancake.LabelHealthCheckBody
	found := bytes.Contains(body, []byte(h.body))
	if found && h.match != nil {
		wanted, label = h.match.String(), pancake.LabelHealthCheckBodyMatch
		found = h.match.Match(body)
	}
	if found {
		return nil
	}
	shown, _, _ := strings.Cut(string(body[:min(len(body), MaxNote)]), "\n")
	return fmt.Errorf("%s %s: the body has no %q (%s): %s", h.method, target, clean(wanted, 40), label, shown)
}
