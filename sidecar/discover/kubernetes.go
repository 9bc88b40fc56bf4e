package discover

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"reflect"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
)

// KubernetesConfig says where Kubernetes' API is and which pods are announced. The
// defaults are Sidecar's.
type KubernetesConfig struct {
	// Host and Port are the API's. Defaults 127.0.0.1 and 8080. Ports 443 and 6443 are spoken to with TLS.
	Host string
	Port int
	// Namespace is the one that is looked at. Default "default".
	Namespace string
	// Timeout bounds a request, but not how long changes are waited for. Default 3 s.
	Timeout time.Duration
	// CredsPath is the directory of the service account: token and ca.crt. Without a
	// token none is sent. Default /var/run/secrets/kubernetes.io/serviceaccount.
	CredsPath string
	// AllNodes announces the pods of all nodes. Default: those on the node Node.
	AllNodes bool
	// Node is the name of this host's node. Required unless AllNodes.
	Node string
	// AdvertiseIP is where ports of this node's pods are reached, and those of nodes
	// without an address.
	AdvertiseIP string
	// Poll is how often everything is listed where changes cannot be waited for. Default 5 s.
	Poll time.Duration
	Log  *slog.Logger // default: none
}

// Kubernetes announces the pods behind services of a Kubernetes cluster that have a
// label ServiceName.
type Kubernetes struct {
	cfg  KubernetesConfig
	log  *slog.Logger
	sink Sink
	api  *kubeAPI

	mu       sync.Mutex
	services map[string]kubeService // by UID, as the others
	pods     map[string]kubePod
	nodes    map[string]kubeNode
	missing  int           // kinds that have yet to be listed
	changed  chan struct{} // has room for one

	known map[string]Found
}

// NewKubernetes makes a Kubernetes that tells sink what it finds. It fails with
// Invalid for a configuration that cannot work.
func NewKubernetes(cfg KubernetesConfig, sink Sink) (*Kubernetes, error) {
	cfg.Host, cfg.Port = cmp.Or(cfg.Host, "127.0.0.1"), cmp.Or(cfg.Port, 8080)
	cfg.Namespace = cmp.Or(cfg.Namespace, "default")
	cfg.Timeout = cmp.Or(cfg.Timeout, 3*time.Second)
	cfg.CredsPath = cmp.Or(cfg.CredsPath, "/var/run/secrets/kubernetes.io/serviceaccount")
	cfg.Poll = cmp.Or(cfg.Poll, 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if !cfg.AllNodes && cfg.Node == "" {
		return nil, pancake.Errorf(pancake.Invalid, "discovery from Kubernetes needs the name of this node, or has to announce those of all nodes (ANNOUNCE_ALL_NODES)")
	}
	scheme := "http"
	if cfg.Port == 443 || cfg.Port == 6443 {
		scheme = "https"
	}
	base := &url.URL{Scheme: scheme, Host: net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port))}
	kinds := 2
	if cfg.AllNodes {
		kinds = 3
	}
	return &Kubernetes{
		cfg: cfg, missing: kinds, log: cfg.Log, sink: sink, api: newKubeAPI(base, cfg.CredsPath, cfg.Timeout),
		services: map[string]kubeService{}, pods: map[string]kubePod{}, nodes: map[string]kubeNode{},
		changed: make(chan struct{}, 1), known: map[string]Found{},
	}, nil
}

// Run follows the cluster until ctx ends. While the API does not answer, what was found
// stays as it is, and the API is tried again with growing pauses.
func (k *Kubernetes) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	namespace := "/api/v1/namespaces/" + url.PathEscape(k.cfg.Namespace)
	pods := url.Values{}
	if !k.cfg.AllNodes {
		pods.Set("fieldSelector", "spec.nodeName="+k.cfg.Node)
	}
	followKube(ctx, group, k, &k.services, namespace+"/services", nil)
	followKube(ctx, group, k, &k.pods, namespace+"/pods", pods)
	if k.cfg.AllNodes {
		followKube(ctx, group, k, &k.nodes, "/api/v1/nodes", nil)
	}
	group.Go(func() error {
		settled := false
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-k.changed:
			}
			next, complete := k.found()
			if !complete {
				continue
			}
			k.tell(ctx, next)
			if !settled {
				settled = true
				k.sink.Settled(ctx)
			}
		}
	})
	return group.Wait()
}

// followKube keeps a map equal to what the API has at a path.
func followKube[T kubeObject](ctx context.Context, group *errgroup.Group, k *Kubernetes, to *map[string]T, path string, query url.Values) {
	f := &follower[T]{api: k.api, path: path, query: query, poll: k.cfg.Poll, log: k.log}
	listed := false
	f.replace = func(all map[string]T) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !listed {
			listed = true
			k.missing--
		}
		*to = all
		k.wake()
	}
	f.change = func(object T, gone bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if gone {
			delete(*to, object.meta().UID)
		} else {
			(*to)[object.meta().UID] = object
		}
		k.wake()
	}
	group.Go(func() error { return f.run(ctx) })
}

// wake has what is found looked at again.
func (k *Kubernetes) wake() {
	select {
	case k.changed <- struct{}{}:
	default: // it will be
	}
}

// tell tells the sink what is different.
func (k *Kubernetes) tell(ctx context.Context, next map[string]Found) {
	for id, f := range next {
		if old, ok := k.known[id]; !ok || !reflect.DeepEqual(old, f) {
			k.sink.Up(ctx, f)
		}
	}
	for id := range maps.Clone(k.known) {
		if _, ok := next[id]; !ok {
			k.sink.Gone(ctx, id)
		}
	}
	k.known = next
}
