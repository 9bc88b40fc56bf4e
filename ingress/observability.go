package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	gokit "github.com/go-kit/kit/metrics"
	"github.com/traefik/traefik/v3/pkg/config/static"
	"github.com/traefik/traefik/v3/pkg/middlewares/accesslog"
	"github.com/traefik/traefik/v3/pkg/observability/metrics"
	"github.com/traefik/traefik/v3/pkg/observability/tracing"
	otypes "github.com/traefik/traefik/v3/pkg/observability/types"
	"github.com/traefik/traefik/v3/pkg/server/middleware"
	"github.com/traefik/traefik/v3/pkg/tls"
)

// observability is what Traefik reports itself through.
type observability struct {
	manager *middleware.ObservabilityMgr
	metrics metrics.Registry
	semConv *metrics.SemConvMetricsRegistry
}

func newObservability(ctx context.Context, cfg *static.Configuration) (*observability, error) {
	o := &observability{metrics: metrics.NewMultiRegistry(metricRegistries(ctx, cfg.Metrics))}
	var err error
	if cfg.Metrics != nil && cfg.Metrics.OTLP != nil {
		if o.semConv, err = metrics.NewSemConvMetricRegistry(ctx, cfg.Metrics.OTLP); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	var access *accesslog.Handler
	if cfg.AccessLog != nil {
		if access, err = accesslog.NewHandler(ctx, cfg.AccessLog); err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
	}
	var tracer *tracing.Tracer
	var closer io.Closer
	if cfg.Tracing != nil {
		if tracer, closer, err = tracing.NewTracing(ctx, cfg.Tracing); err != nil {
			return nil, fmt.Errorf("tracing: %w", err)
		}
	}
	o.manager = middleware.NewObservabilityMgr(*cfg, o.metrics, o.semConv, access, tracer, closer)
	return o, nil
}

func metricRegistries(ctx context.Context, cfg *otypes.Metrics) []metrics.Registry {
	var all []metrics.Registry
	if cfg == nil {
		return all
	}
	if cfg.Prometheus != nil {
		if r := metrics.RegisterPrometheus(ctx, cfg.Prometheus); r != nil {
			all = append(all, r)
		}
	}
	if cfg.Datadog != nil {
		all = append(all, metrics.RegisterDatadog(ctx, cfg.Datadog))
	}
	if cfg.StatsD != nil {
		all = append(all, metrics.RegisterStatsd(ctx, cfg.StatsD))
	}
	if cfg.InfluxDB2 != nil {
		if r := metrics.RegisterInfluxDB2(ctx, cfg.InfluxDB2); r != nil {
			all = append(all, r)
		}
	}
	if cfg.OTLP != nil {
		if r := metrics.RegisterOpenTelemetry(ctx, cfg.OTLP); r != nil {
			all = append(all, r)
		}
	}
	return all
}

// reportCertificates tells the metrics when each certificate ends.
func reportCertificates(gauge gokit.Gauge, manager *tls.Manager) {
	for _, c := range manager.GetServerCertificates() {
		names := slices.Sorted(slices.Values(c.DNSNames))
		gauge.With("cn", c.Subject.CommonName, "serial", c.SerialNumber.String(), "sans", strings.Join(names, ",")).
			Set(float64(c.NotAfter.Unix()))
	}
}
