package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

const (
	// gossipKeySize is that of AES-256, in bytes.
	gossipKeySize = 32
	// lookAtKeys is how often the file is read again.
	lookAtKeys = 5 * time.Second
)

// readGossipKeys reads a file with a key in base64 a line; empty lines, and those that
// begin with #, are for people. Its errors never show a key.
func readGossipKeys(path string) ([][]byte, error) {
	text, err := identity.ReadPrivate(path)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--gossip-key-file: %w", err)
	}
	var keys [][]byte
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != gossipKeySize {
			return nil, pancake.Errorf(pancake.Invalid,
				"--gossip-key-file: line %d of %s is not %d bytes in base64; make a key with: openssl rand -base64 %d", number, path, gossipKeySize, gossipKeySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, pancake.Errorf(pancake.Invalid, "--gossip-key-file: %s has no key; make one with: openssl rand -base64 %d", path, gossipKeySize)
	}
	return keys, nil
}

// keyFile hands on the keys of a file when they change.
type keyFile struct {
	path string
	set  func([][]byte) error
	log  logger
	last [][]byte
}

func (k *keyFile) run(ctx context.Context) error {
	ticker := time.NewTicker(lookAtKeys)
	defer ticker.Stop()
	failed := false
	for {
		err := k.look(ctx)
		if err != nil && !failed {
			k.log.WarnContext(ctx, "the gossip keys stay as they are", "err", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// look reads the file, and sets its keys if they are others than before. One that is
// being written, or gone, changes nothing.
func (k *keyFile) look(ctx context.Context) error {
	keys, err := readGossipKeys(k.path)
	if err != nil || slices.EqualFunc(keys, k.last, bytes.Equal) {
		return err
	}
	if err := k.set(keys); err != nil {
		return err
	}
	if k.last != nil {
		k.log.InfoContext(ctx, "the gossip keys have changed", "keys", len(keys))
	}
	k.last = keys
	return nil
}
