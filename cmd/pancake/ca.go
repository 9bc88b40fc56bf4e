package main

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func newCACommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make, show and replace the certificate authority; issue and revoke certificates",
		Long: `The certificate authority (CA) of a cluster is made by its first scheduler. It signs
the certificates by which schedulers and agents know each other; they are renewed by themselves.`,
		Example: examples("pancake ca show", "pancake ca rotate", "pancake ca issue user/alice --role viewer --out alice", "pancake ca revoke agent/n1"),
		Args:    noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCAInitCommand(env), newCAShowCommand(env), newCARotateCommand(env), newCAResealCommand(env),
		newCAIssueCommand(env), newCARevokeCommand(env))
	return cmd
}

func newCAShowCommand(env *environment) *cobra.Command {
	var asPEM bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the fingerprints of the CAs that are trusted, and how far a rotation is",
		Long:  "Print the CAs that are trusted: one, or two while the CA is being replaced. It needs no token, only the CA to know the scheduler by.",
		Example: examples(
			"pancake ca show",
			"pancake ca show --pem > ca.pem",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			view, err := c.CA(cmd.Context())
			if err != nil {
				return err
			}
			switch {
			case asPEM && env.json():
				return pancake.Errorf(pancake.Invalid, "choose one of --pem and -o json, which has the certificates as well")
			case asPEM:
				bundle, err := bundleOf(view)
				env.printf("%s", bundle.PEM())
				return err
			}
			return env.printCA(view)
		},
	}
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print the certificates, for --ca and other programs")
	return cmd
}

func (e *environment) printCA(view client.CAView) error {
	if e.json() {
		return e.printJSON(view)
	}
	e.printf("cluster %s\n", clean(view.Cluster))
	var rows [][]string
	for _, ca := range view.CAs {
		use := "trusted"
		if ca.Issuing {
			use = "signs"
		}
		rows = append(rows, []string{clean(ca.Fingerprint), use, ca.NotBefore.Local().Format(time.DateOnly), ca.NotAfter.Local().Format(time.DateOnly)})
	}
	for _, line := range table([]string{"FINGERPRINT (SHA-256)", "USE", "FROM", "UNTIL"}, rows) {
		e.printf("%s\n", line)
	}
	e.printf("%s\n", rotationText(view.Rotation, "ca"))
	return nil
}

// rotationText says how far the rotation of what "pancake <command>" is about has come.
func rotationText(r client.Rotation, command string) string {
	next := ""
	if !r.Since.IsZero() && r.Overlap > 0 {
		next = " at " + r.Since.Add(r.Overlap).Local().Format(time.DateTime) + " by itself, or now with: pancake " + command + " rotate --continue"
	}
	switch r.Phase {
	case "introduced":
		return "being replaced: the new one is trusted and not used yet; it will be" + next
	case "switched":
		return "being replaced: the new one is in use and the old one still trusted; that ends" + next
	}
	return "not being replaced"
}

// rotateFlags are the flags of the commands that replace something in phases.
type rotateFlags struct {
	overlap time.Duration
	resume  bool
}

func (f *rotateFlags) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.overlap, "overlap", 0, "how long each of the two phases lasts, `duration` (default: as long as a certificate lives)")
	cmd.Flags().BoolVar(&f.resume, "continue", false, "end the current phase of the rotation now")
}

// body is what to ask for when the rotation is where current says.
func (f rotateFlags) body(current client.Rotation) (client.RotateBody, error) {
	switch {
	case f.overlap < 0:
		return client.RotateBody{}, pancake.Errorf(pancake.Invalid, "--overlap is a time to come, for example 1h")
	case !f.resume:
		return client.RotateBody{Overlap: f.overlap}, nil
	case f.overlap != 0:
		return client.RotateBody{}, pancake.Errorf(pancake.Invalid, "choose one of --overlap, which begins a rotation, and --continue")
	case current.Phase == "stable":
		return client.RotateBody{}, pancake.Errorf(pancake.Conflict, "no rotation is under way; begin one without --continue")
	}
	return client.RotateBody{Advance: current.Phase}, nil
}

func newCARotateCommand(env *environment) *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the CA while everything goes on",
		Long: `Replace the CA in two phases. First all parts learn to trust the new CA; then new
certificates are signed by it, and the old CA is trusted until none of its certificates
is left. No connection ends. The phases end by themselves; --continue ends the current
one now, which locks out whoever has not renewed in it: agents that are off, and people
who have not logged in since.`,
		Example: examples("pancake ca rotate", "pancake ca rotate --overlap 48h", "pancake ca rotate --continue"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			view, err := c.CA(cmd.Context())
			if err != nil {
				return err
			}
			body, err := f.body(view.Rotation)
			if err != nil {
				return err
			}
			if view, err = c.RotateCA(cmd.Context(), body); err != nil {
				return err
			}
			kept, err := env.credentials()
			if err == nil && kept.Scheduler == c.URL && env.global.ca == "" {
				err = env.trustAlso(kept, view)
			}
			if err != nil {
				return err
			}
			return env.printCA(view)
		},
	}
	f.add(cmd)
	return cmd
}

// issueFlags are the flags of "ca issue".
type issueFlags struct {
	role   string
	groups []string
	hosts  []string
	life   time.Duration
	out    string
	renew  bool
}

