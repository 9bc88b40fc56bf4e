// Package notify tells people what agents do: by webhook, in Slack, and by PagerDuty.
//
// Nothing here can hold up or end an agent. Each hook has a queue of its own that is
// bounded; what does not fit is dropped and counted. Each attempt has a time limit, and
// failed ones are repeated with back-off, for a while.
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake/goavail/client"
)

// The kinds of hooks.
const (
	Webhook   = "webhook"
	Slack     = "slack"
	PagerDuty = "pagerduty"
)

// pagerDutyURL is where PagerDuty takes events of its version 2.
const pagerDutyURL = "https://events.pagerduty.com/v2/enqueue"

// Hook is somebody to tell.
type Hook struct {
	Kind string
	// URL is where to post. It is a secret, for Slack and maybe others. Default: of PagerDuty.
	URL string
	// Key is PagerDuty's integration key, or of a webhook a token to send as Bearer.
	Key string
	// Events are the kinds of entries to tell of. Default: changes, drifts and alerts, and
	// of PagerDuty changes and alerts.
	Events []string
}

// Config says how a Teller works.
type Config struct {
	Hooks   []Hook
	Cluster string
	Queue   int           // entries per hook. Default 256
	Timeout time.Duration // of one attempt. Default 10 s
	// RetryMin and RetryMax bound the wait after a failure, and GiveUp how long one entry is
	// tried. Defaults 1 s, 1 min and 10 min.
	RetryMin, RetryMax, GiveUp time.Duration
	Log                        *slog.Logger // default: none
}

// Teller tells all hooks.
type Teller struct {
	cfg   Config
	hooks []*hook
}

type hook struct {
	Hook
	queue   chan client.Entry
	dropped atomic.Int64 // since the last success
	http    *http.Client
}

// New makes a Teller. Run starts it.
func New(cfg Config) *Teller {
	cfg.Queue, cfg.Timeout = cmp.Or(cfg.Queue, 256), cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.RetryMin, cfg.RetryMax, cfg.GiveUp = cmp.Or(cfg.RetryMin, time.Second), cmp.Or(cfg.RetryMax, time.Minute), cmp.Or(cfg.GiveUp, 10*time.Minute)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	t := &Teller{cfg: cfg}
	for _, h := range cfg.Hooks {
		if len(h.Events) == 0 {
			h.Events = []string{client.KindChange, client.KindAlert, client.KindDrift}
		}
		if h.Kind == PagerDuty {
			h.URL = cmp.Or(h.URL, pagerDutyURL)
		}
		t.hooks = append(t.hooks, &hook{Hook: h, queue: make(chan client.Entry, cfg.Queue), http: &http.Client{
			Timeout: cfg.Timeout,
			// Whoever redirects would be sent what only the hook should see.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}})
	}
	return t
}

// Tell queues an entry for all hooks that want it. It never waits.
func (t *Teller) Tell(_ context.Context, e client.Entry) {
	for _, h := range t.hooks {
		if !slices.Contains(h.Events, e.Kind) {
			continue
		}
		select {
		case h.queue <- e:
		default:
			h.dropped.Add(1)
		}
	}
}

// Run tells until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { // also without any hooks
		<-ctx.Done()
		return ctx.Err()
	})
	for _, h := range t.hooks {
		group.Go(func() error { return t.serve(ctx, h) })
	}
	return group.Wait()
}

// serve tells one hook of one entry after the other.
func (t *Teller) serve(ctx context.Context, h *hook) error {
	defer h.http.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-h.queue:
			for _, m := range t.messages(h.Hook, e) {
				t.deliver(ctx, h, m)
			}
		}
	}
}

// deliver posts one message, until it is taken, refused for good, or too old.
func (t *Teller) deliver(ctx context.Context, h *hook, m message) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = t.cfg.RetryMin, t.cfg.RetryMax
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, t.post(ctx, h, m) },
		backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(t.cfg.GiveUp))
	switch {
	case ctx.Err() != nil:
	case err != nil:
		t.cfg.Log.WarnContext(ctx, "a notification was not delivered", "hook", h.Kind, "err", err)
	default:
		if n := h.dropped.Swap(0); n > 0 {
			t.cfg.Log.WarnContext(ctx, "notifications were dropped while the hook was slow", "hook", h.Kind, "dropped", n)
		}
	}
}

// maxAnswer is how much of an answer is looked at, in bytes.
const maxAnswer = 4 << 10

// post makes one attempt. Its errors never hold the address or the key.
func (t *Teller) post(ctx context.Context, h *hook, m message) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, strings.NewReader(string(m.body)))
	if err != nil {
		return backoff.Permanent(errors.New("the hook's address is not a URL"))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "pancake-goavail")
	if h.Kind == Webhook && h.Key != "" {
		req.Header.Set("Authorization", "Bearer "+h.Key)
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return errors.New(h.mask(cause(err).Error()))
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what there is of it
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests:
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			return backoff.RetryAfter(min(seconds, 300))
		}
		return errors.New("it answers " + resp.Status)
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusRequestTimeout:
		return errors.New("it answers " + resp.Status)
	}
	return backoff.Permanent(fmt.Errorf("it answers %s: %s", resp.Status, h.mask(strings.TrimSpace(string(answer)))))
}

// cause drops the address that net/http repeats in its errors.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// mask hides what is secret of a hook in a text.
func (h *hook) mask(text string) string {
	secrets := []string{h.URL, h.Key}
	if u, err := url.Parse(h.URL); err == nil {
		secrets = append(secrets, u.RequestURI(), strings.Trim(u.Path, "/"))
	}
	for _, s := range secrets {
		if len(s) > 3 {
			text = strings.ReplaceAll(text, s, "********")
		}
	}
	return text
}
