// Package etcd opens the store that Pancake keeps its state in: an embedded
// single-member etcd, or an existing cluster.
package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"github.com/pancake-stack/pancake"
)

// The defaults of Config.
const (
	DefaultClientURL = "http://127.0.0.1:2379"
	DefaultPeerURL   = "http://127.0.0.1:2380"
)

const (
	startLimit = 30 * time.Second // a member with a large write-ahead log needs a while
	quota      = 2 << 30          // bytes; etcd's default, spelled out
	retention  = "1h"             // of old revisions, before they are compacted away
)

// Config says where an embedded etcd keeps its data and listens.
type Config struct {
	// DataDir is created if needed. Required.
	DataDir string
	// ClientURL and PeerURL are where it listens: "http://host:port", or
	// "unix://name:0" for a socket. Default DefaultClientURL and DefaultPeerURL.
	ClientURL, PeerURL string
	// Log gets etcd's warnings and errors. Default slog.Default.
	Log *slog.Logger
	// Unsafe skips fsync and elects in a tenth of the time. For tests: a
	// crash of the machine loses data.
	Unsafe bool
}

// Server is a running embedded etcd.
type Server struct {
	// Client talks to it inside the process, without a socket.
	Client *clientv3.Client
	// Endpoint is where other processes reach it.
	Endpoint string

	etcd *embed.Etcd
	log  *core
	lock *fileutil.LockedFile
}

// Embed starts a single-member etcd and returns when it serves. It fails with
// Conflict when another process has the data directory or a port, and with
// Unavailable when the member does not come up within 30 s. ctx bounds the
// start only; the caller must Close the server.
func Embed(ctx context.Context, cfg Config) (*Server, error) {
	log := newCore(cmp.Or(cfg.Log, slog.Default()))
	ec, err := embedConfig(cfg, log)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	e, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, errors.Join(startError(err, ec), lock.Close())
	}
	s := &Server{etcd: e, log: log, lock: lock, Endpoint: ec.ListenClientUrls[0].String()}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	select {
	case <-e.Server.ReadyNotify():
		s.Client = v3client.New(e.Server)
		log.on.Store(true)
		return s, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = pancake.Errorf(pancake.Unavailable, "embedded etcd in %s did not become ready: %w", cfg.DataDir, ctx.Err())
	}
	return nil, errors.Join(err, s.Close())
}

// Err delivers the failure of a server that stops by itself.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops the server and releases the data directory.
func (s *Server) Close() error {
	s.log.on.Store(false)
	var err error
	if s.Client != nil {
		err = s.Client.Close()
	}
	if errors.Is(err, context.Canceled) {
		err = nil // what an in-process client answers to its own end
	}
	s.etcd.Server.HardStop() // one member has nobody to hand leadership to; a graceful stop only waits
	s.etcd.Close()
	return errors.Join(err, s.lock.Close())
}

func embedConfig(cfg Config, log *core) (*embed.Config, error) {
	if cfg.DataDir == "" {
		return nil, pancake.Errorf(pancake.Invalid, "embedded etcd needs a data directory")
	}
	client, err := parseURL(cmp.Or(cfg.ClientURL, DefaultClientURL))
	if err != nil {
		return nil, err
	}
	peer, err := parseURL(cmp.Or(cfg.PeerURL, DefaultPeerURL))
	if err != nil {
		return nil, err
	}
	ec := embed.NewConfig()
	ec.Name = "pancake"
	ec.Dir = filepath.Join(cfg.DataDir, "member")
	ec.ListenClientUrls, ec.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	ec.ListenPeerUrls, ec.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	ec.AutoCompactionMode, ec.AutoCompactionRetention = embed.CompactorModePeriodic, retention
	ec.QuotaBackendBytes = quota
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(log))
	if cfg.Unsafe {
		ec.UnsafeNoFsync = true
		ec.TickMs, ec.ElectionMs = 10, 100
	}
	return ec, nil
}

func parseURL(text string) (url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return url.URL{}, pancake.Errorf(pancake.Invalid, "etcd address %q is not a URL such as %s", text, DefaultClientURL)
	}
	return *u, nil
}

// lockDir takes the data directory. etcd locks its database too, but waits for
// it without limit and without a word.
func lockDir(dir string) (*fileutil.LockedFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "cannot create the data directory of etcd: %w", err)
	}
	lock, err := fileutil.TryLockFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, fileutil.ErrLocked):
		return nil, pancake.Errorf(pancake.Conflict,
			"data directory %s is in use by another process; stop it or choose another directory", dir)
	}
	return nil, fmt.Errorf("lock the data directory %s: %w", dir, err)
}

func startError(err error, ec *embed.Config) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return pancake.Errorf(pancake.Conflict,
			"embedded etcd cannot listen on %s and %s: a port is in use by another process; stop it, choose other ports, or name its cluster with --etcd: %w",
			ec.ListenClientUrls[0].Host, ec.ListenPeerUrls[0].Host, err)
	}
	return fmt.Errorf("start embedded etcd in %s: %w", ec.Dir, err)
}
