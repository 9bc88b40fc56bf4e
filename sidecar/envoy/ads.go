package envoy

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"github.com/prometheus/client_golang/prometheus"
	status "google.golang.org/genproto/googleapis/rpc/status"
)

// ads serves the aggregated stream in both of its forms: whole and by difference.
type ads struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	whole      sotw.Server
	difference delta.Server
}

func newADS(ctx context.Context, c cache.ConfigWatcher, w *watcher) *ads {
	return &ads{whole: sotw.NewServer(ctx, c, w, sotw.WithOrderedADS()), difference: delta.NewServer(ctx, c, w)}
}

// StreamAggregatedResources is the generated interface's.
func (a *ads) StreamAggregatedResources(s discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return a.whole.StreamHandler(s, resource.AnyType)
}

// DeltaAggregatedResources is the generated interface's.
func (a *ads) DeltaAggregatedResources(s discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.difference.DeltaStreamHandler(s, resource.AnyType)
}

// watcher sees the traffic of all streams. It says what a proxy does not take,
// which goes on with what it has.
type watcher struct {
	log      *slog.Logger
	rejected prometheus.Counter
	proxies  prometheus.Gauge

	mu   sync.Mutex
	said map[[2]string]string // what each proxy did not like last, by its name and the type
}

const (
	// maxProblem bounds what is logged of a proxy's words, in bytes, and maxSaid how many
	// proxies are remembered: both come from the network.
	maxProblem = 500
	maxSaid    = 1000
)

func newWatcher(log *slog.Logger) *watcher {
	return &watcher{
		log: log, said: map[[2]string]string{},
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "sidecar_envoy_rejections_total", Help: "Updates that an Envoy proxy refused to take."}),
		proxies:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sidecar_envoy_streams", Help: "Streams of Envoy proxies that are open."}),
	}
}

func (w *watcher) request(from *core.Node, kind string, refusal *status.Status) {
	if refusal == nil {
		return
	}
	w.rejected.Inc()
	node, problem := clip(from.GetId()), clip(refusal.GetMessage())
	if !w.news([2]string{node, clip(kind)}, problem) {
		return // it is sent the rest with each change, and refuses that as well
	}
	w.log.Warn("a proxy refuses its configuration and goes on with the one it has",
		"node", node, "type", clip(kind), "code", refusal.GetCode(), "problem", problem)
}

// news reports whether a proxy says something else than the last time.
func (w *watcher) news(who [2]string, problem string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, known := w.said[who]; known && old == problem {
		return false
	}
	if len(w.said) >= maxSaid {
		clear(w.said)
	}
	w.said[who] = problem
	return true
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxProblem)], "") }

// OnStreamOpen and the others are those of sotw.Callbacks and delta.Callbacks.
func (w *watcher) OnStreamOpen(context.Context, int64, string) error {
	w.proxies.Inc()
	return nil
}

// OnStreamClosed is one of sotw.Callbacks.
func (w *watcher) OnStreamClosed(int64, *core.Node) { w.proxies.Dec() }

// OnStreamRequest is one of sotw.Callbacks.
func (w *watcher) OnStreamRequest(_ int64, r *discovery.DiscoveryRequest) error {
	w.request(r.GetNode(), r.GetTypeUrl(), r.GetErrorDetail())
	return nil
}

// OnStreamResponse is one of sotw.Callbacks.
func (w *watcher) OnStreamResponse(context.Context, int64, *discovery.DiscoveryRequest, *discovery.DiscoveryResponse) {
}

// OnDeltaStreamOpen is one of delta.Callbacks.
func (w *watcher) OnDeltaStreamOpen(context.Context, int64, string) error {
	w.proxies.Inc()
	return nil
}

// OnDeltaStreamClosed is one of delta.Callbacks.
func (w *watcher) OnDeltaStreamClosed(int64, *core.Node) { w.proxies.Dec() }

// OnStreamDeltaRequest is one of delta.Callbacks.
func (w *watcher) OnStreamDeltaRequest(_ int64, r *discovery.DeltaDiscoveryRequest) error {
	w.request(r.GetNode(), r.GetTypeUrl(), r.GetErrorDetail())
	return nil
}

// OnStreamDeltaResponse is one of delta.Callbacks.
func (w *watcher) OnStreamDeltaResponse(int64, *discovery.DeltaDiscoveryRequest, *discovery.DeltaDiscoveryResponse) {
}
