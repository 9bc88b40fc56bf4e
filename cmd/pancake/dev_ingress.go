package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/child"
	"github.com/pancake-stack/pancake/internal/lifecycle"
	"github.com/pancake-stack/pancake/internal/serve"
)

// ingressName is the program that is Traefik with our provider inside.
const ingressName = "pancake-ingress"

type ingressFlags struct {
	http, https string
	admin       string // not for services: Traefik's own /ping
	bin         string
	off         bool
}

func (f *ingressFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.http, "ingress-http", "127.0.0.1:8080", "`address` that Traefik listens on for HTTP")
	flags.StringVar(&f.https, "ingress-https", "127.0.0.1:8443", "`address` that Traefik listens on for HTTPS")
	flags.StringVar(&f.admin, "ingress-admin", "127.0.0.1:7790", "`address` that Traefik's own /ping listens on")
	flags.StringVar(&f.bin, "ingress-bin", "", "`path` of pancake-ingress (default: beside pancake, else in PATH)")
	flags.BoolVar(&f.off, "no-ingress", false, "run without Traefik")
}

// find returns the path of pancake-ingress, or says how to get it.
func (f *ingressFlags) find() (string, error) {
	if f.bin != "" {
		path, err := exec.LookPath(f.bin)
		if err != nil {
			return "", pancake.Errorf(pancake.Invalid, "--ingress-bin: %w", err)
		}
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), ingressName)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(ingressName)
	if err != nil {
		return "", pancake.Errorf(pancake.Invalid,
			"%s is not there: build it with \"make build\" (several minutes the first time), name it with --ingress-bin, or start without it: --no-ingress", ingressName)
	}
	return path, nil
}

// part runs Traefik as a child, restarted when it dies and ended with us.
func (f *ingressFlags) part(ctx context.Context, dir *dataDir, sidecarURL string, log logger) (lifecycle.Part, error) {
	path, err := f.find()
	if err != nil {
		return lifecycle.Part{}, err
	}
	if err := f.awaitPorts(ctx); err != nil {
		return lifecycle.Part{}, err
	}
	logPath := dir.join("ingress.log")
	out, err := startLog(logPath)
	if err != nil {
		return lifecycle.Part{}, pancake.Errorf(pancake.Invalid, "--data-dir: %w", err)
	}
	cfg := child.Config{Path: path, Output: out, Log: log.With("part", "ingress"), Args: []string{
		"--entrypoints.web.address=" + f.http,
		"--entrypoints.websecure.address=" + f.https,
		"--entrypoints.websecure.http.tls=true",
		"--sidecar.url=" + sidecarURL,
		"--sidecar.cache=" + dir.join("ingress.json"),
		"--entrypoints.traefik.address=" + f.admin, "--ping=true",
		"--log.level=info", "--log.nocolor=true",
	}}
	return lifecycle.Part{
		Name: "ingress",
		Run: func(ctx context.Context) error {
			return errors.Join(child.Run(ctx, cfg), out.Close())
		},
		Ready: func(ctx context.Context) error {
			if err := answers(http.DefaultClient, "http://"+f.admin+"/ping")(ctx); err != nil {
				return pancake.Errorf(pancake.Unavailable, "%w; the end of %s:\n%s", err, logPath, cmp.Or(tailOfFile(logPath, 5), "(empty)"))
			}
			return nil
		},
	}, nil
}

// awaitPorts says who is in the way before Traefik does so in its log. The
// ingress of a run that was killed may need a moment to end.
func (f *ingressFlags) awaitPorts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return lifecycle.Poll(ctx, func(ctx context.Context) error {
		for _, addr := range []string{f.http, f.https, f.admin} {
			ln, err := serve.Listen(context.WithoutCancel(ctx), addr)
			if err != nil {
				return err
			}
			if err := ln.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}
