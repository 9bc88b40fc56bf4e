// Package state keeps on disk what an agent must not forget: which writer it promised
// itself to, what people ordered, what was changed, and where its peers are. What it
// thought of its targets is not among it: after a restart that is unknown.
package state

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/elect"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// version is the format of the file.
const version = 1

const (
	fileName    = "state.json"
	promiseName = "promise.json"
	keyName     = "place.key"
	maxFile     = 64 << 20 // bytes

	// PlatformName is the file of package source, which is in the same directory.
	PlatformName = "platform.json"
)

// State is what is kept.
type State struct {
	Version int `json:"version"`
	// Incarnation grows with each start.
	Incarnation uint64                  `json:"incarnation"`
	Seen        map[string]uint64       `json:"seen,omitempty"`  // incarnations of other places
	Known       map[string]string       `json:"known,omitempty"` // addresses of other places
	Orders      []vote.Order            `json:"orders,omitempty"`
	Penalties   map[string]vote.Penalty `json:"penalties,omitempty"`
	History     []client.Entry          `json:"history,omitempty"`
}

// Dir is a directory that holds a state. It must not be shared by two agents.
type Dir struct{ path string }

// Open makes the directory if need be, and sees to it that it can be written.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "data directory: %w", err)
	}
	for _, name := range []string{fileName, promiseName, keyName, PlatformName} { // of an agent that was killed while it wrote
		left, _ := filepath.Glob(filepath.Join(path, "."+name+"-*")) // the pattern is well-formed, except for odd paths
		for _, file := range left {
			_ = os.Remove(file) // they are in nobody's way
		}
	}
	probe, err := os.CreateTemp(path, ".probe-*")
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "data directory: %w", err)
	}
	defer os.Remove(probe.Name())
	if err := probe.Close(); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "data directory: %w", err)
	}
	return &Dir{path}, nil
}

// Load reads the state, the zero State if there is none. A file that cannot be read is
// moved aside, so that a broken disk does not stop failover; then moved says where to.
func (d *Dir) Load(now time.Time) (s State, moved string, err error) {
	name := filepath.Join(d.path, fileName)
	text, err := ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return State{Version: version}, "", nil
	case err == nil:
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Version > version {
		return State{}, "", pancake.Errorf(pancake.Invalid, "%s is of version %d, and this release reads %d: it was written by a later one", name, s.Version, version)
	}
	if err == nil {
		return s, "", nil
	}
	moved, renameErr := MoveAside(name, now)
	if renameErr != nil {
		return State{}, "", pancake.Errorf(pancake.Invalid, "state in %s: %w", d.path, errors.Join(err, renameErr))
	}
	return State{Version: version}, moved, nil
}

// Save replaces the state. Once it returns nil, the state survives a loss of power.
func (d *Dir) Save(s State) error {
	s.Version = version
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	return WriteFile(filepath.Join(d.path, fileName), text)
}

// Promise reads what KeepPromise kept, the zero Promise if that is lost.
func (d *Dir) Promise() (p elect.Promise) {
	text, err := ReadFile(filepath.Join(d.path, promiseName))
	if err != nil || json.Unmarshal(text, &p) != nil {
		return elect.Promise{} // a voter that has forgotten waits for a lease, which is safe
	}
	return p
}

// KeepPromise keeps a promise to a writer. Once it returns nil, that survives a loss of power.
func (d *Dir) KeepPromise(p elect.Promise) error {
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode a promise: %w", err)
	}
	return WriteFile(filepath.Join(d.path, promiseName), text)
}

// Key is the key that this agent signs with, made at the first call.
func (d *Dir) Key() (ed25519.PrivateKey, error) {
	name := filepath.Join(d.path, keyName)
	text, err := ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.newKey()
	}
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "key of the place: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, pancake.Errorf(pancake.Invalid, "%s holds no key in PEM; restore it, or remove it to have a new one made", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "%s: %w", name, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, pancake.Errorf(pancake.Invalid, "%s holds a key that is not Ed25519", name)
	}
	return key, nil
}

func (d *Dir) newKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return key, WriteFile(filepath.Join(d.path, keyName), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// ReadFile reads a file, unless it is far too large for one of an agent's.
func ReadFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return text, err
}

// MoveAside gives a file that cannot be read another name, for people to look at.
func MoveAside(name string, now time.Time) (moved string, err error) {
	moved = fmt.Sprintf("%s.broken-%d", name, now.Unix())
	return moved, os.Rename(name, moved)
}

// WriteFile replaces a file: all of it or nothing. Once it returns nil, the file survives
// a loss of power.
func WriteFile(path string, text []byte) (err error) {
	in, name := filepath.Split(path)
	in = filepath.Clean(in)
	tmp, err := os.CreateTemp(in, "."+name+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(tmp.Name())))
		}
	}()
	if _, err := tmp.Write(text); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(in)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
