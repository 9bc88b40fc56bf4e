package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

const (
	maxBody      = 64 << 10 // bytes that are searched
	maxHeader    = 64 << 10 // bytes
	maxRedirects = 5
	maxCA        = 1 << 20 // bytes of a file with authorities
)

// httpCheck asks over a connection of its own each time: a server that has stopped
// accepting would go on answering on old ones.
func httpCheck(c Check) (func(context.Context) error, error) {
	well, err := parseStatus(c.Status)
	if err != nil {
		return nil, err
	}
	body, err := regexp.Compile(c.Body)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "body: %w", err)
	}
	transport := &http.Transport{
		DialContext:            dialTo(c),
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
	if c.Kind == HTTPS {
		if transport.TLSClientConfig, err = tlsConfig(c); err != nil {
			return nil, err
		}
	}
	client := &http.Client{Transport: transport, CheckRedirect: redirects(c)}
	target := url.URL{Scheme: c.Kind, Host: c.endpoint()}
	address, err := target.Parse(c.Path)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "path %q: %w", c.Path, err)
	}
	req, err := http.NewRequest(c.Method, address.String(), nil)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "method %q: %w", c.Method, err)
	}
	req.Host = c.Host
	req.Header.Set("User-Agent", "pancake-goavail")
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		resp, err := client.Do(req.WithContext(ctx))
		if err != nil {
			return httpError(err)
		}
		defer resp.Body.Close()
		if !well(resp.StatusCode) {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		if resp.TLS != nil {
			if err := checkExpiry(resp.TLS, c.CertValid); err != nil {
				return err
			}
		}
		return search(resp.Body, c, body)
	}, nil
}

// dialTo connects to the address of the check whatever the URL says, so that a redirect
// to a name is followed on the same machine. It gives up a bit before the whole check does,
// which would hide whether it was the target or the lookup of its name that took so long.
func dialTo(c Check) func(context.Context, string, string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: c.Timeout - c.Timeout/10, KeepAlive: -1}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return dialer.DialContext(ctx, network, net.JoinHostPort(c.Address, port))
	}
}

func redirects(c Check) func(*http.Request, []*http.Request) error {
	return func(_ *http.Request, via []*http.Request) error {
		switch {
		case !c.Follow:
			return http.ErrUseLastResponse
		case len(via) > maxRedirects:
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	}
}

func search(r io.Reader, c Check, body *regexp.Regexp) error {
	if c.Body == "" {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(r, maxBody))
	if err != nil {
		return fmt.Errorf("read the body: %w", plain(err))
	}
	if !body.Match(text) {
		return fmt.Errorf("the body does not match %q", c.Body)
	}
	return nil
}

func httpError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if _, lookup := errors.AsType[*net.DNSError](err); !lookup && u.Timeout() {
			return errLate
		}
		err = u.Err
	}
	return plain(err)
}

// parseStatus reads a list such as 200-299,404.
func parseStatus(text string) (func(int) bool, error) {
	type span struct{ from, to int }
	var spans []span
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(strings.TrimSpace(from))
		b, err2 := strconv.Atoi(strings.TrimSpace(to))
		if err1 != nil || err2 != nil || a < 100 || b > 599 || a > b {
			return nil, pancake.Errorf(pancake.Invalid, "status %q is not a list of numbers and ranges such as 200-299,404", text)
		}
		spans = append(spans, span{a, b})
	}
	return func(status int) bool {
		for _, s := range spans {
			if status >= s.from && status <= s.to {
				return true
			}
		}
		return false
	}, nil
}

func tlsConfig(c Check) (*tls.Config, error) {
	host := c.Host
	if h, _, err := net.SplitHostPort(c.Host); err == nil {
		host = h
	}
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         cmp.Or(c.SNI, host, c.Address),
		InsecureSkipVerify: c.SkipVerify, //nolint:gosec // the operator asked for it
	}
	if c.CA == "" {
		return cfg, nil
	}
	file, err := os.Open(c.CA)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "certificate authorities: %w", err)
	}
	defer file.Close()
	pem, err := io.ReadAll(io.LimitReader(file, maxCA))
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "certificate authorities: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, pancake.Errorf(pancake.Invalid, "certificate authorities: %s holds no certificate in PEM", c.CA)
	}
	return cfg, nil
}

// checkExpiry fails when the server's certificate is not valid for long enough.
func checkExpiry(state *tls.ConnectionState, valid time.Duration) error {
	if valid <= 0 || len(state.PeerCertificates) == 0 {
		return nil
	}
	end := state.PeerCertificates[0].NotAfter
	if left := time.Until(end); left < valid {
		return fmt.Errorf("the certificate expires on %s", end.UTC().Format(time.DateOnly))
	}
	return nil
}
