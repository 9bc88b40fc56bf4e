package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/file"
	"github.com/pancake-stack/pancake/goavail/notify"
	"github.com/pancake-stack/pancake/goavail/source"
	"github.com/pancake-stack/pancake/internal/etcd"
	"github.com/pancake-stack/pancake/internal/identity"
	sidecar "github.com/pancake-stack/pancake/sidecar/client"
)

func newGoavailRunCommand(env *environment) *cobra.Command {
	var f goavailFile
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent of one place",
		Long: `Run the agent of one place until it is told to end. With several places each needs one,
all with the same configuration but for the place. Agents start and work while others are
down; nothing is changed until more than half of them agree.

A configuration that is new is only shown what it would change, until "pancake goavail
apply" confirms it on any agent. SIGHUP reads targets, and which of them records have, again.`,
		Example: examples(
			"pancake goavail run -f goavail.yml --place fra",
			"pancake goavail run -f goavail.toml --type tcp --dns-provider route53   # the old goavail's file",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runGoavail(cmd.Context(), env, f) },
	}
	f.add(cmd)
	return cmd
}

func runGoavail(ctx context.Context, env *environment, f goavailFile) error {
	log, err := env.logger()
	if err != nil {
		return err
	}
	read, err := f.load(env)
	if err != nil {
		return err
	}
	env.warn(read)
	r := &goavailRun{env: env, flags: f, file: read, log: log.With("part", "goavail")}
	return r.run(ctx)
}

// goavailRun is an agent with what it needs around it.
type goavailRun struct {
	env    *environment
	flags  goavailFile
	file   *file.File
	log    logger
	follow *source.Follower // nil if all targets are listed by hand
	agent  *goavail.Agent
	cert   *identity.Source         // of the API; nil if it speaks plain HTTP
	known  map[string][]source.Node // by the platform at the start
	nodes  chan map[string][]source.Node
}

func (r *goavailRun) run(ctx context.Context) error {
	dir, err := openDataDir(r.file.DataDir(), "goavail")
	if err != nil {
		// What is a flag of other commands is a key of the file here.
		return pancake.Errorf(pancake.KindOf(err), "%s: %s", r.file.Name, strings.ReplaceAll(err.Error(), "--data-dir", "data_dir"))
	}
	defer dir.close()
	if err := r.learn(ctx); err != nil {
		return err
	}
	cfg, err := r.file.Config(r.known)
	if err != nil {
		return err
	}
	cfg.Log, r.cert = r.log, cfg.Certificate
	if cfg.Provider, err = r.file.OpenProvider(ctx); err != nil {
		return err
	}
	if closer, ok := cfg.Provider.(io.Closer); ok {
		defer closer.Close()
	}
	if len(r.file.Settings.Etcd) > 0 {
		if cfg.Etcd, err = r.dial(ctx, r.file.Settings.Etcd); err != nil {
			return err
		}
		defer cfg.Etcd.Close()
	}
	if err := cfg.Validate(); err != nil {
		return pancake.Errorf(pancake.Invalid, "%s: %w", r.file.Name, err)
	}
	hooks, err := r.file.Hooks()
	if err != nil {
		return err
	}
	teller := notify.New(notify.Config{Hooks: hooks, Cluster: cmp.Or(cfg.Cluster, "default"), Log: r.log})
	cfg.Notify = teller.Tell
	if r.agent, err = goavail.New(cfg); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.agent.Run(ctx) })
	group.Go(func() error { return teller.Run(ctx) })
	group.Go(func() error { return r.reload(ctx) })
	if r.follow != nil {
		group.Go(func() error { return r.follow.Run(ctx, false) })
	}
	group.Go(func() error {
		scheme := "http"
		if r.cert != nil {
			scheme = "https"
		}
		if r.agent.Ready(ctx) == nil {
			r.env.say("\ngoavail is ready: place %s, API %s://%s", cfg.Place, scheme, cmp.Or(cfg.HTTPAddr, "127.0.0.1:7950"))
		}
		return nil
	})
	if err := group.Wait(); ctx.Err() == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// learn asks the platform which nodes there are, if it is to be asked. Only at the very
