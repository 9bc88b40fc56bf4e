package guard

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit"
)

// Wherever a first start is cut off, the next one leaves a token that is good.
func TestFirstTokenSurvivesACrash(t *testing.T) {
	crash := errors.New("crash") // nothing that comes after it happens
	for name, write := range map[string]func(path string, content []byte) error{
		"before the file": func(string, []byte) error { return crash },
		"between the file and the store": func(path string, content []byte) error {
			return errors.Join(identity.WritePrivate(path, content), crash)
		},
	} {
		t.Run(name, func(t *testing.T) {
			sealer, err := identity.ParseKeySealer(identity.NewSealKey())
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{Client: testkit.Etcd(t), Sealer: sealer, Cluster: "test", ID: "one", DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
			path := filepath.Join(cfg.DataDir, TokenFile)
			first := cfg
			first.write = write
			if _, err := Open(t.Context(), first); !errors.Is(err, crash) {
				t.Fatalf("the crash did not happen: %v", err)
			}
			useless, _ := os.ReadFile(path)

			g, err := Open(t.Context(), cfg)
			if err != nil || g.FirstToken() != path {
				t.Fatalf("%q, %v", g.FirstToken(), err)
			}
			token, err := identity.ReadPrivate(path)
			if err != nil {
				t.Fatal(err)
			}
			if who, err := g.authority.Authenticate(t.Context(), strings.TrimSpace(string(token))); err != nil || who.Role != identity.Operator {
				t.Errorf("%+v, %v", who, err)
			}
			if len(useless) > 0 {
				if _, err := g.authority.Authenticate(t.Context(), strings.TrimSpace(string(useless))); identity.ReasonOf(err) != identity.UnknownToken {
					t.Errorf("the token of before the crash: %v", err)
				}
			}
			if all, err := g.authority.Tokens(t.Context(), identity.APIToken); err != nil || len(all) != 1 {
				t.Errorf("%d tokens, %v", len(all), err)
			}
			if g, err = Open(t.Context(), cfg); err != nil || g.FirstToken() != "" {
				t.Errorf("the next start: %q, %v", g.FirstToken(), err)
			}
			if again, err := identity.ReadPrivate(path); err != nil || string(again) != string(token) {
				t.Errorf("the next start has replaced the file: %v", err)
			}
		})
	}
}
