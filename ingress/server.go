package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog/log"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/config/runtime"
	"github.com/traefik/traefik/v3/pkg/config/static"
	"github.com/traefik/traefik/v3/pkg/observability/logs"
	"github.com/traefik/traefik/v3/pkg/observability/metrics"
	"github.com/traefik/traefik/v3/pkg/provider/acme"
	"github.com/traefik/traefik/v3/pkg/provider/aggregator"
	"github.com/traefik/traefik/v3/pkg/provider/tailscale"
	"github.com/traefik/traefik/v3/pkg/provider/traefik"
	"github.com/traefik/traefik/v3/pkg/proxy"
	"github.com/traefik/traefik/v3/pkg/proxy/httputil"
	"github.com/traefik/traefik/v3/pkg/safe"
	"github.com/traefik/traefik/v3/pkg/server"
	"github.com/traefik/traefik/v3/pkg/server/service"
	"github.com/traefik/traefik/v3/pkg/tcp"
	"github.com/traefik/traefik/v3/pkg/tls"
	"github.com/traefik/traefik/v3/pkg/version"

	"github.com/pancake-stack/pancake/ingress/provider"
)

// internalProvider is the name of the provider whose configuration Traefik
// waits for before it applies any.
const internalProvider = "internal"

// newServer puts a Traefik together as its own command does (cmd/traefik of
// the same version), with our provider among the user's. The server's
// goroutines end when it is closed.
func newServer(ctx context.Context, cfg *configuration) (*server.Server, error) {
	pool := safe.NewPool(context.WithoutCancel(ctx)) // it outlives ctx while requests finish
	s, err := assemble(ctx, cfg, pool)
	if err != nil {
		pool.Stop()
		return nil, err
	}
	return s, nil
}

func assemble(ctx context.Context, cfg *configuration, pool *safe.Pool) (*server.Server, error) {
	conf := &cfg.Configuration
	providers, err := newProviders(cfg)
	if err != nil {
		return nil, err
	}
	tlsManager := tls.NewManager(conf.OCSP)
	pool.GoCtx(tlsManager.Run)
	certs, err := newResolvers(conf, providers, tlsManager, pool)
	if err != nil {
		return nil, err
	}
	obs, err := newObservability(ctx, conf)
	if err != nil {
		return nil, err
	}
	plugins, err := loadPlugins(conf, providers)
	if err != nil {
		return nil, err
	}
	if conf.API != nil {
		version.DisableDashboardAd = conf.API.DisableDashboardAd
	}
	tcpPoints, err := server.NewTCPEntryPoints(conf.EntryPoints, conf.HostResolver, obs.metrics)
	if err != nil {
		return nil, err
	}
	udpPoints, err := server.NewUDPEntryPoints(conf.EntryPoints)
	if err != nil {
		return nil, err
	}
	out, err := newTransports(ctx, conf, obs)
	if err != nil {
		return nil, err
	}
	services := service.NewManagerFactory(*conf, pool, obs.manager, out.http, out.proxy, certs.httpChallenge())
	routers, err := server.NewRouterFactory(*conf, services, tlsManager, obs.manager, plugins, out.tcp)
	if err != nil {
		return nil, fmt.Errorf("routers: %w", err)
	}
	defaultCertificate, err := newDefaultCertificate(time.Now())
	if err != nil {
		return nil, err
	}

	watcher := server.NewConfigurationWatcher(pool, providers, defaultEntryPoints(conf), internalProvider)
	watcher.AddListener(func(c dynamic.Configuration) {
		stores := withDefault(c.TLS.Stores, defaultCertificate)
		tlsManager.UpdateConfigs(context.WithoutCancel(ctx), stores, c.TLS.Options, c.TLS.Certificates)
		reportCertificates(obs.metrics.TLSCertsNotAfterTimestampGauge(), tlsManager)
	})
	watcher.AddListener(out.update)
	watcher.AddListener(func(c dynamic.Configuration) {
		http, udp := routers.CreateRouters(runtime.NewConfig(c))
		tcpPoints.Switch(http)
		udpPoints.Switch(udp)
	})
	reportReloads(watcher, obs.metrics, tcpPoints)
	certs.listen(watcher)
	return server.NewServer(pool, tcpPoints, udpPoints, watcher, obs.manager), nil
}

// newProviders collects where routes come from: the user's providers, which
// keep their throttle, Traefik's internal one, and the sidecar.
func newProviders(cfg *configuration) (*aggregator.ProviderAggregator, error) {
	providers := aggregator.NewProviderAggregator(*cfg.Providers)
	if err := providers.AddProvider(traefik.New(cfg.Configuration)); err != nil {
		return nil, err
	}
	sidecar := &provider.Provider{
		URL: cfg.Sidecar.URL, Cache: cfg.Sidecar.Cache,
		TLS: provider.TLS{CA: cfg.Sidecar.CA, Cert: cfg.Sidecar.Cert, Key: cfg.Sidecar.Key},
	}
	if err := providers.AddProvider(sidecar); err != nil {
		return nil, err
	}
	return providers, nil
}