// first start it waits for an answer: without one everything would look gone.
func (r *goavailRun) learn(ctx context.Context) error {
	sources := platformSources(r.file)
	if len(sources) == 0 {
		return nil
	}
	r.nodes = make(chan map[string][]source.Node, 1)
	var err error
	r.follow, err = source.New(source.Config{Sources: sources, DataDir: r.file.DataDir(), Changed: r.changed, Log: r.log})
	if err != nil {
		return err
	}
	if missing, ok := r.follow.Known(); !ok {
		r.env.say("goavail waits for the platform to name the nodes of target %s", missing)
		if err := r.follow.Run(ctx, true); err != nil {
			return err
		}
	}
	r.known = r.follow.Nodes()
	return nil
}

// changed keeps the newest nodes for reload.
func (r *goavailRun) changed(nodes map[string][]source.Node) {
	select {
	case <-r.nodes:
	default: // the last ones were taken
	}
	r.nodes <- nodes
}

// reload takes over new nodes of the platform, and a changed file after SIGHUP.
func (r *goavailRun) reload(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	nodes := r.known
	for {
		next := r.file
		select {
		case <-ctx.Done():
			return ctx.Err()
		case nodes = <-r.nodes:
		case <-hup:
			fresh, err := r.flags.load(r.env)
			if err == nil && !sameSets(fresh.Settings.Records, r.file.Settings.Records) {
				err = errNewSets
			}
			if err != nil {
				r.refused(ctx, err)
				continue
			}
			next = fresh
		}
		r.take(ctx, next, nodes)
	}
}

// take hands the agent what a file says with the nodes that the platform has. A file that
// the agent refuses is forgotten: it would be in the way of the nodes that change later.
func (r *goavailRun) take(ctx context.Context, next *file.File, nodes map[string][]source.Node) {
	err := r.agent.Reload(next.Watched(nodes))
	switch {
	case next == r.file && err != nil:
		r.log.ErrorContext(ctx, "targets and records stay as they were", "err", err)
	case next == r.file:
	case err != nil:
		r.refused(ctx, err)
	default:
		r.file = next
		r.renew(ctx)
		r.log.InfoContext(ctx, "targets and the certificate are read again; all else needs a restart")
	}
}

func (r *goavailRun) refused(ctx context.Context, err error) {
	r.log.ErrorContext(ctx, "the changed configuration is not used; the one before it stays", "err", err)
}

// errNewSets keeps records that nobody has confirmed from being acted on.
var errNewSets = pancake.Errorf(pancake.Invalid, "records differ in more than their targets: restart the agent, so that what would be changed is shown first")

// sameSets says whether two lists of records differ in nothing but their targets.
func sameSets(a, b []file.Record) bool {
	return slices.EqualFunc(a, b, func(x, y file.Record) bool {
		x.Targets, y.Targets = nil, nil
		return reflect.DeepEqual(x, y)
	})
}

// renew takes over a certificate that has been replaced on disk.
func (r *goavailRun) renew(ctx context.Context) {
	if r.cert == nil || r.file.Settings.API.Identity == "" {
		return
	}
	leaf, err := identity.Files{Dir: r.file.Settings.API.Identity}.Load()
	if err == nil {
		err = r.cert.Set(leaf)
	}
	if err != nil {
		r.log.ErrorContext(ctx, "the API keeps the certificate that it has", "err", err)
	}
}

// dial connects to etcd, however long that takes: an agent must not give up because the
// store is being restarted.
func (r *goavailRun) dial(ctx context.Context, endpoints []string) (*clientv3.Client, error) {
	for told := false; ; told = true {
		c, err := dialEtcd(ctx, r.file, endpoints)
		if err == nil || pancake.KindOf(err) != pancake.Unavailable {
			return c, err
		}
		if !told {
			r.env.say("goavail waits for etcd: %v", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// dialEtcd connects to a store that is not ours.
func dialEtcd(ctx context.Context, f *file.File, endpoints []string) (*clientv3.Client, error) {
	return etcd.Dial(ctx, endpoints, etcd.Access(f.Settings.EtcdAccess))
}

// platformSources are where targets are read from.
func platformSources(f *file.File) map[string]source.Source {
	out := map[string]source.Source{}
	for _, t := range f.Settings.Targets {
		switch from := t.From; {
		case from.IsZero():
		case from.Sidecar != "":
			out[t.Name] = &source.Sidecar{
				Client: &sidecar.Client{URL: from.Sidecar}, Service: from.Service, ServicePort: from.ServicePort, Addresses: from.Addresses,
			}
		default:
			out[t.Name] = &source.Etcd{
				Dial:   func(ctx context.Context) (*clientv3.Client, error) { return dialEtcd(ctx, f, from.Etcd) },
				Prefix: from.Prefix, Addresses: from.Addresses,
			}
		}
	}
	return out
}
