package pace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake/goavail/dns"
)

func TestWaitKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, begin := New(2, 10), time.Now()
		for range 70 {
			if err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 30*time.Second { // 10 at once, 60 at 2 per second
			t.Errorf("70 calls took %s", took)
		}
		// Who has no time to wait is told so at once.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		before := time.Now()
		if err := p.Wait(ctx); dns.ReasonOf(err) != dns.RateLimited || time.Since(before) != 0 {
			t.Errorf("got %v after %s", err, time.Since(before))
		}
	})
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(1000, 1000)
		p.Hold(time.Minute)
		p.Hold(time.Second) // shortens nothing
		time.Sleep(20 * time.Second)
		err := p.Wait(t.Context())
		if dns.ReasonOf(err) != dns.RateLimited || dns.RetryAfter(err) != 40*time.Second {
			t.Errorf("got %v, retry after %s", err, dns.RetryAfter(err))
		}
		time.Sleep(40 * time.Second)
		if err := p.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestIsolate(t *testing.T) {
	all := make([]int, 100)
	for i := range all {
		all[i] = i
	}
	bad := func(reason dns.Reason) error { return &dns.Error{Reason: reason, Err: errors.New("bad")} }
	for _, tt := range []struct {
		name   string
		fails  map[int]dns.Reason
		reason dns.Reason
		done   int
		calls  int // at most
	}{
		{"none bad", nil, "", 100, 1},
		{"one refused", map[int]dns.Reason{42: dns.Refused}, dns.Refused, 99, 15},
		{"two, one of them in conflict", map[int]dns.Reason{3: dns.Refused, 99: dns.Conflict}, dns.Conflict, 98, 29},
		{"an answer lost", map[int]dns.Reason{7: dns.Unknown}, dns.Unknown, 0, 1},
		{"too many calls", map[int]dns.Reason{7: dns.RateLimited}, dns.RateLimited, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done, calls := 0, 0
			err := Isolate(all, func(some []int) error {
				calls++
				for _, i := range some {
					if reason := tt.fails[i]; reason != "" {
						return bad(reason)
					}
				}
				done += len(some)
				return nil
			})
			if dns.ReasonOf(err) != tt.reason || done != tt.done || calls > tt.calls {
				t.Errorf("%v, %d done in %d calls", err, done, calls)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	if Join(nil, nil) != nil {
		t.Error("of no errors comes one")
	}
	plain := errors.New("plain")
	err := Join(&dns.Error{Reason: dns.Refused, Err: plain}, nil, fmt.Errorf("x: %w", &dns.Error{Reason: dns.RateLimited, RetryAfter: 7, Err: plain}), plain)
	if dns.ReasonOf(err) != dns.RateLimited || dns.RetryAfter(err) != 7 {
		t.Errorf("got %v", err)
	}
}

type answer string

func (a answer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}

func TestTransportBoundsAnswers(t *testing.T) {
	for size, ok := range map[int]bool{MaxAnswer - 1: true, MaxAnswer + 1: false} {
		tr := Transport{Next: answer(slices.Repeat([]byte{' '}, size)), Pace: New(1, 1)}
		resp, err := tr.RoundTrip(httpRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); (err == nil) != ok {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func httpRequest(t *testing.T) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
