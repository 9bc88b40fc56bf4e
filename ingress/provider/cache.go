package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// useCache puts the cached configuration in force if there is none yet. It
// looks once: nothing but this provider writes the file.
func (l *listener) useCache(ctx context.Context) {
	if l.Cache == "" || l.last != nil || l.looked {
		return
	}
	l.looked = true
	line, err := readCache(l.Cache)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		l.log.Warn().Err(err).Msg("Could not read the routes of the last run")
		return
	}
	conf, err := decode(line)
	if err != nil {
		l.log.Warn().Err(err).Str("file", l.Cache).Msg("The routes of the last run are not usable")
		return
	}
	if l.send(ctx, conf) == nil {
		l.last = line
		l.log.Info().Str("file", l.Cache).Msg("Using the routes of the last run")
	}
}

func readCache(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := io.ReadAll(io.LimitReader(f, maxLine))
	return bytes.TrimSpace(line), err
}

// saveCache replaces the cache. Its content may name credentials of
// middlewares, so only the owner may read it.
func (l *listener) saveCache(line []byte) error {
	if l.Cache == "" {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(l.Cache), filepath.Base(l.Cache)+".*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), l.Cache)
	}
	if err != nil {
		return fmt.Errorf("cache: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
