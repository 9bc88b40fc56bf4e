package sidecar

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// Whatever names a peer invents, they do not fill the memory, and a real one is complained about once.
func TestComplaintsAreBounded(t *testing.T) {
	var log strings.Builder
	o := newOwner(catalog.New("self", "c"), slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Now()
	ahead := func(host string) []pancake.Service {
		return []pancake.Service{{Hostname: host, ID: "1", Updated: now.Add(25 * time.Hour), Created: now}}
	}
	take := func(records []pancake.Service) {
		o.Merge(t.Context(), "peer", records)
		(<-o.events)(o.catalog, now)
	}
	take(ahead("fast"))
	take(ahead("fast"))
	if n := strings.Count(log.String(), "host=fast"); n != 1 {
		t.Errorf("%d complaints", n)
	}
	for i := range 3 * maxWarned {
		take(ahead(fmt.Sprintf("h%d", i)))
		if len(o.warned) > maxWarned {
			t.Fatalf("%d hosts are remembered", len(o.warned))
		}
	}
}
