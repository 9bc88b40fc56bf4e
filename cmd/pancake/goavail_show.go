package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/file"
)

func newGoavailPlanCommand(env *environment, f *goavailFlags) *cobra.Command {
	var from goavailFile
	var here bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would be changed in DNS now, and change nothing",
		Long: `Show the difference between the records as they are and as they should be. The agent is
asked; with --here no agent is needed: the targets are probed from this machine, for as
long as it takes to have an opinion, and the provider is only read.`,
		Example: examples("pancake goavail plan", "pancake goavail plan --here -f goavail.yml", "pancake goavail plan -o json"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if here {
				read, err := from.load(env)
				if err != nil {
					return err
				}
				env.warn(read)
				plan, err := planHere(cmd.Context(), env, read)
				if err != nil {
					return err
				}
				return env.printPlan(plan)
			}
			c, err := f.client(env)
			if err != nil {
				return err
			}
			plan, err := c.Plan(cmd.Context())
			if err != nil {
				return f.advise(err)
			}
			return env.printPlan(plan)
		},
	}
	from.add(cmd)
	cmd.Flags().BoolVar(&here, "here", false, "work it out on this machine, without an agent")
	return cmd
}

func (e *environment) printPlan(plan client.Plan) error {
	if e.json() {
		return e.printJSON(plan)
	}
	p := e.paint()
	for _, line := range plan.Diff {
		colour := yellow
		if strings.HasPrefix(line, "+") {
			colour = green
		} else if strings.HasPrefix(line, "-") {
			colour = red
		}
		e.printf("%s\n", p.paint(colour, clean(line)))
	}
	for _, line := range plan.Foreign {
		e.printf("%s\n", p.paint(yellow, "! "+clean(line)+"  # not ours: left alone; \"pancake goavail adopt\" takes it over if it is listed"))
	}
	switch {
	case len(plan.Diff) == 0:
		e.printf("nothing would be changed\n")
	case plan.DryRun:
		e.printf("this is a dry run: \"pancake goavail apply\" confirms the configuration\n")
	}
	return nil
}

func newGoavailStatusCommand(env *environment, f *goavailFlags) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show who votes what and why, what is in DNS, and who writes",
		Long: `Show what the agent knows: the places, what each says of each target and why, which
values are in service and why, the orders that stand, and what DNS answers now.`,
		Example: examples("pancake goavail status", "pancake goavail status --no-answers", "pancake goavail status -o json"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client(env)
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context(), !quiet)
			if err != nil {
				return f.advise(err)
			}
			if env.json() {
				return env.printJSON(s)
			}
			env.printGoavail(s)
			return nil
		},
	}
	cmd.Flags().BoolVar(&quiet, "no-answers", false, "do not ask DNS what it answers now")
	return cmd
}

// printGoavail prints a status for people.
func (e *environment) printGoavail(s client.Status) {
	p := e.paint()
	writer := "nobody writes: no majority of places agrees on a writer"
	if s.Writer.Place != "" {
		writer = fmt.Sprintf("%s writes, in epoch %d", clean(s.Writer.Place), s.Writer.Epoch)
	}
	e.printf("place %s of cluster %s; %s; %d of %s have to agree\n", clean(s.Place), clean(s.Cluster), writer, s.Quorum, plural(len(s.Places), "place"))
	if s.DryRun {
		e.printf("%s\n", p.paint(yellow, "dry run: nothing is changed until \"pancake goavail apply\" confirms the configuration"))
	}
	if s.Abstains != "" {
		e.printf("%s\n", p.paint(yellow, "this place abstains: "+clean(s.Abstains)))
	}
	provider := "not read yet"
	if !s.Provider.Read.IsZero() {
		provider = "read " + age(s.Now, s.Provider.Read) + " ago"
	}
	e.printf("provider %s: %s\n", clean(s.Provider.Name), provider)
	if s.Provider.Error != "" {
		e.printf("%s\n", p.paint(red, "provider fails: "+clean(s.Provider.Error)))
	}
	for _, place := range s.Places {
		if place.Trouble != "" && place.Name != s.Place {
			e.printf("%s\n", p.paint(yellow, "place "+clean(place.Name)+" cannot use the provider: "+clean(place.Trouble)))
		}
	}
	for _, section := range [][]string{placeTable(p, s), voteTable(p, s), whyTable(s), goavailMemberTable(p, s), orderTable(s)} {
		if len(section) > 0 {
			e.printf("\n%s\n", strings.Join(section, "\n"))
		}
	}
}

