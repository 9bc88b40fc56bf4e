package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/file"
	"github.com/pancake-stack/pancake/goavail/source"
	"github.com/pancake-stack/pancake/goavail/state"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// providerLimit bounds what "check" and "plan" wait for the provider.
const providerLimit = time.Minute

func newGoavailCheckCommand(env *environment) *cobra.Command {
	var f goavailFile
	var offline, show bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration, the credentials and the access to the zones",
		Long: `Validate the configuration, and ask the provider whether the credentials are good for
reading and writing the records. Nothing is changed. Exit code 2: the configuration is
wrong; 3: the provider does not answer; 4: it refuses.`,
		Example: examples(
			"pancake goavail check -f goavail.yml",
			"pancake goavail check -f goavail.yml --offline        # without asking the provider",
			"pancake goavail check -f goavail.yml --place fra --show",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			read, err := f.load(env)
			if err != nil {
				return err
			}
			if show {
				return read.Print(env.stdout)
			}
			return checkGoavail(cmd.Context(), env, read, offline)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the provider")
	cmd.Flags().BoolVar(&show, "show", false, "print the configuration as it is understood, without secrets, and do nothing else")
	return cmd
}

// goavailChecked is what "check -o json" prints.
type goavailChecked struct {
	Place    string   `json:"place"`
	Places   int      `json:"places"`
	Quorum   int      `json:"quorum"`
	Targets  int      `json:"targets"`
	Records  int      `json:"records"`
	Provider string   `json:"provider"`
	Asked    bool     `json:"asked"` // the provider was asked
	Warnings []string `json:"warnings"`
}

func checkGoavail(ctx context.Context, env *environment, read *file.File, offline bool) error {
	if read.Settings.Place == "" && len(read.Settings.Places) > 0 {
		read.Settings.Place = read.Settings.Places[0].Name // any of them will do here
	}
	cfg, err := completeGoavail(ctx, read)
	if err != nil {
		return err
	}
	if !env.json() {
		for _, w := range read.Advice() {
			env.notef("warning: %s", w)
		}
	}
	if !offline {
		if err := askProvider(ctx, cfg.Provider, cfg.Records); err != nil {
			return err
		}
	}
	places := max(len(cfg.Places), 1)
	out := goavailChecked{
		Place: cfg.Place, Places: places, Quorum: vote.Quorum(places), Targets: len(cfg.Targets), Records: len(cfg.Records),
		Provider: cfg.Provider.Capabilities().Name, Asked: !offline, Warnings: read.Advice(),
	}
	if env.json() {
		return env.printJSON(out)
	}
	env.printf("%s: %s, of which %d have to agree; %s in %s at %s\n", read.Name, plural(places, "place"), out.Quorum,
		plural(out.Targets, "target"), plural(out.Records, "record"), out.Provider)
	if offline {
		env.printf("the provider was not asked\n")
	} else {
		env.printf("%s answers, and takes the credentials for all records\n", out.Provider)
	}
	return nil
}

// completeGoavail is the whole configuration, checked, with its provider. Nobody is called.
func completeGoavail(ctx context.Context, read *file.File) (goavail.Config, error) {
	nodes := map[string][]source.Node{}
	if follow, err := source.New(source.Config{Sources: platformSources(read), DataDir: read.DataDir()}); err == nil {
		nodes = follow.Nodes()
	}
	cfg, err := read.Config(nodes)
	if err != nil {
		return cfg, err
	}
	if cfg.Provider, err = read.OpenProvider(ctx); err != nil {
		return cfg, err
	}
	if _, err := read.Hooks(); err != nil {
		return cfg, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, pancake.Errorf(pancake.Invalid, "%s: %w", read.Name, err)
	}
	return cfg, nil
}

func askProvider(ctx context.Context, p dns.Provider, records []goavail.Record) error {
	ctx, cancel := context.WithTimeout(ctx, providerLimit)
	defer cancel()
	var keys []dns.Key
	for _, r := range records {
		keys = append(keys, r.Key)
	}
	err := providerError(p, p.Check(ctx, keys))
	if pancake.KindOf(err) == pancake.Unavailable {
		return pancake.Errorf(pancake.Unavailable, "%w\nIs the provider's address right, and can this machine reach it? \"check --offline\" looks at the file alone.", err)
	}
	return err
}

// providerError gives a provider's failure the kind that the exit code is made from.
func providerError(p dns.Provider, err error) error {
	switch {
	case err == nil:
		return nil
	case pancake.KindOf(err) != pancake.Internal:
		return err
	case dns.ReasonOf(err) == dns.Refused:
		return pancake.Errorf(pancake.Forbidden, "%s: %w", p.Capabilities().Name, err)
	}
	return pancake.Errorf(pancake.Unavailable, "%s: %w", p.Capabilities().Name, err)
}

// readOnly is a provider that is never written to.
type readOnly struct{ dns.Provider }

func (readOnly) Apply(context.Context, []dns.Change) error {
	return &dns.Error{Reason: dns.Refused, Err: errors.New("this is only a plan")}
}

// planHere works out a plan without any agent: it probes from here, for as long as it
// takes to have an opinion on every target, and changes nothing.
func planHere(ctx context.Context, env *environment, read *file.File) (plan client.Plan, err error) {
	if read.Settings.Place == "" && len(read.Settings.Places) > 0 {
		read.Settings.Place = read.Settings.Places[0].Name
	}
	cfg, err := completeGoavail(ctx, read)
	if err != nil {
		return plan, err
	}
	dir, err := os.MkdirTemp("", "goavail-plan-")
	if err != nil {
		return plan, pancake.Errorf(pancake.Internal, "%w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return plan, pancake.Errorf(pancake.Internal, "%w", err)
	}
	cfg.Provider = readOnly{cfg.Provider}
	cfg.Places, cfg.Etcd, cfg.GossipKeys, cfg.NoDryRun = nil, nil, nil, false
	cfg.DataDir, cfg.Listener, cfg.BindAddr, cfg.BindPort, cfg.AdvertiseAddr = dir, ln, "127.0.0.1", -1, ""
	cfg.Log = slog.New(slog.DiscardHandler)
	agent, err := goavail.New(cfg)
	if err != nil {
		return plan, errors.Join(err, ln.Close())
	}
	env.notef("probing %s from here; the agents' votes may differ", plural(len(cfg.Targets), "target"))
	running, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return agent.Run(running) })
	defer func() {
		stop()
		if runErr := group.Wait(); err == nil && !errors.Is(runErr, context.Canceled) {
			err = runErr
		}
	}()
	if err := opinions(ctx, agent, cfg.Targets); err != nil {
		return plan, err
	}
	ctx, cancel := context.WithTimeout(ctx, providerLimit)
	defer cancel()
	plan, err = agent.Plan(ctx)
	return plan, providerError(cfg.Provider, err)
}

