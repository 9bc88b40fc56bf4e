package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"

	vault "github.com/hashicorp/vault/api"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/identity/transit"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler"
	"github.com/pancake-stack/pancake/scheduler/guard"
)

const (
	caKeyFile  = "ca.key"               // below the data directory
	caKeyValue = "PANCAKE_CA_KEY_VALUE" // the environment variable
	vaultKey   = "vault:"               // what --ca-key begins with for a key in Vault
)

func (f *schedulerFlags) addIdentity(flags *pflag.FlagSet) {
	f.addAuthority(flags)
	flags.BoolVar(&f.secure, "secure", false, "use TLS, certificates and tokens also when everything is on loopback")
	flags.BoolVar(&f.insecure, "insecure", false, insecureHelp)
	flags.Float64Var(&f.rate, "api-rate", 200, "calls a second that one address, token or certificate may make to a secure scheduler, `number`; 0 for any number")
	flags.IntVar(&f.burst, "api-burst", 1000, "how many of them at once, `number`")
}

// limits fails when they cannot be.
func (f *schedulerFlags) limits() error {
	if f.rate < 0 || f.rate > 0 && f.burst < 1 {
		return pancake.Errorf(pancake.Invalid, "--api-rate is 0 or more, and --api-burst 1 or more")
	}
	return nil
}

// addAuthority adds the flags that say which CA it is, and how it is kept.
func (f *schedulerFlags) addAuthority(flags *pflag.FlagSet) {
	flags.StringVar(&f.clusterName, "cluster-name", "default", "`name` of the cluster, of a-z, 0-9 and -; it cannot change later")
	flags.StringVar(&f.caKey, "ca-key", "", "`file` with the key that the CA is kept with in etcd, or vault:<mount>/<key> for one of Vault's transit engine at VAULT_ADDR (default: "+caKeyValue+", else ca.key under --data-dir, made when there is no CA yet)")
}

// settle decides whether the scheduler is secure: when others can reach it, or when
// it was told to be.
func (f *schedulerFlags) settle() error {
	if f.secure && f.insecure {
		return pancake.Errorf(pancake.Invalid, "--secure does not go with --insecure: choose one")
	}
	if err := loopbackOnly(f.insecure, map[string]string{"etcd-listen": f.listen, "etcd-peer-listen": f.peerListen}); err != nil {
		return err
	}
	for _, addr := range []string{f.http, f.grpc, f.advertiseHTTP, f.advertiseGRPC} {
		f.secure = f.secure || !f.insecure && addr != "" && !serve.Loopback(addr)
	}
	if !f.secure {
		return nil
	}
	return errors.Join(f.limits(), identity.ValidCluster(f.clusterName))
}

func (f *schedulerFlags) scheme() string {
	if f.secure {
		return "https"
	}
	return "http"
}

// schedulerIdentity opens the guard of a secure scheduler, once there is etcd.
type schedulerIdentity struct {
	say    func(string, ...any)
	cfg    guard.Config
	made   string // the file of the sealing key, if it was made just now
	opened chan struct{}
	guard  *guard.Guard // once opened is closed
}

// identity prepares what a secure scheduler needs; nil for one that is not.
func (f *schedulerFlags) identity(env *environment, dir *dataDir, cfg scheduler.Config) (*schedulerIdentity, error) {
	if !f.secure {
		return nil, nil
	}
	s := &schedulerIdentity{say: env.say, opened: make(chan struct{}), cfg: guard.Config{
		Cluster: f.clusterName, ID: cfg.ID, Hosts: hosts(cfg.AdvertiseHTTP, cfg.AdvertiseGRPC), DataDir: dir.path, Log: cfg.Log,
		Rate: f.rate, Burst: f.burst,
	}}
	if f.rate == 0 {
		s.cfg.Rate = -1
	}
	var err error
	s.cfg.Sealer, err = f.sealer(env.getenv, dir.join(caKeyFile), &s.made)
	return s, err
}

// hosts are the names and addresses of a scheduler, for its certificate.
func hosts(addrs ...string) []string {
	var out []string
	for _, addr := range addrs {
		host, _, err := net.SplitHostPort(addr)
		ip := net.ParseIP(host)
		if err == nil && host != "" && (ip == nil || !ip.IsUnspecified()) {
			out = append(out, host)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sealer finds the key that the CA is kept with, or makes one in path, and tells so in made.
func (f *schedulerFlags) sealer(getenv func(string) string, path string, made *string) (identity.Sealer, error) {
	if name, ok := strings.CutPrefix(f.caKey, vaultKey); ok {
		return vaultSealer(name)
	}
	if f.caKey != "" {
		return identity.ReadKeySealer(f.caKey)
	}
	if value := getenv(caKeyValue); value != "" {
		s, err := identity.ParseKeySealer(identity.Secret(value))
		if err != nil {
			return nil, pancake.Errorf(pancake.KindOf(err), "%s: %w", caKeyValue, err)
		}
		return s, nil
	}
	s, err := identity.ReadKeySealer(path)
	if pancake.KindOf(err) != pancake.NotFound {
		return s, err
	}
	if err := identity.WritePrivate(path, []byte(string(identity.NewSealKey())+"\n")); err != nil {
		return nil, err
	}
	*made = path
	return identity.ReadKeySealer(path)
}

// vaultSealer seals with <mount>/<key> of the Vault that VAULT_ADDR and VAULT_TOKEN name.
func vaultSealer(name string) (identity.Sealer, error) {
	end := strings.LastIndexByte(name, '/')
	if end < 0 {
		return nil, pancake.Errorf(pancake.Invalid, "--ca-key %s%s is not of the form %s<mount>/<key>", vaultKey, name, vaultKey)
	}
	c, err := vault.NewClient(nil)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--ca-key: Vault's settings: %w", err)
	}
	return transit.New(transit.Config{Client: c, Mount: name[:end], Key: name[end+1:]})
}

// open opens the guard and says what people need to get in.
func (s *schedulerIdentity) open(ctx context.Context, c *clientv3.Client) (*guard.Guard, error) {
	cfg := s.cfg
	cfg.Client = c
	g, err := guard.Open(ctx, cfg)
	if err != nil {
		return nil, otherKey(err, s.made)
	}
	s.guard = g
	close(s.opened)
	s.say("CA         fingerprint %s", g.Fingerprint())
	if path := g.FirstToken(); path != "" {
		s.say("token      of the first operator is in %s", path)
	}
	return g, nil
}

// client calls the scheduler itself, once the guard is open.
func (s *schedulerIdentity) client(ctx context.Context) (*http.Client, error) {
	select {
	case <-s.opened:
		return &http.Client{Transport: &http.Transport{TLSClientConfig: s.guard.PeerTLS(), ForceAttemptHTTP2: true}}, nil
	case <-ctx.Done():
		return nil, cmp.Or(context.Cause(ctx), ctx.Err())
	}
}
