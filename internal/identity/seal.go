package identity

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/pancake-stack/pancake"
)

// Sealer encrypts what is stored of private keys. Context is authenticated with
// it, not stored: what was sealed for one place cannot be opened in another. Open
// fails with Invalid when key, context or content do not fit.
type Sealer interface {
	Seal(ctx context.Context, plain, context []byte) ([]byte, error)
	Open(ctx context.Context, sealed, context []byte) ([]byte, error)
}

// sealKey is the length of a key of AES-256, in bytes.
const sealKey = 32

// keyID is how much of the hash of a key tells it from others, in bytes.
const keyID = 8

// KeySealer seals with AES-256-GCM. Sealed bytes are the key's id, a random nonce,
// and what GCM makes of the rest.
type KeySealer struct {
	keys []sealingKey // the first one seals, all open
}

type sealingKey struct {
	id   [keyID]byte
	aead cipher.AEAD
}

// NewSealKey makes the text of a key, for a file or an environment variable.
func NewSealKey() Secret {
	b := make([]byte, sealKey)
	_, _ = rand.Read(b) // never fails
	return Secret(base64.StdEncoding.EncodeToString(b))
}

// ParseKeySealer reads keys of 32 bytes in base64, one a line; empty lines and
// those that begin with "#" are skipped. The first key seals, all of them open, so
// that a key can be replaced. It fails with Invalid, without repeating a key.
func ParseKeySealer(text Secret) (*KeySealer, error) {
	s := &KeySealer{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != sealKey {
			return nil, pancake.Errorf(pancake.Invalid, "a sealing key is %d bytes in base64; make one with: openssl rand -base64 %d", sealKey, sealKey)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, pancake.Errorf(pancake.Internal, "use a sealing key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, pancake.Errorf(pancake.Internal, "use a sealing key: %w", err)
		}
		sum := sha256.Sum256(key)
		s.keys = append(s.keys, sealingKey{[keyID]byte(sum[:keyID]), aead})
	}
	if len(s.keys) == 0 {
		return nil, pancake.Errorf(pancake.Invalid, "there is no sealing key; make one with: openssl rand -base64 %d", sealKey)
	}
	return s, nil
}

// ReadKeySealer reads the keys from a file that only its owner may read.
func ReadKeySealer(path string) (*KeySealer, error) {
	text, err := ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	s, err := ParseKeySealer(Secret(text))
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "%s: %w", path, err)
	}
	return s, nil
}

// Seal implements Sealer.
func (s *KeySealer) Seal(_ context.Context, plain, context []byte) ([]byte, error) {
	k := s.keys[0]
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(append(k.id[:], nonce...), nonce, plain, context), nil
}

// Open implements Sealer.
func (s *KeySealer) Open(_ context.Context, sealed, context []byte) ([]byte, error) {
	for _, k := range s.keys {
		rest, ok := strings.CutPrefix(string(sealed), string(k.id[:]))
		n := k.aead.NonceSize()
		if !ok || len(rest) < n {
			continue
		}
		plain, err := k.aead.Open(nil, []byte(rest[:n]), []byte(rest[n:]), context)
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "what was sealed has been changed, or belongs somewhere else")
		}
		return plain, nil
	}
	return nil, pancake.Errorf(pancake.Invalid, "this was sealed with another key than those given; name the key file that was used before")
}
