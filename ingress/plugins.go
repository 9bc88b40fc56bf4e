package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/rs/zerolog/log"
	"github.com/traefik/traefik/v3/pkg/config/static"
	"github.com/traefik/traefik/v3/pkg/observability/logs"
	"github.com/traefik/traefik/v3/pkg/plugins"
	"github.com/traefik/traefik/v3/pkg/provider/aggregator"
)

// pluginStorage is where Traefik keeps the plugins that it downloads, relative
// to the working directory.
const pluginStorage = "plugins-storage"

// loadPlugins prepares the user's plugins and adds those that are providers.
// Where a stock Traefik goes on without its plugins, this one stops: a route
// whose middleware is missing is not served, or worse, not protected.
func loadPlugins(cfg *static.Configuration, providers *aggregator.ProviderAggregator) (*plugins.Builder, error) {
	var remote map[string]plugins.Descriptor
	var local map[string]plugins.LocalDescriptor
	if cfg.Experimental != nil {
		remote, local = cfg.Experimental.Plugins, cfg.Experimental.LocalPlugins
	}
	for name := range local {
		if _, ok := remote[name]; ok {
			return nil, fmt.Errorf("plugin %s is both local and remote", name)
		}
	}
	manager, err := downloadPlugins(remote)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	if len(local) > 0 {
		if err := plugins.SetupLocalPlugins(local); err != nil {
			return nil, fmt.Errorf("local plugins: %w", err)
		}
	}
	builder, err := plugins.NewBuilder(manager, remote, local)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	for name, conf := range cfg.Providers.Plugin {
		p, err := builder.BuildProvider(name, conf)
		if err != nil {
			return nil, fmt.Errorf("provider plugin %s: %w", name, err)
		}
		if err := providers.AddProvider(p); err != nil {
			return nil, fmt.Errorf("provider plugin %s: %w", name, err)
		}
	}
	return builder, nil
}

func downloadPlugins(remote map[string]plugins.Descriptor) (*plugins.Manager, error) {
	if len(remote) == 0 {
		return nil, nil
	}
	client := retryablehttp.NewClient()
	client.Logger = logs.NewRetryableHTTPLogger(log.Logger)
	client.HTTPClient = &http.Client{Timeout: 10 * time.Second}
	client.RetryMax = 3
	downloader, err := plugins.NewRegistryDownloader(plugins.RegistryDownloaderOptions{
		HTTPClient:   client.HTTPClient,
		ArchivesPath: filepath.Join(pluginStorage, "archives"),
	})
	if err != nil {
		return nil, err
	}
	manager, err := plugins.NewManager(downloader, plugins.ManagerOptions{Output: pluginStorage})
	if err != nil {
		return nil, err
	}
	return manager, plugins.SetupRemotePlugins(manager, remote)
}
