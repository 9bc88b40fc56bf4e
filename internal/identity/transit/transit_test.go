package transit

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit"
)

// vault is a real one, with the key "pancake" in its transit engine. The token may use
// that key, and nothing else.
func vault(t *testing.T) (root *api.Client, token string) {
	t.Helper()
	ctx, root := t.Context(), testkit.Vault(t)
	if err := root.Sys().MountWithContext(ctx, "transit", &api.MountInput{Type: "transit"}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Logical().WriteWithContext(ctx, "transit/keys/pancake", nil); err != nil {
		t.Fatal(err)
	}
	const policy = `path "transit/encrypt/pancake" { capabilities = ["update"] }
path "transit/decrypt/pancake" { capabilities = ["update"] }`
	if err := root.Sys().PutPolicyWithContext(ctx, "pancake", policy); err != nil {
		t.Fatal(err)
	}
	made, err := root.Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{Policies: []string{"pancake"}, NoDefaultPolicy: true})
	if err != nil {
		t.Fatal(err)
	}
	return root, made.Auth.ClientToken
}

func sealer(t *testing.T, addr, token, key string) *Sealer {
	t.Helper()
	cfg := api.DefaultConfig()
	cfg.Address, cfg.MaxRetries = addr, 0
	c, err := api.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(token)
	s, err := New(Config{Client: c, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTransit(t *testing.T) {
	ctx := t.Context()
	root, token := vault(t)
	addr := root.Address()
	var s identity.Sealer = sealer(t, addr, token, "pancake")
	sealed, err := s.Seal(ctx, []byte("plain text"), []byte("place"))
	if err != nil || !strings.HasPrefix(string(sealed), "vault:v1:") {
		t.Fatalf("%q, %v", sealed, err)
	}
	opens := func(sealed []byte) {
		t.Helper()
		if plain, err := s.Open(ctx, sealed, []byte("place")); err != nil || string(plain) != "plain text" {
			t.Errorf("%q, %v", plain, err)
		}
	}
	opens(sealed)

	// What was sealed before the key was rotated still opens.
	if _, err := root.Logical().WriteWithContext(ctx, "transit/keys/pancake/rotate", nil); err != nil {
		t.Fatal(err)
	}
	opens(sealed)
	anew, err := s.Seal(ctx, []byte("plain text"), []byte("place"))
	if err != nil || !strings.HasPrefix(string(anew), "vault:v2:") {
		t.Fatalf("after a rotation: %q, %v", anew, err)
	}
	opens(anew)

	refusals := []struct {
		name string
		call func() error
		want pancake.Kind
	}{
		{"another place", func() error { _, err := s.Open(ctx, sealed, []byte("elsewhere")); return err }, pancake.Invalid},
		{"garbage", func() error { _, err := s.Open(ctx, []byte("vault:v1:AAAA"), []byte("place")); return err }, pancake.Invalid},
		{"not permitted", func() error { _, err := sealer(t, addr, "bad", "pancake").Seal(ctx, nil, nil); return err }, pancake.Invalid},
		{"another key", func() error { _, err := sealer(t, addr, token, "other").Seal(ctx, nil, nil); return err }, pancake.Invalid},
		{"Vault gone", func() error {
			_, err := sealer(t, "http://127.0.0.1:1", token, "pancake").Seal(ctx, nil, nil)
			return err
		}, pancake.Unavailable},
		{"Vault sealed", func() error {
			if err := root.Sys().SealWithContext(ctx); err != nil {
				t.Fatal(err)
			}
			_, err := s.Seal(ctx, []byte("plain text"), nil)
			return err
		}, pancake.Unavailable},
	}
	for _, tc := range refusals {
		if err := tc.call(); pancake.KindOf(err) != tc.want {
			t.Errorf("%s: %v, want kind %s", tc.name, err, tc.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	c, err := api.NewClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no client": {Key: "k"}, "no key": {Client: c}, "a path as key": {Client: c, Key: "../sys/seal"}, "a strange mount": {Client: c, Mount: "a/../b", Key: "k"},
	} {
		if _, err := New(cfg); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
