package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
)

func newSidecarDebugCommand(env *environment, address *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "debug",
		Short:   "Collect what is needed to find out what is wrong with a Sidecar",
		Example: examples("pancake sidecar debug bundle"),
		Args:    noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSidecarBundleCommand(env, address))
	return cmd
}

// bundleFiles are the files of a bundle and where a Sidecar has them.
func bundleFiles() []struct{ name, path string } {
	return []struct{ name, path string }{
		{"state.json", "/api/state.json"},
		{"members.json", "/api/members.json"},
		{"metrics.txt", "/metrics"},
		{"ready.json", "/readyz"},
		{"config.json", sidecar.DebugConfigPath},
		{"keys.json", sidecar.KeysPath},
		{"gossip.json", sidecar.DebugGossipPath},
		{"goroutines.txt", sidecar.DebugGoroutinesPath},
		{"heap.pprof", sidecar.DebugHeapPath},
	}
}

func newSidecarBundleCommand(env *environment, address *string) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Write a Sidecar's state, members, metrics, goroutines, heap and settings into a .tar.gz",
		Long: `Write a .tar.gz with what a Sidecar knows and does: state, members, metrics, goroutines,
the profile of its memory, and its settings. Keys are in it as fingerprints only. What the Sidecar does
not answer is missing, and errors.txt says why.`,
		Example: examples("pancake sidecar debug bundle", "pancake sidecar debug bundle --out node-7.tar.gz --sidecar http://127.0.0.2:7777"),
		Args:    arguments(0, 0),
		RunE: asking(env, address, func(ctx context.Context, a *asked, _ []string) error {
			now := env.now().UTC()
			if out == "" {
				out = "pancake-sidecar-" + now.Format("20060102T150405Z") + ".tar.gz"
			}
			files, missing, err := collectBundle(ctx, a)
			if err != nil {
				return err
			}
			if err := writeBundle(out, files, now); err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]any{"file": out, "missing": missing})
			}
			env.printf("%s\n", out)
			for _, name := range missing {
				env.notef("%s is missing; errors.txt in the bundle says why", name)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&out, "out", "", "`file` to write, which must not exist yet (default: pancake-sidecar-<time>.tar.gz)")
	return cmd
}

// bundleFile is one file of a bundle.
type bundleFile struct {
	name string
	data []byte
}

// collectBundle asks for all files. It fails when the Sidecar answers none of them.
func collectBundle(ctx context.Context, a *asked) (files []bundleFile, missing []string, err error) {
	var problems bytes.Buffer
	var all error
	missing = []string{}
	for _, f := range bundleFiles() {
		data, err := a.Raw(ctx, http.MethodGet, f.path)
		if err != nil {
			missing, all = append(missing, f.name), errors.Join(all, err)
			fmt.Fprintf(&problems, "%s: %v\n", f.name, err)
			continue
		}
		files = append(files, bundleFile{f.name, data})
	}
	if len(files) == 0 {
		return nil, nil, all
	}
	if problems.Len() > 0 {
		files = append(files, bundleFile{"errors.txt", problems.Bytes()})
	}
	return files, missing, nil
}

// writeBundle writes the files into a new archive that only its owner can read.
func writeBundle(path string, files []bundleFile, now time.Time) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "--out: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path) // half of it helps nobody
		}
	}()
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for _, file := range files {
		header := &tar.Header{Name: file.name, Mode: 0o600, Size: int64(len(file.data)), ModTime: now}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if _, err := w.Write(file.data); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return errors.Join(w.Close(), z.Close())
}
