// Package notify tells listeners of changes, as NinesStack Sidecar does: each gets
// a POST with the change and the whole state after it.
//
// A listener that is slow or away holds up no other. It misses changes in between
// when it falls behind, and never the newest state.
package notify

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/api/document"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

const (
	timeout = 3 * time.Second // of one POST, as in NinesStack Sidecar
	retries = 5               // of one change, as there
	backlog = 20              // changes that wait for a listener, as there
	// The pauses between two attempts. The last is also how often a listener that
	// stays away is tried with the newest change.
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
	// maxAnswer is how much of a listener's answer is read, in bytes, so that the
	// connection can be used again.
	maxAnswer = 64 << 10
	// maxRedirects is how many redirects are followed that keep the POST.
	maxRedirects = 5
)

// Config says whom to notify of what. State and Events are required.
type Config struct {
	// URLs are listeners that are always notified: LISTENERS_URLS.
	URLs   []string
	State  *feed.Feed[*catalog.Snapshot]
	Events *feed.Events
	// Hostname is part of the cookie sidecar-session-host, by which a balancer keeps
	// to one listener.
	Hostname string
	// Docs are shared with others who encode the same State. Default: an own one.
	Docs    *document.Cache
	Log     *slog.Logger          // default: none
	Metrics prometheus.Registerer // default: none
}

// Notifier notifies listeners.
type Notifier struct {
	cfg    Config
	cookie string
	posts  *prometheus.CounterVec

	mu        sync.Mutex
	listeners map[string]*listener // by id
	changed   chan struct{}        // closed when listeners changes
}

// listener is one that is notified.
type listener struct {
	url    string
	from   uint64 // the position of the events at which it came
	cancel context.CancelFunc
}

// New makes a Notifier. Run starts it. It fails with Invalid for a URL that
// cannot be one of a listener.
func New(cfg Config) (*Notifier, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Docs == nil {
		cfg.Docs = &document.Cache{}
	}
	n := &Notifier{
		cfg: cfg, listeners: map[string]*listener{}, changed: make(chan struct{}),
		cookie: cfg.Hostname + "-" + strconv.FormatInt(time.Now().UnixNano(), 36),
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidecar_listener_posts_total", Help: "Notifications of listeners by what became of them: delivered, failed, or skipped because the listener is behind.",
		}, []string{"result"}),
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(n.posts); err != nil {
			return nil, pancake.Errorf(pancake.Internal, "register the metrics of listeners: %w", err)
		}
	}
	for _, u := range cfg.URLs {
		if err := checkURL(u); err != nil {
			return nil, err
		}
		n.Add(u, u)
	}
	return n, nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return pancake.Errorf(pancake.Invalid, "listener %q: a URL such as http://10.0.0.1:8080/update is needed", text)
	}
	return nil
}

// Add notifies url of what changes from now on, until Remove. The id is the
// caller's; a listener that has it already is replaced if its URL is another.
func (n *Notifier) Add(id, url string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.listeners[id]; l != nil && l.url == url {
		return
	}
	n.remove(id)
	n.listeners[id] = &listener{url: url, from: n.cfg.Events.Last()}
	n.wake()
}

// Remove ends what Add began.
func (n *Notifier) Remove(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(id)
}

func (n *Notifier) remove(id string) {
	if l := n.listeners[id]; l != nil && l.cancel != nil {
		l.cancel()
	}
	delete(n.listeners, id)
}

func (n *Notifier) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Run works until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for {
		changed := n.start(ctx, group)
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-changed:
		}
	}
}

// start follows the listeners that are new.
func (n *Notifier) start(ctx context.Context, group *errgroup.Group) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.listeners {
		if l.cancel != nil {
			continue
		}
		followed, cancel := context.WithCancel(ctx)
		l.cancel = cancel
		group.Go(func() error {
			n.follow(followed, l)
			return ctx.Err() // nil when only this listener was removed
		})
	}
	return n.changed
}

// client makes the HTTP client of one listener.
func (n *Notifier) client(target *url.URL) *http.Client {
	own := &http.Cookie{Name: "sidecar-session-host", Value: n.cookie, Path: "/"}
	return &http.Client{Timeout: timeout, Jar: newCookies(target, own), CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if req.Method != http.MethodPost || len(via) > maxRedirects {
			return http.ErrUseLastResponse // a GET tells nobody anything
		}
		return nil
	}, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
	}}
}
