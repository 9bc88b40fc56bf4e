package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/traefik/paerser/cli"
)

// load runs the loaders as the command does.
func load(t *testing.T, args ...string) *configuration {
	t.Helper()
	cfg := newConfiguration()
	for _, l := range loaders() {
		done, err := l.Load(args, &cli.Command{Configuration: cfg})
		if err != nil {
			t.Fatal(err)
		}
		if done {
			break
		}
	}
	return cfg
}

func TestSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	write := func(name, text string) string {
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own := write("own.yml", "sidecar:\n  url: http://own:1\n  cache: c.json\nentryPoints:\n  web:\n    address: :81\n")

	if got := load(t).Sidecar; got.URL != "http://127.0.0.1:7777" || got.Cache != "" {
		t.Errorf("default %+v", got)
	}
	write("traefik.yml", "sidecar:\n  url: http://default-file:1\n")
	for _, test := range []struct {
		name string
		args []string
		url  string
	}{
		{"no flags: the default file", nil, "http://default-file:1"},
		{"flags: no default file", []string{"--sidecar.url=http://flag:1"}, "http://flag:1"},
		{"a file that is named", []string{"--configFile=" + own, "--sidecar.url=http://flag:1"}, "http://own:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := load(t, test.args...).Sidecar.URL; got != test.url {
				t.Errorf("sidecar.url %s, want %s", got, test.url)
			}
		})
	}
	cfg := load(t, "--configFile="+own)
	if cfg.EntryPoints["web"] == nil || cfg.EntryPoints["web"].Address != ":81" || cfg.Sidecar.Cache != "c.json" {
		t.Errorf("the file was not read: %+v", cfg.Sidecar)
	}

	if err := os.Remove("traefik.yml"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TRAEFIK_SIDECAR_URL", "http://env:1")
	if got := load(t).Sidecar.URL; got != "http://env:1" {
		t.Errorf("sidecar.url %s, want that of the environment", got)
	}
}

func TestNeverPhonesHome(t *testing.T) {
	cfg := load(t, "--global.sendanonymoususage=true", "--global.checknewversion=true")
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	if cfg.Global.SendAnonymousUsage || cfg.Global.CheckNewVersion {
		t.Errorf("%+v", cfg.Global)
	}
}