// reportReloads counts changes of the configuration.
func reportReloads(watcher *server.ConfigurationWatcher, registry metrics.Registry, points server.TCPEntryPoints) {
	watcher.AddListener(func(dynamic.Configuration) {
		registry.ConfigReloadsCounter().Add(1)
		registry.LastConfigReloadSuccessGauge().Set(float64(time.Now().Unix()))
	})
	if registry.IsEpEnabled() || registry.IsRouterEnabled() || registry.IsSvcEnabled() {
		names := slices.Sorted(maps.Keys(points))
		watcher.AddListener(func(c dynamic.Configuration) { metrics.OnConfigurationUpdate(c, names) })
	}
}

// transports are the ways to the servers behind the ingress.
type transports struct {
	http  *service.TransportManager
	proxy service.ProxyBuilder
	tcp   *tcp.DialerManager
}

func newTransports(ctx context.Context, conf *static.Configuration, obs *observability) (*transports, error) {
	var spiffe *workloadapi.X509Source
	if conf.Spiffe != nil && conf.Spiffe.WorkloadAPIAddr != "" {
		log.Info().Str("workloadAPIAddr", conf.Spiffe.WorkloadAPIAddr).Msg("Waiting for a SPIFFE identity")
		var err error
		spiffe, err = workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(conf.Spiffe.WorkloadAPIAddr)))
		if err != nil {
			return nil, fmt.Errorf("SPIFFE: %w", err)
		}
	}
	t := &transports{http: service.NewTransportManager(spiffe), tcp: tcp.NewDialerManager(spiffe)}
	t.proxy = httputil.NewProxyBuilder(t.http, obs.semConv)
	if conf.Experimental != nil && conf.Experimental.FastProxy != nil {
		t.proxy = proxy.NewSmartBuilder(t.http, t.proxy, *conf.Experimental.FastProxy)
	}
	return t, nil
}

func (t *transports) update(c dynamic.Configuration) {
	t.http.Update(c.HTTP.ServersTransports)
	t.proxy.Update(c.HTTP.ServersTransports)
	t.tcp.Update(c.TCP.ServersTransports)
}

// defaultEntryPoints are those of routers that name none.
func defaultEntryPoints(conf *static.Configuration) []string {
	marked := false
	for _, ep := range conf.EntryPoints {
		marked = marked || ep.AsDefault
	}
	var names []string
	for name, ep := range conf.EntryPoints {
		protocol, err := ep.GetProtocol()
		if err != nil || protocol == "udp" || name == static.DefaultInternalEntryPointName || marked && !ep.AsDefault {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// resolvers get certificates for routers.
type resolvers struct {
	names     map[string]bool
	acme      []*acme.Provider
	tailscale []*tailscale.Provider
	http      *acme.ChallengeHTTP
	tls       *acme.ChallengeTLSALPN
}

func newResolvers(conf *static.Configuration, providers *aggregator.ProviderAggregator, manager *tls.Manager, pool *safe.Pool) (*resolvers, error) {
	r := &resolvers{names: map[string]bool{}, http: acme.NewChallengeHTTP(), tls: acme.NewChallengeTLSALPN()}
	if err := providers.AddProvider(r.tls); err != nil {
		return nil, err
	}
	stores := map[string]*acme.LocalStore{}
	for name, resolver := range conf.CertificatesResolvers {
		if resolver.Tailscale != nil {
			p := &tailscale.Provider{ResolverName: name}
			if err := providers.AddProvider(p); err != nil {
				return nil, fmt.Errorf("certificate resolver %s: %w", name, err)
			}
			r.tailscale = append(r.tailscale, p)
			r.names[name] = true
		}
		if resolver.ACME == nil {
			continue
		}
		if stores[resolver.ACME.Storage] == nil {
			stores[resolver.ACME.Storage] = acme.NewLocalStore(resolver.ACME.Storage, pool)
		}
		p := &acme.Provider{
			Configuration:         resolver.ACME,
			Store:                 stores[resolver.ACME.Storage],
			ResolverName:          name,
			HTTPChallengeProvider: r.http,
			TLSChallengeProvider:  r.tls,
		}
		if err := providers.AddProvider(p); err != nil {
			// As in Traefik: one resolver that fails must not stop all routing.
			log.Error().Err(err).Str("resolver", name).Msg("Certificate resolver left out")
			continue
		}
		p.SetTLSManager(manager)
		p.SetConfigListenerChan(make(chan dynamic.Configuration))
		r.acme = append(r.acme, p)
		r.names[name] = true
	}
	return r, nil
}

// httpChallenge answers ACME's HTTP challenges, nil if no resolver uses them.
func (r *resolvers) httpChallenge() http.Handler {
	for _, p := range r.acme {
		if p.HTTPChallenge != nil {
			return r.http
		}
	}
	return nil
}

func (r *resolvers) listen(watcher *server.ConfigurationWatcher) {
	watcher.AddListener(r.tls.ListenConfiguration)
	for _, p := range r.acme {
		watcher.AddListener(p.ListenConfiguration)
	}
	for _, p := range r.tailscale {
		watcher.AddListener(p.HandleConfigUpdate)
	}
	watcher.AddListener(func(c dynamic.Configuration) {
		for name, router := range c.HTTP.Routers {
			if router.TLS != nil && router.TLS.CertResolver != "" && !r.names[router.TLS.CertResolver] {
				log.Error().Str(logs.RouterName, name).Str("certificateResolver", router.TLS.CertResolver).
					Msg("Router uses a certificate resolver that does not exist")
			}
		}
	})
}
