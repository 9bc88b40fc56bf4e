package etcd

import (
	"log/slog"
	"slices"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// noise is what etcd warns about at every start and nobody can or need change.
var noise = []string{
	"simple token is not cryptographically signed",
	"Running http and grpc server on single port. This is not recommended for production.",
	"Failed to detect schema version", // a new member has no snapshot to read it from
	"failed to update storage version",
}

// core hands the warnings and errors of a running etcd to slog and drops the
// rest: a start that fails returns its error, and a stop is full of listeners
// that say they were closed. What etcd ends the process over is always said.
type core struct {
	log    *slog.Logger
	on     *atomic.Bool
	fields []zapcore.Field
}

func newCore(log *slog.Logger) *core { return &core{log: log, on: new(atomic.Bool)} }

func (c *core) Enabled(l zapcore.Level) bool {
	return l >= zapcore.DPanicLevel || l >= zapcore.WarnLevel && c.on.Load()
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: c.log, on: c.on, fields: slices.Concat(c.fields, fields)}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || slices.Contains(noise, e.Message) {
		return ce
	}
	return ce.AddCore(e, c)
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		f.AddTo(enc)
	}
	args := []any{"event", e.Message}
	for k, v := range enc.Fields {
		args = append(args, k, v)
	}
	if e.Level >= zapcore.ErrorLevel {
		c.log.Error("embedded etcd failed", args...)
		return nil
	}
	c.log.Warn("embedded etcd warns", args...)
	return nil
}

func (c *core) Sync() error { return nil }