func placeTable(p palette, s client.Status) []string {
	var rows [][]string
	for _, place := range s.Places {
		state := p.paint(red, "silent")
		if place.Alive || place.Name == s.Place {
			state = p.paint(green, "alive ")
		}
		config := ""
		if place.Config != "" && place.Config != s.Config {
			config = "differs"
		}
		rows = append(rows, []string{clean(place.Name), state, clean(place.Region), clean(place.Provider), clean(place.Address), age(s.Now, place.Heard), config})
	}
	return table([]string{"PLACE", p.paint(plain, "STATE"), "REGION", "PROVIDER", "ADDRESS", "HEARD", "CONFIG"}, rows)
}

// voteTable is the matrix of targets and places.
func voteTable(p palette, s client.Status) []string {
	if len(s.Targets) == 0 {
		return nil
	}
	header := []string{"TARGET", "ADDRESS", "CHECK", p.paint(plain, "ALL")}
	for _, v := range s.Targets[0].Votes {
		header = append(header, p.paint(plain, clean(v.Place)))
	}
	header = append(header, "NOTE")
	var rows [][]string
	for _, t := range s.Targets {
		row := []string{clean(t.Name), clean(t.Address), clean(t.Check), paintVerdict(p, t.Verdict)}
		for _, v := range t.Votes {
			row = append(row, paintVerdict(p, v.Verdict))
		}
		note := ""
		if t.Order != nil {
			note = orderText(*t.Order)
		} else if t.Damped.After(s.Now) {
			note = "fell too often; held back for " + t.Damped.Sub(s.Now).Round(time.Second).String()
		}
		rows = append(rows, append(row, note))
	}
	return table(header, rows)
}

func paintVerdict(p palette, verdict string) string {
	switch verdict {
	case "up":
		return p.paint(green, "up")
	case "down":
		return p.paint(red, "down")
	}
	return p.paint(yellow, "?")
}

