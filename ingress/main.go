package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
	"github.com/traefik/paerser/cli"
	"github.com/traefik/traefik/v3/cmd/healthcheck"
	"github.com/traefik/traefik/v3/pkg/version"
)

func main() {
	zerolog.SetGlobalLevel(zerolog.ErrorLevel) // until the log settings are known
	version.Version = traefikVersion()
	if err := execute(); err != nil {
		fmt.Fprintln(os.Stderr, "pancake-ingress:", err)
		os.Exit(1)
	}
}

// execute runs the command that the arguments of the process name.
func execute() error {
	cfg := newConfiguration()
	root := &cli.Command{
		Name:          "pancake-ingress",
		Description:   "Traefik with the routes of Pancake's sidecar. Takes all options of Traefik, see https://doc.traefik.io.",
		Configuration: cfg,
		Resources:     loaders(),
		Run: func([]string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return serve(ctx, cfg)
		},
	}
	commands := []*cli.Command{
		healthcheck.NewCmd(&cfg.Configuration, loaders()),
		{
			Name:        "version",
			Description: "Shows the version of the Traefik inside.",
			Run: func([]string) error {
				_, err := fmt.Fprintf(os.Stdout, "pancake-ingress with Traefik %s (%s, %s/%s)\n",
					version.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			},
		},
	}
	for _, c := range commands {
		if err := root.AddCommand(c); err != nil {
			return err
		}
	}
	return cli.Execute(root)
}

// serve runs Traefik until ctx ends, then lets requests finish within the
// entry points' graceTimeOut (default 10 s).
func serve(ctx context.Context, cfg *configuration) error {
	if err := setupLogger(ctx, &cfg.Configuration); err != nil {
		return fmt.Errorf("set up the log: %w", err)
	}
	if err := cfg.complete(); err != nil {
		return err
	}
	log.Info().Str("traefik", version.Version).Str("sidecar", cfg.Sidecar.URL).Msg("Starting")

	srv, err := newServer(ctx, cfg)
	if err != nil {
		return err
	}
	if cfg.Ping != nil {
		cfg.Ping.WithContext(ctx) // answers 503 from the signal on
	}
	srv.Start(ctx)
	defer srv.Close()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Error().Err(err).Msg("Could not tell systemd that the ingress is ready")
	}
	srv.Wait()
	return nil
}

// traefikVersion is the version of Traefik that this binary was built with.
func traefikVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/traefik/traefik/v3" {
				return dep.Version[len("v"):]
			}
		}
	}
	return "unknown"
}
