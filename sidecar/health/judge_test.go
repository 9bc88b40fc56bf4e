package health

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

// TestJudge compares with what rise and fall mean, worked out from the whole past.
func TestJudge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := judge{rise: rapid.IntRange(1, 4).Draw(t, "rise"), fall: rapid.IntRange(1, 4).Draw(t, "fall")}
		var past []bool
		last := func(n int, what bool) bool { // the last n results were all so
			for i := range n {
				if k := len(past) - 1 - i; k < 0 || past[k] != what {
					return false
				}
			}
			return true
		}
		want, decided := pancake.Alive, false
		for range rapid.IntRange(1, 40).Draw(t, "checks") {
			passed := rapid.Bool().Draw(t, "passed")
			past = append(past, passed)
			var err error
			if !passed {
				err = errors.New("no")
			}
			status, note, ok := j.take(err)
			switch {
			case last(j.rise, true):
				want, decided = pancake.Alive, true
			case last(j.fall, false):
				want, decided = pancake.Sick, true
			}
			if ok != decided || ok && status != want || (note == "") != (passed && (!decided || status == pancake.Alive)) {
				t.Fatalf("%v: %s %q %t, want %s %t", past, status, note, ok, want, decided)
			}
			if j.well() != (decided && want == pancake.Alive) {
				t.Fatalf("%v: well %t", past, j.well())
			}
		}
	})
}

// TestLanes has more checks hang than there are places, in simulated time.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fast, slow, hanging = 4, 8, 500
		l := newLanes(time.Second, fast, slow)
		ctx, cancel := context.WithCancel(t.Context())
		var runs, most atomic.Int64
		for range hanging {
			go l.run(ctx, false, time.Hour, func(ctx context.Context) error {
				n := runs.Add(1)
				defer runs.Add(-1)
				if n > most.Load() {
					most.Store(n)
				}
				<-ctx.Done()
				return ctx.Err()
			})
		}
		synctest.Wait()
		start := time.Now()
		if err := l.run(ctx, false, time.Hour, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		// Each round of those before it takes a second.
		if bound := time.Second * (hanging/fast + 1); time.Since(start) > bound {
			t.Errorf("it waited for %s; the bound is %s", time.Since(start), bound)
		}
		start = time.Now()
		if err := l.run(ctx, false, time.Hour, func(context.Context) error { return nil }); err != nil || time.Since(start) > time.Second {
			t.Errorf("with all others in the slow lane it waited for %s, %v", time.Since(start), err)
		}
		if most.Load() > fast+slow {
			t.Errorf("%d ran at once", most.Load())
		}
		cancel()
		synctest.Wait()
		if len(l.fast)+len(l.slow) != 0 {
			t.Errorf("%d places are still taken", len(l.fast)+len(l.slow))
		}
	})
}
