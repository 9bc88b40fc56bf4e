package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor"
	"github.com/pancake-stack/pancake/internal/etcd"
	"github.com/pancake-stack/pancake/internal/lifecycle"
	"github.com/pancake-stack/pancake/scheduler"
	store "github.com/pancake-stack/pancake/scheduler/etcd"
	"github.com/pancake-stack/pancake/sidecar"
)

// etcdPart is the embedded store.
type etcdPart struct {
	cfg    etcd.Config
	server *etcd.Server
	up     chan struct{}
}

func newEtcdPart(cfg etcd.Config) *etcdPart { return &etcdPart{cfg: cfg, up: make(chan struct{})} }

func (p *etcdPart) part() lifecycle.Part {
	return lifecycle.Part{Name: "etcd", Run: p.run, Ready: p.ready}
}

func (p *etcdPart) run(ctx context.Context) error {
	server, err := etcd.Embed(ctx, p.cfg)
	if err != nil {
		return err
	}
	p.server = server
	close(p.up)
	select {
	case err = <-server.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, server.Close())
}

// client is the store's, once the part is ready.
func (p *etcdPart) client() (*clientv3.Client, error) { return p.server.Client, nil }

func (p *etcdPart) ready(ctx context.Context) error {
	select {
	case <-p.up:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// schedulerPart runs a scheduler on the store that open returns; a secure one if
// it has an identity.
func schedulerPart(cfg scheduler.Config, secure *schedulerIdentity, open func() (*clientv3.Client, error)) lifecycle.Part {
	return lifecycle.Part{
		Name: "scheduler",
		Run: func(ctx context.Context) error {
			c, err := open()
			if err != nil {
				return err
			}
			store, err := store.Open(ctx, c)
			if err != nil {
				return err
			}
			cfg.Store = store
			if secure != nil {
				if cfg.Guard, err = secure.open(ctx, c); err != nil {
					return err
				}
			}
			s, err := scheduler.New(cfg)
			if err != nil {
				return err
			}
			return s.Run(ctx)
		},
		Ready: func(ctx context.Context) error {
			url, client := "http://"+cfg.HTTP.Addr().String()+"/readyz", http.DefaultClient
			if secure != nil {
				var err error
				if client, err = secure.client(ctx); err != nil {
					return err
				}
				defer client.CloseIdleConnections()
				url = strings.Replace(url, "http:", "https:", 1)
			}
			return answers(client, url)(ctx)
		},
	}
}

func sidecarPart(s *sidecar.Sidecar) lifecycle.Part {
	return lifecycle.Part{Name: "sidecar", Run: s.Run, Ready: s.Ready}
}

// executorPart is ready when a scheduler knows the agent, however long that
// takes: meanwhile its tasks go on and its Sidecar serves.
func executorPart(e *executor.Executor, say func(string, ...any)) lifecycle.Part {
	const name = "executor"
	return lifecycle.Part{
		Name: name, Run: e.Run,
		Ready: patiently(e.Ready, func(err error) { say("%-10s waits: %v", name, err) }), ReadyWithin: lifecycle.AsLongAsItTakes,
	}
}

// quietStart is how long a part may take before we say what it waits for.
const quietStart = 5 * time.Second

// patiently waits until ready, and tells once what for if that takes a while.
func patiently(ready func(context.Context) error, tell func(error)) func(context.Context) error {
	return func(ctx context.Context) error {
		bounded, cancel := context.WithTimeout(ctx, quietStart)
		defer cancel()
		err := ready(bounded)
		if err == nil || ctx.Err() != nil {
			return err
		}
		tell(err)
		return ready(ctx)
	}
}

// answers waits until a GET of url by client is answered with 2xx.
func answers(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		return lifecycle.Poll(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // so that the connection is reused
			if resp.StatusCode >= 300 {
				return pancake.Errorf(pancake.Unavailable, "%s: %s", url, resp.Status)
			}
			return nil
		})
	}
}

// runParts runs the parts and says a line for each as it becomes ready.
func runParts(ctx context.Context, say func(string, ...any), log *slog.Logger, parts []lifecycle.Part, running func()) error {
	started := func(p lifecycle.Part, took time.Duration) {
		say("%-10s ready in %s", p.Name, took.Round(time.Millisecond))
		log.DebugContext(ctx, "part ready", "part", p.Name, "took", took)
	}
	return lifecycle.Run(ctx, parts, started, running)
}
