package membership

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// files are the identity's, and beside them, each with mode 0600, gossip.keys (a key
// per line, in base64, the one that encrypts first) and, while a join is under way,
// join.key (the private key, PKCS #8 in DER).
type files struct{ identity.Files }

func (f files) keysPath() string { return filepath.Join(f.Dir, "gossip.keys") }

func (f files) joinPath() string { return filepath.Join(f.Dir, "join.key") }

// maxKeys bounds the gossip keys; a rotation needs three.
const maxKeys = 8

// checkKeys fails with Invalid for what cannot be the keys of a cluster.
func checkKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > maxKeys {
		return pancake.Errorf(pancake.Invalid, "a cluster has 1 to %d gossip keys, not %d", maxKeys, len(keys))
	}
	for _, k := range keys {
		if n := len(k); n != 16 && n != 24 && n != 32 {
			return pancake.Errorf(pancake.Invalid, "a gossip key has 16, 24 or 32 bytes, not %d", n)
		}
	}
	return nil
}

func (f files) saveKeys(keys [][]byte) error {
	var text bytes.Buffer
	for _, k := range keys {
		text.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	}
	return identity.WritePrivate(f.keysPath(), text.Bytes())
}

// loadKeys fails with Invalid when there are no keys: gossip never goes in clear
// because a file was lost.
func (f files) loadKeys() ([][]byte, error) {
	text, err := identity.ReadPrivate(f.keysPath())
	if pancake.KindOf(err) == pancake.NotFound {
		return nil, pancake.Errorf(pancake.Invalid, "%w, though the node has an identity; restore it, or revoke the identity, remove %s and join with a new token", err, f.Dir)
	}
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "%s: %w; restore it, or revoke the identity, remove %s and join with a new token", f.keysPath(), err, f.Dir)
	}
	return keys, nil
}

// parseKeys never repeats what it reads.
func parseKeys(text []byte) ([][]byte, error) {
	var keys [][]byte
	for line := range bytes.Lines(text) {
		k, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "holds something that is not base64")
		}
		keys = append(keys, k)
	}
	return keys, checkKeys(keys)
}

// joinKey is the key to join with. It is kept until that has worked: a scheduler that
// is asked once more with the same token and key answers once more.
func (f files) joinKey() (*ecdsa.PrivateKey, error) {
	der, err := identity.ReadPrivate(f.joinPath())
	if err == nil {
		if k, parseErr := x509.ParsePKCS8PrivateKey(der); parseErr == nil {
			if key, ok := k.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		} // what is damaged is replaced
	} else if pancake.KindOf(err) != pancake.NotFound {
		return nil, err
	}
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, pancake.Errorf(pancake.Internal, "encode the private key: %w", err)
	}
	return key, identity.WritePrivate(f.joinPath(), der)
}

func (f files) joined() error {
	if err := os.Remove(f.joinPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pancake.Errorf(pancake.Invalid, "the key of the join is of no more use and cannot be removed: %w", err)
	}
	return nil
}

// Stored reports whether a directory holds an identity, good or not.
func Stored(dir string) bool {
	_, err := identity.Files{Dir: dir}.Load()
	return pancake.KindOf(err) != pancake.NotFound
}
