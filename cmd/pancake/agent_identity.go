package main

import (
	"cmp"
	"context"
	"net"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor"
	"github.com/pancake-stack/pancake/executor/membership"
	"github.com/pancake-stack/pancake/internal/config"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar"
)

// identityDir is where an agent keeps its identity, below its data directory.
const identityDir = "identity"

func (f *agentFlags) addIdentity(flags *pflag.FlagSet) {
	flags.StringVar(&f.join, "join", "", "join `token`, or @file with one, which nobody else may read; of use until the node has an identity")
	_ = config.MarkSecret(flags, "join") // fails only for a flag that does not exist
	flags.BoolVar(&f.secure, "secure", false, "use certificates and encrypted gossip also when everything is on loopback")
	flags.BoolVar(&f.insecure, "insecure", false, "be reached by others without authentication and encryption")
}

// settle decides whether the node is secure, and fills in the addresses that depend
// on that. A node is secure when others can reach it, and when it was told to be or
// has been: with --secure, with a join token, or with an identity from before.
func (f *agentFlags) settle() error {
	f.gossip = cmp.Or(f.gossip, net.JoinHostPort(f.advertise, "7946"))
	if f.insecure {
		if f.secure || f.join != "" || f.https != "" {
			return pancake.Errorf(pancake.Invalid, "--insecure does not go with --secure, --join and --https: a node has an identity, or it has none")
		}
		f.http = cmp.Or(f.http, net.JoinHostPort(f.advertise, "7777"))
		return nil
	}
	open := f.https != "" || !serve.Loopback(f.advertise) || !serve.Loopback(f.gossip) || f.http != "" && !serve.Loopback(f.http)
	f.secure = f.secure || f.join != "" || open || membership.Stored(filepath.Join(f.dataDir, identityDir))
	if !f.secure {
		f.http = cmp.Or(f.http, net.JoinHostPort(f.advertise, "7777"))
		return nil
	}
	f.http = cmp.Or(f.http, "127.0.0.1:7777")
	if !serve.Loopback(f.http) {
		return pancake.Errorf(pancake.Invalid,
			"--http %s can be reached by others, and there the Sidecar's API asks nobody who it is; use a loopback address, and --https %s for other machines, or --insecure on a network that you trust", f.http, f.http)
	}
	return nil
}

// token is the join token's text, "" when there is none. It fails with NotFound when
// its file is gone, and with Invalid when others can read that.
func (f *agentFlags) token() (string, error) {
	path, isFile := strings.CutPrefix(f.join, "@")
	if !isFile {
		return f.join, nil
	}
	text, err := identity.ReadPrivate(path)
	if err != nil {
		return "", pancake.Errorf(pancake.KindOf(err), "--join: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// enter gives a secure node its identity. It may wait for a scheduler.
func (n *node) enter(ctx context.Context, cfg nodeConfig, hostname string, metrics *prometheus.Registry) error {
	if !cfg.secure {
		return nil
	}
	var err error
	n.member, err = membership.Open(ctx, membership.Config{
		Dir:      cfg.dir.join(identityDir),
		Self:     identity.Identity{Cluster: cfg.clusterName, Kind: identity.Agent, ID: n.id},
		Hostname: hostname, Schedulers: list(cfg.scheduler), Token: cfg.token,
		Log: cfg.log.With("part", "identity"), Metrics: metrics,
	})
	return err
}

// secureSidecar encrypts the gossip of a secure node, and serves its Sidecar's API to
// others at the address https, if there is one.
func (n *node) secureSidecar(ctx context.Context, https string, side *sidecar.Config) error {
	if n.member == nil {
		return nil
	}
	side.GossipKeys = n.member.GossipKeys()
	if https == "" {
		return nil
	}
	var err error
	side.Identity = n.member.Source()
	side.TLSListener, err = serve.Listen(ctx, https)
	return err
}

// secureLink authenticates and encrypts the link of a secure node to the scheduler, and
// passes on what comes over it.
func (n *node) secureLink(exec *executor.Config) error {
	if n.member == nil {
		return nil
	}
	exec.Credentials, exec.TakeCredentials = n.member.Credentials(), n.member.Take
	return n.member.OnGossipKeys(n.sidecar.SetGossipKeys)
}
