package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/etcd"
	"github.com/pancake-stack/pancake/internal/lifecycle"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler"
)

// etcdFlags say where the store is.
type etcdFlags struct {
	endpoints          string
	access             etcd.Access
	listen, peerListen string
}

type schedulerFlags struct {
	etcdFlags
	http, grpc                   string
	advertiseHTTP, advertiseGRPC string
	dataDir                      string
	agentTimeout                 time.Duration
	secure, insecure             bool
	clusterName, caKey           string
	rate                         float64
	burst                        int
}

func newSchedulerCommand(env *environment) *cobra.Command {
	var f schedulerFlags
	cmd := &cobra.Command{
		Use:   "scheduler",
		Short: "Run a scheduler: the API, placement and deploys",
		Long: `Run a scheduler. It keeps its state in etcd: in an embedded one under --data-dir,
or in the cluster that --etcd names (3.4 or newer). Several schedulers on one
etcd elect a leader; the others hand calls and agents on to it.

A scheduler that others can reach is secure: it has a CA of its own, agents need a join
token and callers of the API a token or a certificate. The first operator's token goes to
operator.token under --data-dir. Schedulers of one cluster need the same --ca-key.`,
		Example: examples(
			"pancake scheduler",
			"pancake scheduler --etcd 127.0.0.1:2379 --http 127.0.0.1:7199 --grpc 127.0.0.1:7198",
		),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runScheduler(cmd.Context(), env, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.http, "http", "127.0.0.1:7099", "`address` that the API listens on")
	flags.StringVar(&f.grpc, "grpc", "127.0.0.1:7098", "`address` that agents dial")
	flags.StringVar(&f.advertiseHTTP, "advertise-http", "", "`address` of the API that other schedulers hand calls on to (default: --http)")
	flags.StringVar(&f.advertiseGRPC, "advertise-grpc", "", "`address` that other schedulers send agents to (default: --grpc)")
	f.addEtcd(flags)
	f.addDataDir(flags)
	flags.DurationVar(&f.agentTimeout, "agent-timeout", time.Minute, "silence after which an agent is given up and its tasks are replaced, `duration`")
	f.addIdentity(flags)
	return cmd
}

// addEtcd adds the flags of an existing cluster.
func (f *etcdFlags) addEtcd(flags *pflag.FlagSet) {
	flags.StringVar(&f.endpoints, "etcd", "", "`addresses` of an existing etcd cluster, host:port,…, with https:// before each if it uses TLS (default: an embedded one)")
	flags.StringVar(&f.access.CA, "etcd-ca", "", "`file` with the CA of etcd's certificates (default: those that the machine trusts)")
	flags.StringVar(&f.access.Cert, "etcd-cert", "", "`file` with the client certificate that etcd knows us by; read anew for each connection")
	flags.StringVar(&f.access.Key, "etcd-key", "", "`file` with its key, which nobody else may read")
	flags.StringVar(&f.access.User, "etcd-user", "", "`name` of the user in etcd, when it does not go by the certificate")
	flags.StringVar(&f.access.PasswordFile, "etcd-password-file", "", "`file` with the user's password, which nobody else may read")
}

// check fails when there is something to show to a cluster, and none is named.
func (f etcdFlags) check() error {
	if f.endpoints == "" && f.access != (etcd.Access{}) {
		return pancake.Errorf(pancake.Invalid, "--etcd-ca, --etcd-cert, --etcd-key, --etcd-user and --etcd-password-file are for a cluster that --etcd names; name it")
	}
	return nil
}

// addDataDir adds the flags of the embedded etcd and of all else that is kept here.
func (f *schedulerFlags) addDataDir(flags *pflag.FlagSet) {
	flags.StringVar(&f.listen, "etcd-listen", "127.0.0.1:2379", "`address` that the embedded etcd listens on for clients")
	flags.StringVar(&f.peerListen, "etcd-peer-listen", "127.0.0.1:2380", "`address` that the embedded etcd listens on for peers")
	flags.StringVar(&f.dataDir, "data-dir", ".pancake/scheduler", "`directory` for what must survive a restart")
}

func runScheduler(ctx context.Context, env *environment, f schedulerFlags) error {
	log, err := env.logger()
	if err != nil {
		return err
	}
	if err := errors.Join(f.check(), f.settle()); err != nil {
		return err
	}
	dir, err := openDataDir(f.dataDir, "scheduler")
	if err != nil {
		return err
	}
	defer dir.close()
	cfg := schedulerConfig(log, cmp.Or(f.advertiseHTTP, f.http), cmp.Or(f.advertiseGRPC, f.grpc))
	cfg.HardTimeout = f.agentTimeout
	if cfg.HTTP, err = serve.Listen(ctx, f.http); err != nil {
		return err
	}
	if cfg.GRPC, err = serve.Listen(ctx, f.grpc); err != nil {
		return err
	}
	secure, err := f.identity(env, dir, cfg)
	if err != nil {
		return err
	}
	parts, err := f.parts(ctx, cfg, secure, dir, log)
	if err != nil {
		return err
	}
	return runParts(ctx, env.say, log, parts, func() {
		env.say("\nPancake is ready: API %s://%s, agents dial %s", f.scheme(), f.http, f.grpc)
	})
}

// parts are the scheduler and, unless the store is elsewhere, the store.
func (f schedulerFlags) parts(ctx context.Context, cfg scheduler.Config, secure *schedulerIdentity, dir *dataDir, log logger) ([]lifecycle.Part, error) {
	if f.endpoints == "" {
		store := newEtcdPart(f.embedded(dir.join("etcd"), log))
		return []lifecycle.Part{store.part(), schedulerPart(cfg, secure, store.client)}, nil
	}
	client, err := etcd.Dial(ctx, list(f.endpoints), f.access)
	if err != nil {
		return nil, err
	}
	return []lifecycle.Part{schedulerPart(cfg, secure, func() (*clientv3.Client, error) { return client, nil })}, nil
}

// schedulerConfig is what "scheduler" and "dev" have in common. No two
// schedulers share an address, and a restart keeps it: it serves as the ID.
func schedulerConfig(log logger, http, grpc string) scheduler.Config {
	return scheduler.Config{ID: http, AdvertiseHTTP: http, AdvertiseGRPC: grpc, Log: log.With("part", "scheduler")}
}
