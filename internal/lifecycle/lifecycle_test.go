package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake/internal/lifecycle"
)

// journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) part(name string) lifecycle.Part {
	return lifecycle.Part{
		Name: name,
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			j.add("stop " + name)
			return ctx.Err()
		},
		Ready: func(context.Context) error { time.Sleep(time.Second); return nil },
	}
}

func (j *journal) started(p lifecycle.Part, _ time.Duration) { j.add("ready " + p.Name) }

func TestStartsInOrderAndStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var j journal
		err := lifecycle.Run(ctx, []lifecycle.Part{j.part("a"), j.part("b")}, j.started, func() { j.add("running"); cancel() })
		if err != nil {
			t.Errorf("got %v", err)
		}
		if want := []string{"ready a", "ready b", "running", "stop b", "stop a"}; !slices.Equal(j.lines, want) {
			t.Errorf("got %q", j.lines)
		}
	})
}

func TestOnePartsFailureStopsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		boom := lifecycle.Part{Name: "b", Run: func(context.Context) error {
			time.Sleep(time.Minute)
			return errors.New("boom")
		}}
		err := lifecycle.Run(t.Context(), []lifecycle.Part{j.part("a"), boom}, j.started, func() {})
		if err == nil || err.Error() != "b: boom" {
			t.Errorf("got %v", err)
		}
		if !slices.Contains(j.lines, "stop a") {
			t.Errorf("a was not stopped: %q", j.lines)
		}
	})
}

func TestEveryWaitHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := lifecycle.Part{
			Name:  "c",
			Run:   func(context.Context) error { <-release; return nil },
			Ready: func(ctx context.Context) error { <-ctx.Done(); return errors.New("the engine does not answer") },
		}
		err := lifecycle.Run(t.Context(), []lifecycle.Part{stuck}, nil, nil)
		for _, want := range []string{"c: not ready within 30s: the engine does not answer", "c: did not stop within 15s"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		close(release)
	})
}

func TestAPartMayWaitForOtherMachinesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		answer := make(chan struct{})
		patient := j.part("b")
		patient.ReadyWithin = lifecycle.AsLongAsItTakes
		patient.Ready = func(ctx context.Context) error {
			select {
			case <-answer:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- lifecycle.Run(ctx, []lifecycle.Part{j.part("a"), patient}, j.started, func() { j.add("running"); cancel() })
		}()
		time.Sleep(24 * time.Hour)
		close(answer)
		if err := <-done; err != nil {
			t.Errorf("got %v", err)
		}
		if want := []string{"ready a", "ready b", "running", "stop b", "stop a"}; !slices.Equal(j.lines, want) {
			t.Errorf("got %q", j.lines)
		}
	})
}

func TestNothingIsStartedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var j journal
		parts := []lifecycle.Part{j.part("a"), j.part("b")}
		parts[0].Ready = func(context.Context) error { cancel(); return nil }
		if err := lifecycle.Run(ctx, parts, j.started, func() { j.add("running") }); err != nil {
			t.Errorf("got %v", err)
		}
		cancel()
		if err := lifecycle.Run(ctx, []lifecycle.Part{j.part("c")}, j.started, nil); err != nil {
			t.Errorf("got %v", err)
		}
		if want := []string{"stop a"}; !slices.Equal(j.lines, want) {
			t.Errorf("got %q", j.lines)
		}
	})
}
