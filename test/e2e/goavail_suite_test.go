//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/goavail/client"
)

// gaStep is one thing that goes wrong.
type gaStep struct {
	name string
	run  func(*gaCluster)
}

// goavailSuite lets everything go wrong that can, with agents, targets, name server and
// network all real, and asks DNS all the time what it answers.
func goavailSuite(t *testing.T, p *gaProvider, n *gaNet, more ...gaStep) {
	c := startGoavail(t, n, p)
	t.Cleanup(func() {
		t.Log("\n" + gaTable("What happened, "+p.name, c.rows))
	})
	steps := []gaStep{
		{"dry run, then apply", (*gaCluster).stepDryRun},
		{"a target dies", (*gaCluster).stepDies},
		{"it comes back", (*gaCluster).stepReturns},
		{"a target flaps", (*gaCluster).stepFlaps},
		{"all targets die", (*gaCluster).stepAllDie},
		{"one agent is isolated", (*gaCluster).stepIsolated},
		{"agents are split 2|3", (*gaCluster).stepSplit},
		{"all agents restart while a record is out", (*gaCluster).stepRestart},
		{"the provider fails", (*gaCluster).stepProvider},
		{"drained by hand, and held", (*gaCluster).stepOrders},
	}
	for _, s := range append(steps, more...) {
		begin := time.Now()
		s.run(c)
		t.Logf("%s: %s", s.name, time.Since(begin).Round(time.Millisecond))
	}
	if least := c.watch.fewest(); least < 1 {
		t.Errorf("at some time DNS answered with %d records", least)
	}
	c.row("in all", fmt.Sprintf("%d answers of DNS, none with fewer than %d records", c.watch.queries.Load(), c.watch.fewest()), 0)
	c.oneWriterAtATime()
	for _, line := range p.evidence(c) {
		c.row("evidence", line, 0)
	}
}

// oneWriterAtATime checks that each epoch had one writer only, and that epochs grow.
func (c *gaCluster) oneWriterAtATime() {
	c.t.Helper()
	writers := map[uint64]string{}
	changes := 0
	for _, e := range c.changes(0, time.Time{}) {
		changes++
		if w := writers[e.Epoch]; w != "" && w != e.Place {
			c.t.Errorf("%s and %s both wrote in epoch %d", w, e.Place, e.Epoch)
		}
		writers[e.Epoch] = e.Place
	}
	if changes == 0 {
		c.t.Error("the history holds no change at all")
	}
	c.row("writers", fmt.Sprintf("%d changes in %d epochs, one writer in each", changes, len(writers)), 0)
}

func (c *gaCluster) stepDryRun() {
	w := c.writer(0, 1, 2, 3, 4)
	var plan client.Plan
	eventually(c.t, gaLimit, "a plan to put all targets in", func() (err error) {
		if plan, err = c.client(w).Plan(c.t.Context()); err == nil && len(plan.Diff) != gaTargets {
			err = fmt.Errorf("%q", plan.Diff)
		}
		return err
	})
	if got := c.watch.now(); len(got) > 0 || !plan.DryRun {
		c.t.Fatalf("before it was confirmed DNS answered %v, dry run %v", got, plan.DryRun)
	}
	// On some other agent than the writer.
	if _, err := c.client((w+1)%gaPlaces).Apply(c.t.Context(), client.Request{By: "suite"}); err != nil {
		c.t.Fatal(err)
	}
	took := c.answers(0, 1, 2, 3)
	c.watch.arm()
	c.row("dry run", fmt.Sprintf("%d additions shown, nothing written; after apply all in", len(plan.Diff)), took)
}

func (c *gaCluster) stepDies() {
	c.targets[0].down()
	c.row("target dies", "taken out by "+c.lastWriter(c.answers(1, 2, 3)), c.took)
}

func (c *gaCluster) stepReturns() {
	c.targets[0].up(c.t)
	c.row("comes back", "put in by "+c.lastWriter(c.answers(0, 1, 2, 3)), c.took)
	c.pardon(0)
}

// lastWriter waits until some place knows of the last change, and says who made it.
func (c *gaCluster) lastWriter(took time.Duration) string {
	c.t.Helper()
	c.took = took
	text := ""
	eventually(c.t, gaLimit, "the change in the history", func() error {
		all := c.changes(0, time.Now().Add(-took-10*time.Second))
		if len(all) == 0 {
			return errors.New("not yet")
		}
		last := all[len(all)-1]
		text = fmt.Sprintf("%s in epoch %d", last.Place, last.Epoch)
		return nil
	})
	return text
}

