package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/etcd"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/authority"
)

func newCAInitCommand(env *environment) *cobra.Command {
	var f schedulerFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the CA before the first scheduler starts",
		Long: `Make the CA of a cluster where its schedulers will look for it: in the etcd that
--etcd names, else in the embedded one under --data-dir, which no scheduler may be using. It is
kept with the key that --ca-key names, which all schedulers of the cluster need. Where there is
a CA already, nothing changes. Its fingerprint is printed, for "pancake login" and others to know
the schedulers by.

Nobody has to: the first scheduler makes the CA when there is none.`,
		Example: examples(
			"pancake ca init --data-dir /var/lib/pancake/scheduler --cluster-name shop",
			"pancake ca init --etcd https://10.0.0.1:2379 --etcd-ca etcd-ca.pem --ca-key /etc/pancake/ca.key",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return initCA(cmd.Context(), env, f) },
	}
	flags := cmd.Flags()
	f.addEtcd(flags)
	f.addDataDir(flags)
	f.addAuthority(flags)
	return cmd
}

// initOutput is what "ca init -o json" prints.
type initOutput struct {
	Cluster     string `json:"cluster"`
	Fingerprint string `json:"fingerprint"` // of the CA that issues
	Created     bool   `json:"created"`
	KeyFile     string `json:"keyFile,omitempty"` // if it was made just now
}

func initCA(ctx context.Context, env *environment, f schedulerFlags) error {
	log, err := env.logger()
	if err != nil {
		return err
	}
	if err := errors.Join(f.check(), identity.ValidCluster(f.clusterName)); err != nil {
		return err
	}
	dir, err := openDataDir(f.dataDir, "ca init")
	if err != nil {
		return err
	}
	defer dir.close()
	var made string
	sealer, err := f.sealer(env.getenv, dir.join(caKeyFile), &made)
	if err != nil {
		return err
	}
	store, done, err := f.open(ctx, dir, log)
	if err != nil {
		return err
	}
	out := initOutput{Cluster: f.clusterName, KeyFile: made}
	a, created, err := authority.Init(ctx, authority.Config{Client: store, Sealer: sealer, Cluster: f.clusterName, Log: log})
	if err != nil {
		return errors.Join(otherKey(err, made), done())
	}
	out.Fingerprint, out.Created = identity.FingerprintOf(a.Bundle()[0]).String(), created
	if err := done(); err != nil {
		return err
	}
	return env.printInit(out)
}

func (e *environment) printInit(out initOutput) error {
	if e.json() {
		return e.printJSON(out)
	}
	if out.Created {
		e.printf("the CA of cluster %s is made\n", out.Cluster)
	} else {
		e.printf("cluster %s has a CA already; nothing was changed\n", out.Cluster)
	}
	if out.KeyFile != "" {
		e.printf("its key is kept with the one in %s: keep a copy in a safe place, and give it to all schedulers\n", out.KeyFile)
	}
	e.printf("fingerprint %s\n", out.Fingerprint)
	return nil
}

// open opens the store without a scheduler. Done closes it.
func (f *etcdFlags) open(ctx context.Context, dir *dataDir, log logger) (c *clientv3.Client, done func() error, err error) {
	if f.endpoints != "" {
		c, err := etcd.Dial(ctx, list(f.endpoints), f.access)
		if err != nil {
			return nil, nil, err
		}
		return c, c.Close, nil
	}
	server, err := etcd.Embed(ctx, f.embedded(dir.join("etcd"), log))
	if err != nil {
		return nil, nil, err
	}
	return server.Client, server.Close, nil
}

// otherKey explains a failure to open what is stored, when the sealing key was made
// just now: the CA is kept with another one.
func otherKey(err error, made string) error {
	if made == "" || pancake.KindOf(err) != pancake.Invalid {
		return err
	}
	return errors.Join(pancake.Errorf(pancake.Invalid, "%w\nName the key file of the cluster's other schedulers with --ca-key.", err), os.Remove(made))
}

func newCAResealCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "reseal",
		Short: "Encrypt what etcd holds of keys with the new sealing key",
		Long: `Encrypt the keys of the CA and of gossip, as etcd holds them, with the sealing key that
the schedulers use now: the first one in the file of --ca-key, or the newest version in Vault. All
schedulers need to have it before. After it the old key is needed for old backups only.`,
		Example: examples("pancake ca reseal"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.ResealCA(cmd.Context()); err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]bool{"resealed": true})
			}
			env.printf("all keys in etcd are sealed with the schedulers' current sealing key\n")
			return nil
		},
	}
}
