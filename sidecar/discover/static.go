package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake"
)

// StaticConfig says which file holds services that do not change by themselves.
type StaticConfig struct {
	// Path is the file: a list of entries in JSON, Sidecar's, or YAML of the same shape. Required.
	Path string
	// AdvertiseIP is where ports without an IP are reached.
	AdvertiseIP string
	// Poll is how often the file is looked at. Default 500 ms. A change counts when it
	// looks the same twice, so that a file that is being written is left alone.
	Poll time.Duration
	Log  *slog.Logger // default: none
}

// maxFile bounds the file, in bytes; maxEntries the services in it.
const (
	maxFile    = 8 << 20
	maxEntries = 20_000
)

// Static announces the services of a file, and follows its changes.
type Static struct {
	cfg  StaticConfig
	log  *slog.Logger
	sink Sink

	known   map[string]Found
	settled bool
	problem string // what is wrong with the file; logged
}

// NewStatic makes a Static that tells sink what is in the file. It fails with
// Invalid without a path. The file need not be there.
func NewStatic(cfg StaticConfig, sink Sink) (*Static, error) {
	if cfg.Path == "" {
		return nil, pancake.Errorf(pancake.Invalid, "discovery from a file needs the file (STATIC_CONFIG_FILE)")
	}
	cfg.Poll = cmp.Or(cfg.Poll, 500*time.Millisecond)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Static{cfg: cfg, log: cfg.Log, sink: sink, known: map[string]Found{}}, nil
}

// look is what a file looks like from outside.
type look struct {
	err  string
	size int64
	when time.Time
	file os.FileInfo
}

func (l look) same(m look) bool {
	return l.err == m.err && l.size == m.size && l.when.Equal(m.when) && (l.err != "" || os.SameFile(l.file, m.file))
}

// Run follows the file until ctx ends. While it cannot be read or is not right, its
// services stay as they are, and the log says what is wrong. If it was never right,
// the services of this host do not count as known.
func (s *Static) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	read := s.look()
	s.load(ctx)
	for before := read; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now := s.look()
		if now.same(before) && !now.same(read) {
			read = now
			s.load(ctx)
		}
		before = now
	}
}

func (s *Static) look() look {
	info, err := os.Stat(s.cfg.Path)
	if err != nil {
		return look{err: err.Error()}
	}
	return look{size: info.Size(), when: info.ModTime(), file: info}
}

// load reads the file and tells the sink what is different.
func (s *Static) load(ctx context.Context) {
	entries, when, err := s.read()
	if err != nil {
		if text := err.Error(); text != s.problem {
			s.problem = text
			s.log.ErrorContext(ctx, "the file of services is not right; its services stay as they are until it is", "err", err)
		}
		return
	}
	if s.problem != "" {
		s.problem = ""
		s.log.InfoContext(ctx, "the file of services is right again", "file", s.cfg.Path)
	}
	next := make(map[string]Found, len(entries))
	for _, e := range entries {
		f := e.found(s.cfg.AdvertiseIP)
		if f.Service.Created.IsZero() {
			f.Service.Created = when
			if old, ok := s.known[f.Service.ID]; ok {
				f.Service.Created = old.Service.Created
			}
		}
		next[f.Service.ID] = f
		if old, ok := s.known[f.Service.ID]; !ok || !reflect.DeepEqual(old, f) {
			s.sink.Up(ctx, f)
		}
	}
	for id := range maps.Clone(s.known) {
		if _, ok := next[id]; !ok {
			s.sink.Gone(ctx, id)
		}
	}
	s.known = next
	if !s.settled {
		s.settled = true
		s.sink.Settled(ctx)
	}
}

// read reads the file, and when it was written.
func (s *Static) read() ([]Entry, time.Time, error) {
	f, err := os.OpenFile(s.cfg.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, fmt.Errorf("%s is not a file", s.cfg.Path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(text) > maxFile {
		return nil, time.Time{}, fmt.Errorf("%s has more than %d bytes; is it the right file?", s.cfg.Path, maxFile)
	}
	entries, err := ParseStatic(text, s.cfg.AdvertiseIP)
	if wrong, ok := errors.AsType[*lineError](err); ok {
		err = fmt.Errorf("%s:%d: %w", s.cfg.Path, wrong.line, wrong.err)
	} else if err != nil {
		err = fmt.Errorf("%s: %w", s.cfg.Path, err)
	}
	return entries, info.ModTime().UTC().Truncate(time.Second), err
}
