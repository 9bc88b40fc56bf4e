// Package transit seals with a key that never leaves Vault, through Vault's transit
// secrets engine. Only the scheduler links it.
package transit

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/pancake-stack/pancake"
)

// callLimit bounds one call to Vault, with its client's own retries.
const callLimit = 10 * time.Second

// Config says which key of which Vault.
type Config struct {
	// Client is connected and has a token whose policy allows "update" on
	// <mount>/encrypt/<key> and <mount>/decrypt/<key>. Required.
	Client *api.Client
	// Mount is where the engine is. Default "transit".
	Mount string
	// Key names a key of a type with associated data, such as aes256-gcm96, the default
	// of Vault. Required. Rotate it in Vault; what was sealed before opens as long as
	// Vault keeps the older version.
	Key string
}

// Sealer implements identity.Sealer.
type Sealer struct {
	client *api.Client
	path   func(verb string) string
}

// New fails with Invalid when something is missing or cannot be part of a path. It
// does not call Vault.
func New(cfg Config) (*Sealer, error) {
	mount := cmp.Or(cfg.Mount, "transit")
	if cfg.Client == nil {
		return nil, pancake.Errorf(pancake.Invalid, "sealing with Vault needs a client")
	}
	name := regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)
	if path := regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`); !path.MatchString(mount) || !name.MatchString(cfg.Key) {
		return nil, pancake.Errorf(pancake.Invalid, "%q and %q are not the mount and the key of a transit engine", mount, cfg.Key)
	}
	return &Sealer{cfg.Client, func(verb string) string { return mount + "/" + verb + "/" + cfg.Key }}, nil
}

// Seal implements identity.Sealer. It fails with Unavailable when Vault does not
// answer or is sealed itself, and with Invalid when it refuses.
func (s *Sealer) Seal(ctx context.Context, plain, context []byte) ([]byte, error) {
	text, err := s.call(ctx, "encrypt", "ciphertext", map[string]any{
		"plaintext":       base64.StdEncoding.EncodeToString(plain),
		"associated_data": base64.StdEncoding.EncodeToString(context),
	})
	return []byte(text), err
}

// Open implements identity.Sealer. It fails as Seal does.
func (s *Sealer) Open(ctx context.Context, sealed, context []byte) ([]byte, error) {
	text, err := s.call(ctx, "decrypt", "plaintext", map[string]any{
		"ciphertext":      string(sealed),
		"associated_data": base64.StdEncoding.EncodeToString(context),
	})
	if err != nil {
		return nil, err
	}
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, pancake.Errorf(pancake.Unavailable, "Vault answered something that is not base64")
	}
	return plain, nil
}

func (s *Sealer) call(ctx context.Context, verb, field string, data map[string]any) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := s.client.Logical().WriteWithContext(ctx, s.path(verb), data)
	var refused *api.ResponseError
	switch {
	case errors.As(err, &refused) && refused.StatusCode < http.StatusInternalServerError && refused.StatusCode != http.StatusTooManyRequests:
		return "", pancake.Errorf(pancake.Invalid, "Vault refuses %s: %w", s.path(verb), err)
	case err != nil:
		return "", pancake.Errorf(pancake.Unavailable, "Vault does not answer %s: %w", s.path(verb), err)
	case answer == nil:
		return "", pancake.Errorf(pancake.Unavailable, "Vault answered %s with nothing", s.path(verb))
	}
	text, ok := answer.Data[field].(string)
	if !ok || text == "" {
		return "", pancake.Errorf(pancake.Unavailable, "Vault answered %s without a %s", s.path(verb), field)
	}
	return text, nil
}
