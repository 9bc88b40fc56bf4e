//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// gaWatch asks DNS again and again, and keeps the least that was ever answered.
type gaWatch struct {
	addr    string
	mu      sync.Mutex
	last    []string
	least   int
	armed   bool
	queries atomic.Int64
}

func watchDNS(t *testing.T, addr string) *gaWatch {
	w := &gaWatch{addr: addr, least: gaTargets}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			w.ask(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return w
}

func (w *gaWatch) ask(ctx context.Context) {
	c := mdns.Client{Timeout: time.Second}
	answer, _, err := c.ExchangeContext(ctx, new(mdns.Msg).SetQuestion(gaName+".", mdns.TypeA), w.addr)
	if err != nil || answer.Rcode != mdns.RcodeSuccess && answer.Rcode != mdns.RcodeNameError {
		return // the server is down: nobody gets an answer, which is no answer of ours
	}
	w.queries.Add(1)
	var got []string
	for _, rr := range answer.Answer {
		if a, ok := rr.(*mdns.A); ok {
			got = append(got, a.A.String())
		}
	}
	slices.Sort(got)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = got
	if w.armed {
		w.least = min(w.least, len(got))
	}
}

func (w *gaWatch) now() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.last)
}

// arm begins to keep the least.
func (w *gaWatch) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = true
}

func (w *gaWatch) fewest() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.least
}

// gaTable prints rows in columns.
func gaTable(title string, rows [][]string) string {
	width := make([]int, 3)
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], len(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", title)
	for _, r := range rows {
		fmt.Fprintf(&b, "  %-*s  %*s  %s\n", width[0], r[0], width[2], r[2], r[1])
	}
	return b.String()
}