func newCAIssueCommand(env *environment) *cobra.Command {
	var f issueFlags
	cmd := &cobra.Command{
		Use:   "issue <kind>/<id>",
		Short: "Get a certificate for a person or program",
		Long: `Get a certificate: for a user, who then needs no token, or for a program that calls
the API (ingress, goavail, proviso). The key is made here and never leaves. The directory that
--out names gets identity.pem, with key and certificate, which only you can read, and ca.pem.

With --renew it replaces the certificate in --out, with the same role and groups unless others are
given. It takes an operator, as every certificate does: one's own, while it is good, will do.`,
		Example: examples(
			"pancake ca issue user/alice --role deployer --group shop --life 168h --out alice",
			"pancake agents --scheduler https://scheduler:7099 --cert alice/identity.pem",
			"pancake ca issue user/alice --out alice --renew",
			"curl --cert alice/identity.pem --cacert alice/ca.pem https://scheduler:7099/v1/requests",
		),
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return issue(cmd.Context(), env, f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.role, "role", "", "what a user may do: `role` viewer, deployer or operator")
	flags.StringArrayVar(&f.groups, "group", nil, "`group` whose requests a user's certificate is for; can be given several times")
	flags.StringArrayVar(&f.hosts, "host", nil, "`name` or address to put into the certificate, for programs that check it; can be given several times")
	flags.DurationVar(&f.life, "life", 0, "how long it is valid, `duration` (default 24h)")
	flags.StringVar(&f.out, "out", "", "`directory` for key and certificate; required")
	flags.BoolVar(&f.renew, "renew", false, "replace the certificate that is there")
	_ = cmd.RegisterFlagCompletionFunc("role", completeRoles())
	return cmd
}

// whose splits "user/alice".
func whose(text string) (kind identity.Kind, id string, err error) {
	k, id, _ := strings.Cut(text, "/")
	// The cluster is the scheduler's; any valid one will do to check the rest.
	return identity.Kind(k), id, identity.Identity{Cluster: "any", Kind: identity.Kind(k), ID: id}.Validate()
}

// replaces checks what is in --out already, and takes role and groups over from it.
func (f *issueFlags) replaces(files identity.Files, kind identity.Kind, id string) error {
	_, err := os.Stat(filepath.Join(f.out, "identity.pem"))
	if !f.renew {
		if !errors.Is(err, os.ErrNotExist) {
			return pancake.Errorf(pancake.Conflict, "%s has an identity.pem already; replace it with --renew, or name another directory with --out", f.out)
		}
		return nil
	}
	leaf, err := files.Load()
	if err != nil {
		return err
	}
	if who := leaf.Identity(); who.Kind != kind || who.ID != id {
		return pancake.Errorf(pancake.Conflict, "%s holds the certificate of %s/%s; name another directory with --out", f.out, who.Kind, who.ID)
	}
	if f.role == "" && len(f.groups) == 0 {
		g := leaf.Grant()
		f.role, f.groups = string(g.Role), g.Groups
	}
	return nil
}

func issue(ctx context.Context, env *environment, f issueFlags, name string) error {
	kind, id, err := whose(name)
	if err != nil {
		return err
	}
	if f.out == "" {
		return pancake.Errorf(pancake.Invalid, "say where key and certificate go, for example: --out %s", id)
	}
	files := identity.Files{Dir: f.out}
	if err := f.replaces(files, kind, id); err != nil {
		return err
	}
	c, err := env.client(ctx)
	if err != nil {
		return err
	}
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return err
	}
	view, err := c.IssueCertificate(ctx, client.IssueBody{
		Kind: string(kind), ID: id, Life: f.life, Hosts: f.hosts, Grant: client.Grant{Role: f.role, Groups: f.groups},
		CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	})
	if err != nil {
		return err
	}
	bundle, err := identity.ParseBundlePEM([]byte(view.CA))
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(view.Certificate))
	if block == nil {
		return pancake.Errorf(pancake.Unavailable, "the scheduler sent something that is not a certificate")
	}
	leaf, err := identity.NewLeaf(key, identity.Issued{Cert: block.Bytes, CAs: bundle.DER()}, env.now())
	if err != nil {
		return err
	}
	if err := files.Save(leaf); err != nil {
		return err
	}
	if env.json() {
		return env.printJSON(view)
	}
	env.printf("%s, valid until %s, is in %s\n", view.Identity, view.NotAfter.Local().Format(time.DateTime), f.out)
	return nil
}

func newCARevokeCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke <kind>/<id>",
		Short: "Refuse all certificates that somebody has got so far",
		Long: `Refuse all certificates that an identity has got so far. It can come back with a new
join token, or with a new certificate from "pancake ca issue".`,
		Example: examples("pancake ca revoke agent/2f6c…", "pancake ca revoke user/alice"),
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, id, err := whose(args[0])
			if err != nil {
				return err
			}
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.RevokeCertificates(cmd.Context(), client.RevokeBody{Kind: string(kind), ID: id}); err != nil {
				return err
			}
			if env.json() {
				return env.printJSON(map[string]string{"revoked": args[0]})
			}
			env.printf("all certificates of %s are revoked\n", args[0])
			return nil
		},
	}
}
