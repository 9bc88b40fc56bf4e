package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/agents"
	"github.com/pancake-stack/pancake/scheduler/api"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// commits is a store of which only the writing matters.
type commits func([]state.Change) error

func (c commits) Commit(_ context.Context, _ state.Term, changes []state.Change) error {
	return c(changes)
}
func (commits) Load(context.Context) (*state.State, error) { return state.New(), nil }
func (commits) Observe(ctx context.Context, _ func(state.Leader)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (commits) Lead(ctx context.Context, _ state.Leader, fn func(context.Context, state.Term) error) error {
	return fn(ctx, state.Term{})
}

func testLead(cfg Config, st *state.State, lost <-chan struct{}) *lead {
	cfg.Log = slog.New(slog.DiscardHandler)
	s := &Scheduler{cfg: cfg, log: cfg.Log, links: agents.New(agents.Config{})}
	s.metrics = newMetrics(s)
	return newLead(s, state.Term{Revision: 7, Lost: lost}, st)
}

// cluster has one agent with n running tasks of one request.
func cluster(n int) *state.State {
	st := state.New()
	st.Apply(state.Change{
		Requests: []*pancake.Request{{ID: "r", State: pancake.RequestActive, Instances: n, ActiveDeploy: "d"}},
		Deploys:  []*pancake.Deploy{{ID: "d", RequestID: "r", State: pancake.DeploySucceeded}},
		Agents:   []*pancake.Agent{{ID: "a", Hostname: "node-a", State: pancake.AgentActive}},
	})
	for i := range n {
		st.Apply(state.Change{Tasks: []*pancake.Task{{
			ID: fmt.Sprint("t", i), RequestID: "r", DeployID: "d", AgentID: "a", Instance: i + 1, Desired: pancake.DesiredRun,
			Status: pancake.TaskStatus{State: pancake.TaskRunning, Health: pancake.Healthy, Sequence: 1},
		}}})
	}
	return st
}

func live(l *lead) (n int) {
	l.Read(func(v api.View) { n = len(v.State.Tasks) })
	return n
}

// Tasks of an agent that is lost go at a bounded rate, and not before a
// restarted scheduler has given it its time.
func TestLostTasksAreReplacedAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLead(Config{
			Store: commits(func([]state.Change) error { return nil }), Silence: 5 * time.Second, HardTimeout: time.Minute,
			Replacements: 2, ReplacementBurst: 3,
		}, cluster(10), nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.run(ctx) }()
		time.Sleep(time.Minute - time.Millisecond)
		synctest.Wait()
		if n := live(l); n != 10 {
			t.Errorf("%d tasks before the hard timeout, want 10", n)
		}
		for _, want := range []int{7, 5, 3, 1, 0} {
			time.Sleep(time.Second)
			synctest.Wait()
			if n := live(l); n != want {
				t.Errorf("%d tasks are left, want %d", n, want)
			}
		}
		l.Read(func(v api.View) {
			if len(v.Unplaced["r"]) != 10 {
				t.Errorf("%d instances wait, want 10", len(v.Unplaced["r"]))
			}
		})
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A clock that is set forward, or a machine that slept, makes no agent silent.
func TestAClockThatIsSetForwardLosesNoAgent(t *testing.T) {
	l := testLead(Config{HardTimeout: time.Minute, Silence: 5 * time.Second, ReplacementBurst: 10}, cluster(3), nil)
	l.now = l.now.Add(2 * time.Hour)
	l.watchAgents(t.Context(), nil)
	if a := l.work.Agents["a"]; a.State != pancake.AgentActive || len(l.work.Tasks) != 3 {
		t.Errorf("agent is %s, and %d of 3 tasks are left", a.State, len(l.work.Tasks))
	}
}

// An agent whose session just ended, or is being replaced by the next one, was
// heard a moment ago, even if nobody has said so yet.
func TestAnAgentBetweenTwoSessionsIsNotLost(t *testing.T) {
	for name, connect := range map[string]func(*lead){
		"after it registered": func(l *lead) {
			l.register(t.Context(), 1, *l.work.Agents["a"], map[string]pancake.TaskStatus{})
		},
		"after it was connected for long": func(l *lead) {
			l.watchAgents(t.Context(), map[string]agents.Link{"a": {Heard: time.Now()}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := testLead(Config{HardTimeout: time.Minute, Silence: 5 * time.Second, ReplacementBurst: 10}, cluster(0), nil)
			l.began = time.Now().Add(-time.Hour)
			connect(l)
			l.watchAgents(t.Context(), nil)
			if a := l.work.Agents["a"]; a.State != pancake.AgentActive {
				t.Errorf("agent is %s", a.State)
			}
		})
	}
}

func TestCommitIsRepeatedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures, calls := 3, 0
		l := testLead(Config{HardTimeout: time.Hour, Store: commits(func([]state.Change) error {
			if calls++; calls <= failures {
				return pancake.Errorf(pancake.Unavailable, "no quorum")
			}
			return nil
		})}, cluster(1), nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.run(ctx) }()
		if err := l.Delete(ctx, "r"); err != nil {
			t.Error(err)
		}
		if calls != failures+1 {
			t.Errorf("%d commits", calls)
		}
		l.Read(func(v api.View) {
			if r := v.State.Requests["r"]; r.State != pancake.RequestDeleting || v.State.Tasks["t0"].Desired != pancake.DesiredKill {
				t.Errorf("stored is %+v, %+v", r, v.State.Tasks["t0"])
			}
		})
		cancel()
		<-done
	})
}