func (c *gaCluster) stepFlaps() {
	since := time.Now()
	suppressed := false
	falls := 0
	for falls < 6 && !suppressed {
		c.targets[1].down()
		falls++
		c.verdict(1, "down")
		c.targets[1].up(c.t)
		c.verdict(1, "up")
		s, err := c.status(0)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, t := range s.Targets {
			suppressed = suppressed || t.Name == "t2" && t.Damped.After(s.Now)
		}
	}
	if !suppressed {
		c.t.Fatalf("after %d falls the target is not held back", falls)
	}
	c.answers(0, 2, 3)
	c.stays(3*time.Second, 0, 2, 3) // though it is up
	moves := 0
	for _, e := range c.changes(0, since) {
		moves += len(e.Moves)
	}
	c.pardon(1)
	took := c.answers(0, 1, 2, 3)
	c.row("target flaps", fmt.Sprintf("%d falls made %d changes, then it was held back; restore put it in", falls, moves), took)
	if moves > 2*falls+1 {
		c.t.Errorf("%d falls made %d changes", falls, moves)
	}
}

// verdict waits until a majority says so of a target.
func (c *gaCluster) verdict(target int, want string) {
	c.t.Helper()
	eventually(c.t, gaLimit, fmt.Sprintf("t%d to be %s", target+1, want), func() error {
		s, err := c.status(0)
		if err != nil {
			return err
		}
		if got := s.Targets[target]; got.Verdict != want {
			return fmt.Errorf("it is %s: %d up, %d down", got.Verdict, got.Up, got.Down)
		}
		return nil
	})
}

func (c *gaCluster) stepAllDie() {
	begin := time.Now()
	for _, t := range c.targets {
		t.down()
	}
	for i := range c.targets {
		c.verdict(i, "down")
	}
	c.answers(0, 1, 2, 3) // those that went out first are back
	took := time.Since(begin)
	c.stays(3*time.Second, 0, 1, 2, 3)
	for i, t := range c.targets {
		t.up(c.t)
		defer c.verdict(i, "up")
	}
	c.row("all die", "all are down, and all stay in: too many at once to be believed", took)
	c.pardon(0, 1, 2, 3)
}

func (c *gaCluster) stepIsolated() {
	w := c.writer(0, 1, 2, 3, 4)
	since := time.Now()
	// The writer loses its peers, the targets and the canaries, but not the provider.
	var peers []int
	for i := range gaPlaces {
		if i != w {
			peers = append(peers, i+1)
		}
	}
	c.net.cut(c.t, w, append(peers, 101, 102, 103, 104, 201, 202)...)
	defer c.net.mend(c.t)
	eventually(c.t, gaLimit, "the isolated agent to step down", func() error {
		s, err := c.status(w)
		if err == nil && s.Writer.Me {
			err = errors.New("it still believes that it writes")
		}
		return err
	})
	others := slices.DeleteFunc([]int{0, 1, 2, 3, 4}, func(i int) bool { return i == w })
	next := c.writer(others...)
	handed := time.Since(since)
	c.stays(3*time.Second, 0, 1, 2, 3) // though one place says that everything is down
	c.targets[2].down()
	took := c.answers(0, 1, 3)
	c.targets[2].up(c.t)
	c.answers(0, 1, 2, 3)
	c.nothingBy(next, since.Add(4*time.Second), w)
	c.net.mend(c.t)
	c.row("one isolated", fmt.Sprintf("the writer %s was cut off; %s wrote %s later; the next dead target was taken out", gaPlace(w), gaPlace(next), handed.Round(100*time.Millisecond)), took)
	c.pardon(2)
}

// nothingBy fails if one of these places changed something since; it looks at what asked
// knows and at what the place itself knows.
func (c *gaCluster) nothingBy(asked int, since time.Time, places ...int) {
	c.t.Helper()
	for _, place := range places {
		c.banned = append(c.banned, gaBan{place, since, time.Now()})
		for _, e := range slices.Concat(c.changes(asked, since), c.changes(place, since)) {
			if e.Place == gaPlace(place) {
				c.t.Errorf("%s, which has no majority, wrote: %s", e.Place, e.Text)
			}
		}
	}
}

