// Package provider is a Traefik provider that gets the whole dynamic
// configuration from Pancake's sidecar, as a stream.
//
// The sidecar sends one configuration per line, the first at once, and an
// empty line at least every 10 s when nothing changes. Whatever the sidecar
// does (ends, hangs, sends what makes no sense), Traefik keeps the last
// configuration that was good.
package provider

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/observability/logs"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// Name is the provider's name: what Traefik puts behind the "@".
const Name = "pancake"

// DefaultURL is where a sidecar on the same host listens.
const DefaultURL = "http://127.0.0.1:7777"

const (
	// silence is how long a stream may be quiet before it counts as dead:
	// three of the sidecar's heartbeats.
	silence = 30 * time.Second
	// firstRetry and lastRetry bound the wait before a new attempt. With the
	// jitter of half up or down the first comes within 100 ms and none after more than 2 s.
	firstRetry = 60 * time.Millisecond
	lastRetry  = 1300 * time.Millisecond
)

// Provider listens to a sidecar. It implements Traefik's provider.Provider.
type Provider struct {
	// URL is the sidecar's address. Default DefaultURL.
	URL string `json:"url,omitempty"`
	// Cache is a file that keeps the last good configuration, for a start
	// while the sidecar does not answer. Default none.
	Cache string `json:"cache,omitempty"`
	TLS

	client *http.Client
	stream string // URL of the stream
}

// Init checks the settings. Traefik calls it once, before Provide.
func (p *Provider) Init() error {
	u, err := url.Parse(cmp.Or(p.URL, DefaultURL))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("sidecar.url %q is not an address such as %s", p.URL, DefaultURL)
	}
	var secure *tls.Config
	if u.Scheme == "https" {
		if secure, err = p.TLS.config(); err != nil {
			return err
		}
	} else if p.TLS != (TLS{}) {
		return fmt.Errorf("sidecar.ca, sidecar.cert and sidecar.key are for an address with https://, and sidecar.url is %s", u)
	}
	p.stream = strings.TrimRight(u.String(), "/") + "/api/traefik?watch=true"
	p.client = &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		ResponseHeaderTimeout: 5 * time.Second,
		DisableCompression:    true,
		TLSClientConfig:       secure,
		TLSHandshakeTimeout:   5 * time.Second,
	}}
	return nil
}

// ThrottleDuration tells Traefik to apply each configuration at once. Other
// providers keep the throttle of the static configuration.
func (p *Provider) ThrottleDuration() time.Duration { return 0 }

// Provide starts to listen, until the pool stops. It does not block.
func (p *Provider) Provide(out chan<- dynamic.Message, pool *safe.Pool) error {
	pool.GoCtx(func(ctx context.Context) { p.run(ctx, out) })
	return nil
}

// run follows the stream and starts it again whenever it ends.
func (p *Provider) run(ctx context.Context, out chan<- dynamic.Message) {
	l := &listener{Provider: p, out: out, log: log.With().Str(logs.ProviderName, Name).Logger()}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstRetry, lastRetry
	down := false
	for {
		err := l.follow(ctx, func() {
			wait.Reset()
			if down {
				down = false
				l.log.Info().Str("sidecar", p.stream).Msg("The sidecar answers again")
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !down { // say it once, not with every attempt
			down = true
			l.log.Warn().Err(err).Str("sidecar", p.stream).Msg("The sidecar does not answer; routes stay as they are until it does")
		}
		l.useCache(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// listener is one run of a provider.
type listener struct {
	*Provider
	out  chan<- dynamic.Message
	log  zerolog.Logger
	last []byte // the line that is in force; nil until there is one
	bad  []byte // the last line that was not

	looked bool // whether the cache was read
}

// errSilent is the cause when a stream goes quiet.
var errSilent = errors.New("no sign of life for " + silence.String())
