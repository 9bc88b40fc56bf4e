package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pancake-stack/pancake"
)

// The files in a directory of Files.
const (
	leafFile   = "identity.pem" // key and certificate in one, so that the two never come apart
	bundleFile = "ca.pem"
)

// maxFile is more than any file read here needs, in bytes.
const maxFile = 1 << 20

// Files keeps a leaf on disk: in Dir, which is made with mode 0700, identity.pem
// holds the private key (PKCS #8) and the certificate, with mode 0600, and ca.pem
// the CAs that are trusted. Each is replaced as a whole.
type Files struct{ Dir string }

// Load reads the leaf. It fails with NotFound when none was saved, and with
// Invalid when a file is damaged or others can read the key.
func (f Files) Load() (Leaf, error) {
	leaf, err := ReadLeaf(filepath.Join(f.Dir, leafFile), "")
	if err != nil {
		return Leaf{}, err
	}
	path := filepath.Join(f.Dir, bundleFile)
	text, err := read(path, nil)
	if err != nil {
		return Leaf{}, err
	}
	if leaf.Bundle, err = ParseBundlePEM(text); err != nil {
		return Leaf{}, fmt.Errorf("%s: %w", path, err)
	}
	return leaf, nil
}

// ReadLeaf reads a key and its certificate from files of PEM; with key "" both are in
// cert, as in identity.pem of Files. The leaf has no Bundle. It fails as Load does.
func ReadLeaf(cert, key string) (Leaf, error) {
	if key == "" {
		text, err := ReadPrivate(cert)
		if err != nil {
			return Leaf{}, err
		}
		return leafIn(cert, text)
	}
	text, err := ReadPrivate(key)
	if err != nil {
		return Leaf{}, err
	}
	public, err := read(cert, nil)
	if err != nil {
		return Leaf{}, err
	}
	return leafIn(key+" and "+cert, append(append(text, '\n'), public...))
}

func leafIn(path string, text []byte) (Leaf, error) {
	leaf, err := parseLeaf(text)
	if err != nil {
		return Leaf{}, fmt.Errorf("%s: %w", path, err)
	}
	return leaf, nil
}

func parseLeaf(text []byte) (Leaf, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return Leaf{}, pancake.Errorf(pancake.Invalid, "does not begin with a PEM block \"PRIVATE KEY\"")
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return Leaf{}, err
	}
	ders, err := pemBlocks(rest, "CERTIFICATE")
	if err != nil {
		return Leaf{}, err
	}
	if len(ders) == 0 {
		return Leaf{}, pancake.Errorf(pancake.Invalid, "holds no certificate")
	}
	cert, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return Leaf{}, pancake.Errorf(pancake.Invalid, "holds something that is not a certificate: %w", err)
	}
	leaf := Leaf{Key: key, Cert: cert}
	return leaf, leaf.belongs()
}

// Save writes the leaf. After a crash in between, the bundle is the new one and
// key and certificate the old.
func (f Files) Save(l Leaf) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(l.Key)
	if err != nil {
		return pancake.Errorf(pancake.Internal, "encode the private key: %w", err)
	}
	if err := f.SaveBundle(l.Bundle); err != nil {
		return err
	}
	var text bytes.Buffer
	text.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	text.Write(certsPEM([][]byte{l.Cert.Raw}))
	return WritePrivate(filepath.Join(f.Dir, leafFile), text.Bytes())
}

// SaveBundle writes the CAs alone.
func (f Files) SaveBundle(b Bundle) error {
	return replace(filepath.Join(f.Dir, bundleFile), b.PEM(), 0o644)
}

// ReadPrivate reads a file that holds a secret. It fails with NotFound when there
// is none, and with Invalid, naming file and mode, when others than its owner may
// read or change it.
func ReadPrivate(path string) ([]byte, error) {
	return read(path, func(mode fs.FileMode) error {
		if mode.Perm()&0o077 == 0 {
			return nil
		}
		return pancake.Errorf(pancake.Invalid, "%s holds a secret, and its mode %04o lets others than its owner at it; change that with: chmod 600 %s",
			path, mode.Perm(), path)
	})
}

func read(path string, check func(fs.FileMode) error) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pancake.Errorf(pancake.NotFound, "there is no file %s", path)
	}
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "cannot open %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, not of what may be there by now
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "cannot read %s: %w", path, err)
	}
	if check != nil {
		if err := check(info.Mode()); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "cannot read %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, pancake.Errorf(pancake.Invalid, "%s is larger than %d bytes", path, maxFile)
	}
	return text, nil
}

// WritePrivate replaces a file as a whole, with mode 0600, and makes its directory
// with mode 0700 if needed.
func WritePrivate(path string, content []byte) error { return replace(path, content, 0o600) }

func replace(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pancake.Errorf(pancake.Invalid, "cannot make the directory %s: %w", dir, err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "cannot write to %s: %w", dir, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "cannot write %s: %w", path, err)
	}
	return syncDir(dir)
}

// syncDir makes a rename survive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
