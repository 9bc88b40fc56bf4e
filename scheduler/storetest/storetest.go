// Package storetest is the contract of scheduler.Store, to be run against
// every implementation.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler"
	"github.com/pancake-stack/pancake/scheduler/state"
)

const limit = 20 * time.Second // for anything that is waited for

// Run checks a store. open returns another handle on the same, initially empty, store.
func Run(t *testing.T, open func(t *testing.T) scheduler.Store) {
	t.Run("changes come back", func(t *testing.T) { changesComeBack(t, open(t)) })
	t.Run("large commits are stored whole and can be repeated", func(t *testing.T) { largeCommits(t, open(t)) })
	t.Run("a request is forgotten with its own", func(t *testing.T) { forgets(t, open(t)) })
	t.Run("a deposed leader cannot write", func(t *testing.T) { deposed(t, open(t), open(t)) })
	t.Run("the leader is observed", func(t *testing.T) { observed(t, open(t), open(t)) })
}

// lead runs fn as the leader and steps down.
func lead(t *testing.T, s scheduler.Store, id string, fn func(ctx context.Context, term state.Term)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := s.Lead(ctx, state.Leader{ID: id}, func(ctx context.Context, term state.Term) error {
		fn(ctx, term)
		return nil
	})
	if err != nil {
		t.Fatalf("lead as %s: %v", id, err)
	}
}

func task(i int) *pancake.Task {
	return &pancake.Task{
		ID: fmt.Sprintf("r-d-%d", i), RequestID: "r", DeployID: "d", AgentID: "a", Instance: i, Desired: pancake.DesiredRun,
		Created: at(i), Status: pancake.TaskStatus{State: pancake.TaskRunning, Updated: at(i)},
	}
}

func at(second int) time.Time {
	return time.Date(2026, 1, 1, 0, 0, second, 123_000_000, time.UTC)
}

func commit(ctx context.Context, t *testing.T, s scheduler.Store, term state.Term, changes ...state.Change) {
	t.Helper()
	if err := s.Commit(ctx, term, changes); err != nil {
		t.Fatal(err)
	}
}

// same compares two states by what they hold, as JSON.
func same(t *testing.T, got, want *state.State) {
	t.Helper()
	text := func(s *state.State) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if g, w := text(got), text(want); g != w {
		t.Errorf("loaded %s\nwant   %s", g, w)
	}
}

func changesComeBack(t *testing.T, s scheduler.Store) {
	want := state.New()
	changes := []state.Change{
		{Requests: []*pancake.Request{{ID: "r", Instances: 2}}, Deploys: []*pancake.Deploy{{ID: "d", RequestID: "r"}, {ID: "old", RequestID: "r"}}},
		{Agents: []*pancake.Agent{{ID: "a", Hostname: "node-a", Resources: pancake.Resources{Ports: pancake.PortSet{{First: 1, Last: 9}}}}}},
		{Tasks: []*pancake.Task{task(1)}},
		{Tasks: []*pancake.Task{task(2)}},
		{Tasks: []*pancake.Task{task(3)}},
		{Ended: []*pancake.Task{task(1)}},
		{Ended: []*pancake.Task{task(2)}},
		{ForgetEnded: []*pancake.Task{task(1)}, ForgetDeploys: []*pancake.Deploy{{ID: "old", RequestID: "r"}}},
		{Requests: []*pancake.Request{{ID: "r", Instances: 3}}},
		{Requests: []*pancake.Request{{ID: "bystander"}}},
		{Agents: []*pancake.Agent{{ID: "old", State: pancake.AgentActive}}},
		{Agents: []*pancake.Agent{{ID: "old", State: pancake.AgentDecommissioned, Wanted: pancake.AgentDecommissioning}}},
		{ForgetAgent: "old"},
		{Agents: []*pancake.Agent{{ID: "gone-before", State: pancake.AgentDead}}},
	}
	for _, c := range changes {
		want.Apply(c)
	}
	lead(t, s, "one", func(ctx context.Context, term state.Term) {
		commit(ctx, t, s, term, changes...)
		got, err := s.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
		if n := len(got.TasksOn("a")); n != 1 {
			t.Errorf("%d tasks on the agent, want 1", n)
		}
		commit(ctx, t, s, term, state.Change{ForgetRequest: "r"}, state.Change{ForgetRequest: "bystander"}, state.Change{Ended: []*pancake.Task{task(3)}}, state.Change{ForgetRequest: "r"})
	})
}