func (c *gaCluster) stepSplit() {
	w := c.writer(0, 1, 2, 3, 4)
	small := []int{w, (w + 1) % gaPlaces}
	large := slices.DeleteFunc([]int{0, 1, 2, 3, 4}, func(i int) bool { return slices.Contains(small, i) })
	since := time.Now()
	for _, a := range small {
		for _, b := range large {
			c.net.cut(c.t, a, b+1)
			c.net.cut(c.t, b, a+1)
		}
	}
	defer c.net.mend(c.t)
	eventually(c.t, gaLimit, "the smaller side to have no writer", func() error {
		for _, i := range small {
			if s, err := c.status(i); err != nil || s.Writer.Me {
				return errors.Join(err, errors.New("one of them still writes"))
			}
		}
		return nil
	})
	next := c.writer(large...)
	begin := time.Now()
	c.targets[3].down()
	took := c.answers(0, 1, 2)
	c.nothingBy(next, begin, small...)
	// What only the smaller side sees changes nothing.
	for _, i := range small {
		c.net.cut(c.t, i, 101)
	}
	c.stays(4*time.Second, 0, 1, 2)
	c.nothingBy(next, begin, small...)
	c.net.mend(c.t)
	c.targets[3].up(c.t)
	back := c.answers(0, 1, 2, 3)
	c.row("split 2|3", fmt.Sprintf("writer %s was among the 2; %s wrote for the 3, %s after the cut at the most; the 2 wrote nothing; healed, back in after %s",
		gaPlace(w), gaPlace(next), begin.Sub(since).Round(100*time.Millisecond), back.Round(100*time.Millisecond)), took)
	c.pardon(0, 3)
}

func (c *gaCluster) stepRestart() {
	c.targets[0].down()
	c.answers(1, 2, 3)
	for i := range gaPlaces {
		c.stop(i)
	}
	c.targets[0].up(c.t)
	begin := time.Now()
	for i := range gaPlaces {
		c.start(i)
	}
	c.answers(0, 1, 2, 3)
	c.row("all restarted", "the record that was out came back; nothing else was touched", time.Since(begin))
	c.pardon(0)
}

func (c *gaCluster) stepProvider() {
	outage := gaOutage(c.t)
	c.writer(0, 1, 2, 3, 4)
	mend := c.provider.fail(c.t, outage)
	began := time.Now()
	c.targets[1].down()
	for time.Since(began) < outage {
		time.Sleep(100 * time.Millisecond)
	}
	mend()
	took := c.answers(0, 2, 3)
	c.targets[1].up(c.t)
	c.answers(0, 1, 2, 3)
	c.row("provider fails", fmt.Sprintf("for %s, while a target died: out at the latest so long after it was mended", outage), took)
	c.pardon(1)
}

func (c *gaCluster) stepOrders() {
	c.writer(0, 1, 2, 3, 4)
	env := append([]string{"GOAVAIL_TOKEN=" + gaToken}, c.provider.env...)
	cli := func(args ...string) (string, string, int) {
		return runCommand(c.t, c.dir, append([]string{binary(c.t, "pancake"), "goavail", "--agent", "http://" + c.net.hosts[2].ip + ":7950"}, args...), env...)
	}
	begin := time.Now()
	out, errs, code := cli("drain", "t2", "--reason", "suite", "--for", "10m")
	if code != 0 || !strings.Contains(out, "t2 is out") {
		c.t.Fatalf("drain: %d\n%s%s", code, out, errs)
	}
	c.answers(0, 2, 3)
	took := time.Since(begin)
	if out, errs, code = cli("restore", "t2"); code != 0 {
		c.t.Fatalf("restore: %d\n%s%s", code, out, errs)
	}
	c.answers(0, 1, 2, 3)
	if out, errs, code = cli("hold", "--for", "10m"); code != 0 {
		c.t.Fatalf("hold: %d\n%s%s", code, out, errs)
	}
	eventually(c.t, gaLimit, "all places to hold", func() error {
		for i := range gaPlaces {
			if s, err := c.status(i); err != nil || !s.Sets[0].Held {
				return errors.Join(err, errors.New("not held"))
			}
		}
		return nil
	})
	c.targets[0].down()
	c.verdict(0, "down")
	c.stays(2*time.Second, 0, 1, 2, 3)
	if out, errs, code = cli("status"); code != 0 || !strings.Contains(out, "(held)") {
		c.t.Fatalf("status: %d\n%s%s", code, out, errs)
	}
	c.t.Logf("status while held:\n%s", out)
	if out, errs, code = cli("release"); code != 0 {
		c.t.Fatalf("release: %d\n%s%s", code, out, errs)
	}
	c.answers(1, 2, 3)
	c.targets[0].up(c.t)
	c.answers(0, 1, 2, 3)
	c.row("orders", "drain and restore; while held a dead target stayed in, and left at release", took)
}
