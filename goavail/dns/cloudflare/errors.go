package cloudflare

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudflare/cloudflare-go"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// Codes in error bodies of the API.
const (
	codeNotFound  = 81044 // the record does not exist
	codeExists    = 81057 // the record exists
	codeIdentical = 81058 // an identical record exists
)

// penalty is how long Cloudflare refuses everything after too many requests.
const penalty = 5 * time.Minute

// transport is where answers are looked at of which the library would lose something:
// when to come back, and whether a write may have happened.
type transport struct {
	next http.RoundTripper
	pace *pace.Pace
}

// statusError is an answer that says nothing about whether the call was carried out.
type statusError struct{ status string }

func (e *statusError) Error() string { return "Cloudflare answered " + e.status }

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if left, wait, ok := rateLimit(resp.Header.Get("Ratelimit")); ok && left == 0 {
		t.pace.Hold(wait)
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		resp.Body.Close()
		wait := penalty
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
			wait = min(time.Duration(s)*time.Second, time.Hour)
		}
		t.pace.Hold(wait)
		return nil, &dns.Error{
			Reason: dns.RateLimited, RetryAfter: wait,
			Err: fmt.Errorf("Cloudflare says that it gets too many requests, and wants none for %s", wait),
		}
	case resp.StatusCode >= http.StatusInternalServerError:
		resp.Body.Close()
		return nil, &statusError{resp.Status}
	}
	return resp, nil
}

// rateLimit reads a Ratelimit header, such as "default";r=50;t=30: how many
// requests are left, and when there will be more.
func rateLimit(header string) (left int, wait time.Duration, ok bool) {
	var seenLeft, seenWait bool
	for part := range strings.SplitSeq(header, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			continue
		}
		switch key {
		case "r":
			left, seenLeft = n, true
		case "t":
			wait, seenWait = min(time.Duration(n)*time.Second, time.Hour), true
		}
	}
	return left, wait, seenLeft && seenWait
}

func refused(format string, args ...any) error {
	return &dns.Error{Reason: dns.Refused, Err: fmt.Errorf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &dns.Error{Reason: dns.Conflict, Err: fmt.Errorf(format, args...)}
}

// explain says what an error of a call means for the caller.
func explain(method, path string, err error) error {
	what := fmt.Errorf("%s %s: %w", method, path, err)
	if _, ok := errors.AsType[*dns.Error](err); ok {
		return what // from the transport
	}
	if ce, ok := errors.AsType[*cloudflare.Error](err); ok {
		return explainAnswer(ce, what)
	}
	if method == http.MethodGet || pace.NotSent(err) {
		return &dns.Error{Reason: dns.Unavailable, Err: what}
	}
	return &dns.Error{Reason: dns.Unknown, Err: fmt.Errorf("%w (it may have been done)", what)}
}

func explainAnswer(ce *cloudflare.Error, what error) error {
	switch {
	case slices.ContainsFunc(ce.ErrorCodes, func(code int) bool {
		return code == codeNotFound || code == codeExists || code == codeIdentical
	}):
		return &dns.Error{Reason: dns.Conflict, Err: what}
	case ce.StatusCode == http.StatusUnauthorized || ce.StatusCode == http.StatusForbidden:
		return refused("Cloudflare does not accept the credentials, or they do not allow this; the token needs Zone:Read and DNS:Edit for the zone (and Load Balancing: Monitors And Pools:Edit for pools): %w", what)
	}
	return &dns.Error{Reason: dns.Refused, Err: what}
}

// names lists the zones for a message.
func names(zones map[string]string) string {
	all := slices.Sorted(maps.Keys(zones))
	switch {
	case len(all) == 0:
		return "no zones"
	case len(all) > 10:
		return strings.Join(all[:10], ", ") + ", …"
	}
	return strings.Join(all, ", ")
}
