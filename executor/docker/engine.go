// Package docker is the executor's way to the Docker engine: images,
// containers, their logs and events. It negotiates the API version, so engines
// from 20.10 on will do. Errors carry a kind: Unavailable when the engine does
// not answer and the same call may work later, Invalid when it never will,
// NotFound when the image or container does not exist, Conflict when a host
// port is taken, Failed for everything else.
package docker

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
)

// Config says how to reach an engine.
type Config struct {
	// Host is the engine's address, for example unix:///var/run/docker.sock.
	// Default: DOCKER_HOST with its companions, as the docker command has it.
	Host string
	// CredentialsFile holds the logins to registries as "docker login" writes
	// them. Default ~/.docker/config.json, or under DOCKER_CONFIG. It is read
	// at each pull, and need not exist.
	CredentialsFile string
}

// Engine is a Docker engine. It may be used by many goroutines.
type Engine struct {
	api         *client.Client
	credentials string
}

// New prepares the way to an engine; nothing is sent yet. The error is Invalid.
func New(cfg Config) (*Engine, error) {
	opts := []client.Opt{client.FromEnv}
	if cfg.Host != "" {
		opts = append(opts, client.WithHost(cfg.Host))
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "Docker engine address %q: %w", cfg.Host, err)
	}
	return &Engine{api: api, credentials: cmp.Or(cfg.CredentialsFile, defaultCredentials())}, nil
}

func defaultCredentials() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "" // no home, no logins
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
}

// Close ends idle connections.
func (e *Engine) Close() error { return e.api.Close() }

// Ping checks that the engine answers, within 5 s.
func (e *Engine) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := e.api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return pancake.Errorf(pancake.Unavailable, "cannot reach the Docker engine at %s: %w; is dockerd running, and may this user use it?",
			e.api.DaemonHost(), plain(err))
	}
	return nil
}

// Capacity asks for the number of CPUs and the bytes of memory of the engine's host.
func (e *Engine) Capacity(ctx context.Context) (cpus int, memory int64, err error) {
	info, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return 0, 0, e.failed(err, "ask for the host's resources")
	}
	return info.Info.NCPU, info.Info.MemTotal, nil
}

// failed gives err a kind and says what was tried.
func (e *Engine) failed(err error, doing string) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case away(err):
		return pancake.Errorf(pancake.Unavailable, "%s: the Docker engine at %s does not answer: %w", doing, e.api.DaemonHost(), plain(err))
	case errdefs.IsNotFound(err):
		return pancake.Errorf(pancake.NotFound, "%s: %w", doing, plain(err))
	case errdefs.IsInvalidArgument(err):
		return pancake.Errorf(pancake.Invalid, "%s: %w", doing, plain(err))
	}
	return pancake.Errorf(pancake.Failed, "%s: %w", doing, plain(err))
}

// away reports whether the engine, rather than the call, is at fault.
func away(err error) bool {
	var dial *net.OpError
	return client.IsErrConnectionFailed(err) || errors.As(err, &dial) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, context.DeadlineExceeded) || errdefs.IsUnavailable(err)
}

// plainError shortens the text of an error, and keeps the error.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// plain drops the engine's "Error response from daemon: " in front of what it says.
func plain(err error) error {
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	return &plainError{text: strings.TrimSpace(text), err: err}
}
