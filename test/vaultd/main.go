// Command vaultd is a Vault server for tests: Vault's own code with a store in
// memory, unsealed, with the engines that Pancake uses: kv and transit, approle and
// userpass. It prints one line of JSON, {"address":"http://…","token":"…"}, and serves
// until it is told to stop, or its standard input ends.
//
// It is a module of its own: Vault's licence (BUSL) and its dependencies stay out of
// the product.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on; port 0 picks a free one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vaultd:", err)
		os.Exit(1)
	}
}

// run serves until ctx or the input ends: whoever started it may have died.
func run(ctx context.Context, listen string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	core, token, err := unsealed(ctx)
	if err != nil {
		return err
	}
	defer core.Shutdown() //nolint:errcheck // nothing of it is kept
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	if err := json.NewEncoder(out).Encode(map[string]string{"address": "http://" + ln.Addr().String(), "token": token}); err != nil {
		return err
	}
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// unsealed makes a Vault, and returns it with its root token.
func unsealed(ctx context.Context) (*vault.Core, string, error) {
	log := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Error})
	store, err := inmem.NewInmem(nil, log)
	if err != nil {
		return nil, "", err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: store, DisableMlock: true, Logger: log, BuiltinRegistry: registry{},
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory, "userpass": userpass.Factory},
	})
	if err != nil {
		return nil, "", err
	}
	made, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}, RecoveryConfig: &vault.SealConfig{},
	})
	if err != nil {
		return nil, "", err
	}
	if ok, err := core.Unseal(made.SecretShares[0]); err != nil || !ok {
		return nil, "", fmt.Errorf("unseal with %d bytes (%s…): %w", len(made.SecretShares[0]), hex.EncodeToString(made.SecretShares[0][:1]), err)
	}
	return core, made.RootToken, nil
}

// registry tells Vault which of its plugins are built in: those of CoreConfig alone.
type registry struct{}

func (registry) factories(t consts.PluginType) map[string]logical.Factory {
	switch t {
	case consts.PluginTypeSecrets:
		return map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory}
	case consts.PluginTypeCredential:
		return map[string]logical.Factory{"approle": approle.Factory, "userpass": userpass.Factory}
	}
	return nil
}

func (r registry) Contains(name string, t consts.PluginType) bool {
	return r.factories(t)[name] != nil
}

func (r registry) Get(name string, t consts.PluginType) (func() (any, error), bool) {
	f := r.factories(t)[name]
	if f == nil {
		return nil, false
	}
	return func() (any, error) { return f, nil }, true
}

func (r registry) Keys(t consts.PluginType) []string {
	var names []string
	for name := range r.factories(t) {
		names = append(names, name)
	}
	return names
}

func (r registry) DeprecationStatus(name string, t consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, t)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
