package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/lifecycle"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar"
)

type devFlags struct {
	nodeFlags
	etcdFlags
	http, grpc          string
	sidecarHTTP, gossip string
	dataDir             string
	drain               time.Duration
	ingress             ingressFlags
	detach              bool
	readyFD             int
}

const (
	devCommand    = "dev"
	defaultDevDir = ".pancake"
)

func newDevCommand(env *environment) *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine",
		Long: `Run all of Pancake on this machine: etcd, scheduler, executor and Sidecar in one
process, and Traefik beside it. Everything listens on loopback.

Ctrl-C stops the platform and leaves the tasks running; the next start continues
with them. "pancake dev down" stops both.`,
		Example: examples(
			"pancake dev",
			"pancake dev --detach",
			"pancake dev down",
		),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.detach {
				return detach(cmd.Context(), env, cmd, f.dataDir)
			}
			if f.readyFD == 0 && !cmd.Flags().Changed("log-level") {
				env.global.logLevel = "warn" // a person reads along; a log file may have it all
			}
			return runDev(cmd.Context(), env, f)
		},
	}
	flags := cmd.Flags()
	f.addNode(flags)
	flags.StringVar(&f.http, "http", "127.0.0.1:7099", "`address` that the API listens on")
	flags.StringVar(&f.grpc, "grpc", "127.0.0.1:7098", "`address` that agents dial")
	flags.StringVar(&f.sidecarHTTP, "sidecar-http", "127.0.0.1:7777", "`address` that the Sidecar's API listens on")
	flags.StringVar(&f.gossip, "gossip", "127.0.0.1:7946", "`address` that gossip listens on")
	flags.StringVar(&f.listen, "etcd-listen", "127.0.0.1:2379", "`address` that the embedded etcd listens on for clients")
	flags.StringVar(&f.peerListen, "etcd-peer-listen", "127.0.0.1:2380", "`address` that the embedded etcd listens on for peers")
	flags.StringVar(&f.dataDir, "data-dir", defaultDevDir, "`directory` for what must survive a restart")
	flags.DurationVar(&f.drain, "drain", 2*time.Second, "`time` that traffic gets to move away before a task is stopped")
	f.ingress.add(flags)
	flags.BoolVarP(&f.detach, "detach", "d", false, "start in the background, and return when everything is ready")
	flags.IntVar(&f.readyFD, readyFDFlag, 0, "file descriptor to report the start on")
	_ = flags.MarkHidden(readyFDFlag) // fails only for a flag that does not exist
	cmd.AddCommand(newDevDownCommand(env))
	return cmd
}

func runDev(ctx context.Context, env *environment, f devFlags) error {
	if f.readyFD != 0 {
		out, err := appendLog(filepath.Join(f.dataDir, devLogName)) // which is our stderr too, but would grow for ever
		if err != nil {
			return pancake.Errorf(pancake.Invalid, "--data-dir: %w", err)
		}
		env.stderr = out
	}
	log, err := env.logger()
	if err != nil {
		return err
	}
	say, done, err := announcer(env, f.readyFD)
	if err != nil {
		return err
	}
	defer done(false)
	if err := loopbackOnly(false, map[string]string{
		"http": f.http, "grpc": f.grpc, "sidecar-http": f.sidecarHTTP, "gossip": f.gossip,
		"etcd-listen": f.listen, "etcd-peer-listen": f.peerListen, "ingress-http": f.ingress.http, "ingress-https": f.ingress.https,
		"ingress-admin": f.ingress.admin,
	}); err != nil {
		return err
	}
	dir, err := openDataDir(f.dataDir, devCommand)
	if err != nil {
		return err
	}
	defer dir.close()
	parts, err := devParts(ctx, f, dir, log, say)
	if err != nil {
		return err
	}
	return devPorts.explain(runParts(ctx, say, log, parts, func() {
		f.welcome(say)
		done(true)
	}))
}

// devPorts are the flags of the ports of the Sidecar.
var devPorts = portSettings{sidecar.PortHTTP: "--sidecar-http", sidecar.PortGossip: "--gossip"}

// noEnvironment keeps variables that are meant for a Sidecar of a cluster from
// making this one talk to it.
func noEnvironment(string) (string, bool) { return "", false }

// devParts prepares all parts, in the order in which they start.
func devParts(ctx context.Context, f devFlags, dir *dataDir, log logger, say func(string, ...any)) ([]lifecycle.Part, error) {
	host, _, err := net.SplitHostPort(f.grpc)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--grpc %q is not host:port", f.grpc)
	}
	n, err := newNode(ctx, noEnvironment, nodeConfig{dir: dir, log: log, ports: devPorts, agentFlags: agentFlags{
		nodeFlags: f.nodeFlags, scheduler: f.grpc, advertise: host, http: f.sidecarHTTP, gossip: f.gossip,
		clusterName: "dev", domain: "localhost", drain: f.drain, foreign: true,
	}})
	if err != nil {
		return nil, err
	}
	leader := schedulerConfig(log, f.http, f.grpc)
	if leader.HTTP, err = serve.Listen(ctx, f.http); err != nil {
		return nil, err
	}
	if leader.GRPC, err = serve.Listen(ctx, f.grpc); err != nil {
		return nil, err
	}
	store := newEtcdPart(f.embedded(dir.join("etcd"), log))
	parts := append([]lifecycle.Part{store.part(), schedulerPart(leader, nil, store.client)}, n.parts(say)...)
	if !f.ingress.off {
		ingress, err := f.ingress.part(ctx, dir, n.sidecarURL, log)
		if err != nil {
			return nil, err
		}
		parts = append(parts, ingress)
	}
	return parts, nil
}

func (f devFlags) welcome(say func(string, ...any)) {
	say("\nPancake is ready.\n")
	if !f.ingress.off {
		say("  services   http://<service>.localhost%s/  https://<service>.localhost%s/", port(f.ingress.http), port(f.ingress.https))
	}
	say("  scheduler  http://%s", f.http)
	say("  sidecar    http://%s/api/services.json", f.sidecarHTTP)
	say("\nDeploy something: pancake release examples/hello -e dev -t 1")
}

// port is ":8080" of "127.0.0.1:8080".
func port(addr string) string {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return ":" + p
}

// announcer says how the start goes: to stdout, or to the process that started
// this one in the background. done ends it; ready says that all went well.
func announcer(env *environment, fd int) (say func(string, ...any), done func(ready bool), err error) {
	if fd == 0 {
		return env.say, func(bool) {}, nil
	}
	syscall.CloseOnExec(fd) // not for Traefik
	pipe := os.NewFile(uintptr(fd), "ready")
	if pipe == nil {
		return nil, nil, pancake.Errorf(pancake.Invalid, "--%s %d is no open file descriptor", readyFDFlag, fd)
	}
	// Whoever waits may be gone; that must not stop us.
	say = func(format string, args ...any) { _, _ = fmt.Fprintf(pipe, format+"\n", args...) }
	done = func(ready bool) {
		if ready {
			say("%s", readyMark)
		}
		_ = pipe.Close()
	}
	return say, done, nil
}
