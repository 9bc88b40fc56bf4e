package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake/internal/etcd"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit"
)

func TestCAInit(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) result {
		t.Helper()
		return command{unnamed: true, args: append([]string{"ca", "init", "--data-dir", dir}, args...)}.run(t)
	}
	embedded := []string{"--etcd-listen", testkit.FreeAddr(t), "--etcd-peer-listen", testkit.FreeAddr(t), "--cluster-name", "shop", "-o", "json"}
	var first, second initOutput
	r := run(embedded...)
	if err := json.Unmarshal([]byte(r.stdout), &first); err != nil || !first.Created || first.Cluster != "shop" || first.KeyFile != filepath.Join(dir, caKeyFile) {
		t.Fatalf("%+v, %v: %+v", first, err, r)
	}
	r = run(embedded...)
	if err := json.Unmarshal([]byte(r.stdout), &second); err != nil || second.Created || second.KeyFile != "" || second.Fingerprint != first.Fingerprint {
		t.Errorf("the second time: %+v, %v: %+v", second, err, r)
	}
	if r = run(append(embedded, "--cluster-name", "other")...); r.code != exitFailed || !strings.Contains(r.stderr, `of cluster "shop"`) {
		t.Errorf("another name: %+v", r)
	}

	// The next ones find the CA in an etcd of its own.
	key := filepath.Join(dir, caKeyFile)
	store, err := etcd.Embed(t.Context(), etcd.Config{
		DataDir: t.TempDir(), ClientURL: "http://" + testkit.FreeAddr(t), PeerURL: "http://" + testkit.FreeAddr(t), Log: slog.New(slog.DiscardHandler), Unsafe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	outside := []string{"--etcd", store.Endpoint, "--ca-key", key}
	r = run(outside...)
	has(t, r.stdout, "the CA of cluster default is made\n", "fingerprint ")
	fingerprint := fingerprintIn(t, r.stdout)
	r = run(outside...)
	has(t, r.stdout, "cluster default has a CA already; nothing was changed\n", fingerprint)
	dir = t.TempDir()
	r = run("--etcd", store.Endpoint)
	if _, err := os.Stat(filepath.Join(dir, caKeyFile)); r.code != exitUsage || !strings.Contains(r.stderr, "--ca-key") || !os.IsNotExist(err) {
		t.Errorf("without the key: %+v, %v", r, err)
	}
	if r = run("--cluster-name", "A b"); r.code != exitUsage {
		t.Errorf("no name: %+v", r)
	}
	taken, err := openDataDir(dir, "scheduler")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.close()
	if r = run(); r.code != exitFailed || !strings.Contains(r.stderr, "in use by \"pancake scheduler\"") {
		t.Errorf("while a scheduler runs there: %+v", r)
	}
}

func fingerprintIn(t *testing.T, text string) string {
	t.Helper()
	_, after, _ := strings.Cut(text, "fingerprint ")
	hex := strings.TrimSpace(after)
	if _, err := identity.ParseFingerprint(hex); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return hex
}
