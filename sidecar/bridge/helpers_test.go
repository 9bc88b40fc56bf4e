package bridge

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// counting counts warnings.
type counting struct{ n atomic.Int64 }

func (c *counting) count() int64 { return c.n.Load() }

func (c *counting) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (c *counting) Handle(context.Context, slog.Record) error    { c.n.Add(1); return nil }
func (c *counting) WithAttrs([]slog.Attr) slog.Handler           { return c }
func (c *counting) WithGroup(string) slog.Handler                { return c }