func largeCommits(t *testing.T, s scheduler.Store) {
	var changes []state.Change
	for i := range 1000 {
		changes = append(changes, state.Change{Tasks: []*pancake.Task{task(i)}})
	}
	lead(t, s, "one", func(ctx context.Context, term state.Term) {
		commit(ctx, t, s, term, changes...)
		commit(ctx, t, s, term, changes...)
		got, err := s.Load(ctx)
		if err != nil || len(got.Tasks) != 1000 {
			t.Fatalf("%d tasks, %v", len(got.Tasks), err)
		}
		if !reflect.DeepEqual(got.Tasks["r-d-7"], task(7)) {
			t.Errorf("got %+v", got.Tasks["r-d-7"])
		}
		var ended []state.Change
		for _, c := range changes {
			ended = append(ended, state.Change{Ended: c.Tasks})
		}
		commit(ctx, t, s, term, append(ended, state.Change{ForgetRequest: "r"})...)
		if got, err = s.Load(ctx); err != nil || len(got.Tasks) != 0 || len(got.Ended) != 0 {
			t.Fatalf("%d tasks and %d histories left, %v", len(got.Tasks), len(got.Ended), err)
		}
	})
}

func forgets(t *testing.T, s scheduler.Store) {
	lead(t, s, "one", func(ctx context.Context, term state.Term) {
		commit(ctx, t, s, term,
			state.Change{Requests: []*pancake.Request{{ID: "r"}, {ID: "r2"}}, Deploys: []*pancake.Deploy{{ID: "d", RequestID: "r"}, {ID: "d", RequestID: "r2"}}},
			state.Change{Tasks: []*pancake.Task{task(1)}})
		// The last task ends and the request goes in one turn.
		commit(ctx, t, s, term, state.Change{Ended: []*pancake.Task{task(1)}}, state.Change{ForgetRequest: "r"})
		got, err := s.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if ids := slices.Collect(maps.Keys(got.Requests)); len(ids) != 1 || ids[0] != "r2" || len(got.Deploys) != 1 || len(got.Ended) != 0 {
			t.Errorf("left are %v, %v, %v", got.Requests, got.Deploys, got.Ended)
		}
		commit(ctx, t, s, term, state.Change{ForgetRequest: "r2"})
	})
}

func deposed(t *testing.T, first, second scheduler.Store) {
	var old state.Term
	lead(t, first, "one", func(_ context.Context, term state.Term) { old = term })
	lead(t, second, "two", func(ctx context.Context, term state.Term) {
		if term.Revision <= old.Revision {
			t.Errorf("revision went from %d to %d", old.Revision, term.Revision)
		}
		err := first.Commit(ctx, old, []state.Change{{Requests: []*pancake.Request{{ID: "late"}}}})
		if !errors.Is(err, state.ErrDeposed) {
			t.Errorf("late write: %v, want ErrDeposed", err)
		}
		got, err := second.Load(ctx)
		if err != nil || len(got.Requests) != 0 {
			t.Errorf("the late write was stored: %v, %v", got.Requests, err)
		}
	})
	select {
	case <-old.Lost:
	case <-time.After(limit):
		t.Error("Lost is not closed though the term is over")
	}
}

func observed(t *testing.T, s, other scheduler.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	seen := make(chan state.Leader, 16)
	done := make(chan error, 1)
	go func() { done <- s.Observe(ctx, func(l state.Leader) { seen <- l }) }()
	expect := func(want string) {
		t.Helper()
		for {
			select {
			case l := <-seen:
				if l.ID == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("never saw leader %q", want)
			}
		}
	}
	expect("")
	lead(t, other, "one", func(ctx context.Context, _ state.Term) {
		expect("one")
		// One that waits is not yet the leader, and one that went is no more.
		waiting, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- other.Lead(waiting, state.Leader{ID: "two"}, func(context.Context, state.Term) error { return nil })
		}()
		stop()
		if err := <-ended; err == nil {
			t.Error("two led while one did")
		}
		// Another process of the same id takes over at once.
		lead(t, s, "one", func(context.Context, state.Term) {})
	})
	expect("")
	cancel()
	if err := <-done; err == nil {
		t.Error("Observe ended without an error")
	}
}
