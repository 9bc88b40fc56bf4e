package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// maxAuditPage is the most entries that the scheduler returns at once.
const maxAuditPage = 1000

// auditFlags are the flags of "audit".
type auditFlags struct {
	since    time.Duration
	from, to string
	limit    int
	query    client.AuditQuery
}

func newAuditCommand(env *environment) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who did what, when, from where, and what was refused",
		Long: `Show the audit log, newest first: every change that was asked for, and every attempt
that was refused, with the check that it failed. The scheduler keeps a bounded number of
entries; all of them are in its log as well.`,
		Example: examples(
			"pancake audit",
			"pancake audit --result denied --since 24h",
			"pancake audit --target dev_hello --action deploy -o json",
			"pancake audit --subject token:k3xvq7aemrb2ychd --limit 0    # all that there are",
		),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.times(env.now()); err != nil {
				return err
			}
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			entries, err := readAudit(cmd.Context(), c, f.query, f.limit)
			if err != nil {
				return err
			}
			return env.printAudit(entries)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.since, "since", 0, "only the last so much time, `duration`, for example 24h")
	flags.StringVar(&f.from, "from", "", "only from this `time` on, for example 2026-01-31T15:04:05Z")
	flags.StringVar(&f.to, "to", "", "only before this `time`")
	flags.StringVar(&f.query.Subject, "subject", "", "only what this `subject` did: token:<id>, or the identity in a certificate")
	flags.StringVar(&f.query.Target, "target", "", "only what was done to this request, agent or token, `id`")
	flags.StringVar(&f.query.Action, "action", "", "only this `action`, for example deploy")
	flags.StringVar(&f.query.Result, "result", "", "only this `result`: ok, denied or failed")
	flags.IntVar(&f.limit, "limit", 100, "`number` of entries; 0 for all")
	_ = cmd.RegisterFlagCompletionFunc("result", cobra.FixedCompletions(
		[]string{client.AuditOK, client.AuditDenied, client.AuditFailed}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("action", cobra.FixedCompletions(
		[]string{"deploy", "scale", "delete", "kill", "logs", "read", "tokens", "audit", "ca"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// times reads the flags that say when, and checks the others.
func (f *auditFlags) times(now time.Time) error {
	if f.since < 0 || f.limit < 0 {
		return pancake.Errorf(pancake.Invalid, "--since and --limit take no negative value")
	}
	if f.since > 0 && f.from != "" {
		return pancake.Errorf(pancake.Invalid, "choose one of --since and --from")
	}
	if r := f.query.Result; r != "" && !slices.Contains([]string{client.AuditOK, client.AuditDenied, client.AuditFailed}, r) {
		return pancake.Errorf(pancake.Invalid, "--result %q: use ok, denied or failed", r)
	}
	if f.since > 0 {
		f.query.From = now.Add(-f.since)
	}
	for _, flag := range []struct {
		name, text string
		at         *time.Time
	}{{"from", f.from, &f.query.From}, {"to", f.to, &f.query.To}} {
		if flag.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, flag.text)
		if err != nil {
			return pancake.Errorf(pancake.Invalid, "--%s %q is not a time like %s", flag.name, flag.text, now.UTC().Format(time.RFC3339))
		}
		*flag.at = at
	}
	return nil
}

// readAudit reads pages until there are limit entries, 0 for all, or no more.
func readAudit(ctx context.Context, c *client.Client, q client.AuditQuery, limit int) ([]client.AuditEntry, error) {
	entries := []client.AuditEntry{} // not null in JSON
	for {
		q.Limit = maxAuditPage
		if limit > 0 {
			q.Limit = min(limit-len(entries), maxAuditPage)
		}
		page, err := c.Audit(ctx, q)
		if err != nil {
			return nil, err
		}
		entries = append(entries, page.Entries...)
		if page.Next == "" || page.Next == q.Cursor || limit > 0 && len(entries) >= limit {
			return entries, nil
		}
		q.Cursor = page.Next
	}
}

func (e *environment) printAudit(entries []client.AuditEntry) error {
	if e.json() {
		return e.printJSON(entries)
	}
	if len(entries) == 0 {
		e.printf("the audit log has nothing like that\n")
		return nil
	}
	p := e.paint()
	header := []string{"TIME", "SUBJECT", "FROM", "ACTION", "TARGET", p.paint(plain, "RESULT"), "NOTE"}
	var rows [][]string
	for _, a := range entries {
		note := joinNotEmpty(": ", a.Reason, a.Message)
		if a.Suppressed > 0 {
			note = joinNotEmpty("; ", note, fmt.Sprintf("%d more like it", a.Suppressed))
		}
		rows = append(rows, []string{
			a.Time.Local().Format(time.DateTime), clean(cmp.Or(a.Subject, "nobody known")), clean(a.From), clean(a.Action), clean(a.Target),
			p.paint(resultColour(a.Result), clean(a.Result)), clean(note),
		})
	}
	for _, line := range table(header, rows) {
		e.printf("%s\n", line)
	}
	return nil
}

func resultColour(result string) int {
	switch result {
	case client.AuditOK:
		return green
	case client.AuditDenied, client.AuditFailed:
		return red
	}
	return plain
}