// A reader never sees what is not stored, and a lost lead ends the wait.
func TestNothingIsShownBeforeItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := make(chan struct{})
		l := testLead(Config{HardTimeout: time.Hour, Store: commits(func([]state.Change) error {
			return pancake.Errorf(pancake.Unavailable, "no quorum")
		})}, cluster(2), lost)
		done := make(chan error, 1)
		go func() { done <- l.run(t.Context()) }()
		answer := make(chan error, 1)
		go func() { answer <- l.Scale(t.Context(), "r", 1) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		l.Read(func(v api.View) {
			if n := v.State.Requests["r"].Instances; n != 2 {
				t.Errorf("a reader sees %d instances, which is not stored", n)
			}
		})
		close(lost)
		if err := <-done; !errors.Is(err, state.ErrDeposed) {
			t.Errorf("run ended with %v", err)
		}
		if err := <-answer; pancake.KindOf(err) != pancake.Unavailable {
			t.Errorf("the caller got %v", err)
		}
	})
}

func TestATurnWithoutChangesStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLead(Config{HardTimeout: time.Hour, Store: commits(func(c []state.Change) error {
			t.Errorf("stored %+v", c)
			return nil
		})}, cluster(2), nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.run(ctx) }()
		time.Sleep(time.Minute)
		if err := l.Scale(ctx, "nobody", 1); pancake.KindOf(err) != pancake.NotFound {
			t.Error(err)
		}
		cancel()
		<-done
	})
}

func TestWakes(t *testing.T) {
	w := wakes{earliest: map[string]time.Time{}}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w.add(time.Time{}, "never")
	w.add(at.Add(3*time.Second), "c")
	w.add(at.Add(2*time.Second), "b")
	w.add(at.Add(5*time.Second), "b") // no need: b is looked at before
	w.add(at.Add(time.Second), "a")
	if next, ok := w.next(); !ok || !next.Equal(at.Add(time.Second)) {
		t.Errorf("next is %v", next)
	}
	if got := fmt.Sprint(w.due(at.Add(2 * time.Second))); got != "[a b]" {
		t.Errorf("due are %s", got)
	}
	if got := fmt.Sprint(w.due(at.Add(time.Hour))); got != "[c]" {
		t.Errorf("due are %s", got)
	}
	if _, ok := w.next(); ok {
		t.Error("something is left")
	}
}
