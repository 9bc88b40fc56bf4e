package provider

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
)

// maxLine bounds one configuration: 10,000 services are about 4 MB.
const maxLine = 64 << 20

// follow reads one stream until it ends, and calls alive with each line. It
// never returns nil.
func (l *listener) follow(ctx context.Context, alive func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.stream, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("status %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		watchdog.Reset(silence)
		alive()
		if err := l.accept(ctx, lines.Bytes()); err != nil {
			return err
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the sidecar ended the stream")
}

// accept puts a line in force if it is a new and good configuration. A bad one
// is logged, once. The error is that of ctx.
func (l *listener) accept(ctx context.Context, line []byte) error {
	line = bytes.TrimSpace(line)
	if len(line) == 0 { // alive; without a configuration it has none yet
		l.useCache(ctx)
		return nil
	}
	if bytes.Equal(line, l.last) || bytes.Equal(line, l.bad) {
		return nil
	}
	conf, err := decode(line)
	if err != nil {
		l.bad = bytes.Clone(line)
		l.log.Error().Err(err).Msg("The sidecar sent a configuration that is not one; routes stay as they are")
		return nil
	}
	if err := l.send(ctx, conf); err != nil {
		return err
	}
	l.last, l.bad = bytes.Clone(line), nil
	if err := l.saveCache(line); err != nil {
		l.log.Warn().Err(err).Msg("Could not keep the routes for the next start")
	}
	return nil
}

func (l *listener) send(ctx context.Context, conf *dynamic.Configuration) error {
	select {
	case l.out <- dynamic.Message{ProviderName: Name, Configuration: conf}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
