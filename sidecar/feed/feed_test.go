package feed_test

import (
	"testing"
	"testing/synctest"

	"github.com/pancake-stack/pancake/sidecar/feed"
)

func TestWatchersSeeTheLatestValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := feed.New(0)
		var seen []int
		go func() {
			for {
				v, changed := f.Get()
				seen = append(seen, v)
				if v == 9 {
					return
				}
				<-changed
			}
		}()
		synctest.Wait()
		f.Replace(1)
		synctest.Wait()
		if len(seen) != 1 {
			t.Fatalf("Replace woke the watcher: %v", seen)
		}
		for v := 2; v <= 9; v++ {
			f.Set(v)
		}
		synctest.Wait()
		if seen[0] != 0 || seen[len(seen)-1] != 9 {
			t.Errorf("saw %v", seen)
		}
	})
}