// opinions waits until the agent has an opinion on all targets, or should have.
func opinions(ctx context.Context, agent *goavail.Agent, targets []goavail.Target) error {
	limit := 2 * time.Second
	for _, t := range targets {
		c := t.Check.WithDefaults()
		limit = max(limit, time.Duration(max(c.Fall, c.Rise)+2)*max(c.Interval, c.Timeout))
	}
	deadline := time.After(min(limit, time.Minute))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		unknown := 0
		for _, t := range agent.Status(ctx, false).Targets {
			unknown += t.Unknown
		}
		if unknown == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return nil
		case <-tick.C:
		}
	}
}

func newGoavailConvertCommand(env *environment) *cobra.Command {
	var f goavailFile
	var out string
	cmd := &cobra.Command{
		Use:   "convert <goavail.toml>",
		Short: "Turn the old goavail's TOML into this one's YAML",
		Long: `Turn the configuration of the goavail that came before into this one's. The YAML goes to
stdout; what means something else now is said on stderr.`,
		Example: examples(
			"pancake goavail convert goavail.toml > goavail.yml",
			"pancake goavail convert goavail.toml --dns-provider route53 --type tcp --out goavail.yml",
		),
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if !strings.HasSuffix(strings.ToLower(args[0]), ".toml") {
				return pancake.Errorf(pancake.Invalid, "%s does not end in .toml; is it the old goavail's file?", args[0])
			}
			f.path = args[0]
			read, err := f.load(env)
			if err != nil {
				return err
			}
			env.warn(read)
			if out == "" {
				return file.Print(env.stdout, read.Settings)
			}
			var b strings.Builder
			if err := file.Print(&b, read.Settings); err != nil {
				return err
			}
			return writeNew(out, b.String(), 0o644)
		},
	}
	f.addOld(cmd)
	cmd.Flags().StringVar(&out, "out", "", "`file` to write instead of stdout; it must not exist")
	return cmd
}

// writeNew writes a file that must not exist.
func writeNew(name, text string, mode fs.FileMode) error {
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return pancake.Errorf(pancake.Conflict, "%s exists already; remove it first if it is not needed any more", name)
	}
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "%w", err)
	}
	_, err = w.WriteString(text)
	return errors.Join(err, w.Close())
}

func newGoavailKeygenCommand(env *environment) *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "keygen [<file>]",
		Short: "Make the key that agents encrypt their gossip with, or show a place's own key",
		Long: `Make the key that all agents of a cluster encrypt their gossip with, in a file that nobody
else may read; give all agents the same. To replace a key, put the new one on a line above
the old one on all agents, restart them one by one, and remove the old line later.

With --data-dir, print the public key of the place whose data that is, for "key" in the
list of places: only who holds its other half speaks for that place then.`,
		Example: examples(
			"pancake goavail keygen /etc/pancake/goavail-gossip.key",
			"pancake goavail keygen --data-dir /var/lib/pancake/goavail",
		),
		Args: arguments(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case dataDir != "" && len(args) == 0:
				return printPlaceKey(env, dataDir)
			case dataDir == "" && len(args) == 1:
				key := make([]byte, 32)
				_, _ = rand.Read(key) // it never fails
				if err := writeNew(args[0], base64.StdEncoding.EncodeToString(key)+"\n", 0o600); err != nil {
					return err
				}
				env.printf("%s holds a new key; name it as gossip.key_file on all agents\n", args[0])
				return nil
			}
			return pancake.Errorf(pancake.Invalid, "name a file to write, or --data-dir; write: pancake goavail keygen goavail-gossip.key")
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "`directory` of a place's data: print that place's public key")
	return cmd
}

func printPlaceKey(env *environment, dataDir string) error {
	dir, err := state.Open(dataDir)
	if err != nil {
		return err
	}
	key, err := dir.Key()
	if err != nil {
		return err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return pancake.Errorf(pancake.Internal, "the key in %s is not Ed25519", dataDir)
	}
	env.printf("%s\n", base64.StdEncoding.EncodeToString(public))
	return nil
}
