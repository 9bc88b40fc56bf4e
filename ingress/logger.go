package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log" //nolint:depguard // libraries of Traefik write there
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
	"github.com/sirupsen/logrus"
	"github.com/traefik/traefik/v3/pkg/config/static"
	"github.com/traefik/traefik/v3/pkg/observability/logs"
	otypes "github.com/traefik/traefik/v3/pkg/observability/types"
	"gopkg.in/natefinch/lumberjack.v2"
)

// setupLogger sends the logs of Traefik and its libraries where the settings
// say. Traefik logs through global loggers, so these are what is set.
func setupLogger(ctx context.Context, cfg *static.Configuration) error {
	settings := cmp.Or(cfg.Log, &otypes.TraefikLog{})
	if settings.OTLP != nil && (cfg.Experimental == nil || !cfg.Experimental.OTLPLogs) {
		return errors.New("log.otlp needs experimental.otlpLogs")
	}
	level, err := zerolog.ParseLevel(strings.ToLower(cmp.Or(settings.Level, "error")))
	if err != nil {
		return fmt.Errorf("log.level %q: %w", settings.Level, err)
	}
	zerolog.SetGlobalLevel(level)
	fields := zerolog.New(logWriter(settings)).With().Timestamp()
	if level <= zerolog.DebugLevel {
		fields = fields.Caller()
	}
	log.Logger = fields.Logger().Level(level)
	if settings.OTLP != nil {
		if log.Logger, err = logs.SetupOTelLogger(ctx, log.Logger, settings.OTLP); err != nil {
			return err
		}
	}
	zerolog.DefaultContextLogger = &log.Logger

	logrus.StandardLogger().Out = logs.NoLevel(log.Logger, zerolog.DebugLevel)
	stdlog.SetFlags(stdlog.Lshortfile | stdlog.LstdFlags)
	stdlog.SetOutput(logs.NoLevel(log.Logger, zerolog.DebugLevel))
	return nil
}

func logWriter(settings *otypes.TraefikLog) io.Writer {
	var w io.Writer = os.Stdout
	if settings.FilePath != "" {
		w = &lumberjack.Logger{
			Filename:   settings.FilePath,
			MaxSize:    settings.MaxSize,
			MaxBackups: settings.MaxBackups,
			MaxAge:     settings.MaxAge,
			Compress:   true,
		}
	}
	if settings.Format == "json" {
		return w
	}
	return zerolog.ConsoleWriter{Out: w, TimeFormat: time.RFC3339, NoColor: settings.NoColor || settings.FilePath != ""}
}
