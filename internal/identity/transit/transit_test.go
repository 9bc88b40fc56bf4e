package transit

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// vault answers as Vault's transit engine does for the key "pancake", to the token "good".
func vault(t *testing.T) *httptest.Server {
	t.Helper()
	key, err := identity.ParseKeySealer(identity.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	fail := func(w http.ResponseWriter, status int, text string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {text}})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in map[string]string
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			fail(w, 400, err.Error())
			return
		}
		aad, err := base64.StdEncoding.DecodeString(in["associated_data"])
		if err != nil || r.Header.Get("X-Vault-Token") != "good" {
			fail(w, 403, "permission denied")
			return
		}
		out := map[string]any{}
		switch r.URL.Path {
		case "/v1/transit/encrypt/pancake":
			plain, _ := base64.StdEncoding.DecodeString(in["plaintext"])
			sealed, _ := key.Seal(r.Context(), plain, aad)
			out["ciphertext"] = "vault:v1:" + base64.StdEncoding.EncodeToString(sealed)
		case "/v1/transit/decrypt/pancake":
			sealed, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(in["ciphertext"], "vault:v1:"))
			plain, err := key.Open(r.Context(), sealed, aad)
			if err != nil {
				fail(w, 400, "cipher: message authentication failed")
				return
			}
			out["plaintext"] = base64.StdEncoding.EncodeToString(plain)
		case "/v1/transit/encrypt/sealed":
			fail(w, 503, "Vault is sealed")
			return
		default:
			fail(w, 404, "no handler for route")
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": out})
	}))
	t.Cleanup(s.Close)
	return s
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
	ctx, v := t.Context(), vault(t)
	var s identity.Sealer = sealer(t, v.URL, "good", "pancake")
	sealed, err := s.Seal(ctx, []byte("plain text"), []byte("place"))
	if err != nil || !strings.HasPrefix(string(sealed), "vault:v1:") {
		t.Fatalf("%q, %v", sealed, err)
	}
	if plain, err := s.Open(ctx, sealed, []byte("place")); err != nil || string(plain) != "plain text" {
		t.Errorf("%q, %v", plain, err)
	}
	for name, tc := range map[string]struct {
		call func() error
		want pancake.Kind
	}{
		"another place": {func() error { _, err := s.Open(ctx, sealed, []byte("elsewhere")); return err }, pancake.Invalid},
		"not permitted": {func() error { _, err := sealer(t, v.URL, "bad", "pancake").Seal(ctx, nil, nil); return err }, pancake.Invalid},
		"no such key":   {func() error { _, err := sealer(t, v.URL, "good", "other").Seal(ctx, nil, nil); return err }, pancake.Invalid},
		"Vault sealed":  {func() error { _, err := sealer(t, v.URL, "good", "sealed").Seal(ctx, nil, nil); return err }, pancake.Unavailable},
		"Vault gone": {func() error {
			_, err := sealer(t, "http://127.0.0.1:1", "good", "pancake").Seal(ctx, nil, nil)
			return err
		}, pancake.Unavailable},
	} {
		if err := tc.call(); pancake.KindOf(err) != tc.want {
			t.Errorf("%s: %v, want kind %s", name, err, tc.want)
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