// whyTable says why places do not say "up".
func whyTable(s client.Status) []string {
	var rows [][]string
	for _, t := range s.Targets {
		for _, v := range t.Votes {
			if v.Verdict != "up" && v.Why != "" {
				rows = append(rows, []string{clean(t.Name), clean(v.Place), clean(v.Verdict), clean(v.Why)})
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return table([]string{"TARGET", "PLACE", "SAYS", "BECAUSE"}, rows)
}

func goavailMemberTable(p palette, s client.Status) []string {
	var rows [][]string
	for _, set := range s.Sets {
		name := setName(set)
		if set.Held {
			name += " (held)"
		}
		if set.Panic {
			name += " (panic)"
		}
		for _, m := range set.Members {
			in := p.paint(plain, "no")
			if m.In {
				in = p.paint(green, "yes")
			}
			rows = append(rows, []string{clean(name), clean(m.Value), clean(m.Target), in, answered(set, m.Value), will(m), clean(m.Reason)})
		}
		if set.AnswerError != "" {
			rows = append(rows, []string{clean(name), "", "", p.paint(plain, ""), clean(set.AnswerError), "", ""})
		}
		for _, v := range set.Live {
			if !slices.ContainsFunc(set.Members, func(m client.Member) bool { return m.Value == v }) {
				rows = append(rows, []string{clean(name), clean(v), "", p.paint(green, "yes"), answered(set, v), "", "not listed, and not ours"})
			}
		}
	}
	return table([]string{"RECORD", "VALUE", "TARGET", p.paint(plain, "IN"), "DNS", "NEXT", "BECAUSE"}, rows)
}

// answered says whether DNS answers with a value now.
func answered(s client.Set, value string) string {
	switch {
	case s.AnswerError != "" || s.Answer == nil:
		return ""
	case slices.Contains(s.Answer, value):
		return "yes"
	}
	return "no"
}

// will says what becomes of a member.
func will(m client.Member) string {
	switch {
	case m.Want == m.In:
		return ""
	case m.Want:
		return "in"
	}
	return "out"
}

func orderTable(s client.Status) []string {
	var rows [][]string
	for _, o := range s.Orders {
		if o.Kind == "confirm" {
			continue // of configurations; "dry run" says what it is about
		}
		until := "taken back"
		if !o.Until.IsZero() {
			until = o.Until.Local().Format(time.DateTime)
		}
		rows = append(rows, []string{clean(o.Kind), clean(cmp.Or(o.About, "everything")), until, clean(o.By), clean(o.Why)})
	}
	if len(rows) == 0 {
		return nil
	}
	return table([]string{"ORDER", "ABOUT", "UNTIL", "BY", "WHY"}, rows)
}

func orderText(o client.Order) string {
	text := o.Kind
	if !o.Until.IsZero() {
		text += " until " + o.Until.Local().Format(time.DateTime)
	}
	return joinNotEmpty(": ", text, o.Why)
}

func newGoavailHistoryCommand(env *environment, f *goavailFlags) *cobra.Command {
	var limit int
	var kind string
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "Show what was changed, by whom, and why",
		Long:    "Show what happened, newest last: changes of records, orders, new writers, drifts and alerts, of all places.",
		Example: examples("pancake goavail history", "pancake goavail history --kind change --limit 0", "pancake goavail history -o json"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return pancake.Errorf(pancake.Invalid, "--limit takes no negative value")
			}
			if kind != "" && !slices.Contains(file.Events, kind) {
				return pancake.Errorf(pancake.Invalid, "--kind %q: use %s", kind, strings.Join(file.Events, ", "))
			}
			c, err := f.client(env)
			if err != nil {
				return err
			}
			all, err := c.History(cmd.Context(), 0)
			if err != nil {
				return f.advise(err)
			}
			entries := slices.DeleteFunc(all, func(e client.Entry) bool { return kind != "" && e.Kind != kind })
			if limit > 0 {
				entries = entries[max(0, len(entries)-limit):]
			}
			return env.printHistory(entries)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "`number` of entries; 0 for all")
	cmd.Flags().StringVar(&kind, "kind", "", "only this `kind`: "+strings.Join(file.Events, ", "))
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(file.Events, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (e *environment) printHistory(entries []client.Entry) error {
	if e.json() {
		return e.printJSON(entries)
	}
	if len(entries) == 0 {
		e.printf("nothing has happened yet\n")
		return nil
	}
	p := e.paint()
	var rows [][]string
	for _, x := range entries {
		colour, text := plain, clean(x.Text)
		switch {
		case x.Unsure:
			colour, text = red, text+"; nobody knows whether it was done: "+clean(x.Error)
		case x.Error != "":
			colour, text = red, text+"; failed: "+clean(x.Error)
		case x.Kind == client.KindAlert || x.Kind == client.KindDrift:
			colour = yellow
		}
		epoch := ""
		if x.Epoch > 0 {
			epoch = fmt.Sprint(x.Epoch)
		}
		rows = append(rows, []string{x.At.Local().Format(time.DateTime), clean(x.Place), epoch, p.paint(colour, clean(x.Kind)), text})
	}
	for _, line := range table([]string{"TIME", "PLACE", "EPOCH", p.paint(plain, "KIND"), "WHAT"}, rows) {
		e.printf("%s\n", line)
	}
	return nil
}
