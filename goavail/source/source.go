// Package source follows which nodes the platform has, so that they need not be listed
// by hand: the instances of a service in a sidecar's catalogue, or the keys below a prefix
// in etcd.
//
// The platform is believed as far as it makes sense. A source that does not answer
// changes nothing, and neither does one that has suddenly lost most of what it had: a
// sidecar that has just started knows nobody. A node that is gone is drained for a while
// before it is forgotten, so that it leaves DNS for a reason that people can read.
package source

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/state"
)

// Node is one machine that takes traffic.
type Node struct {
	Name    string `json:"name"`    // of its host
	Address string `json:"address"` // IP address
	Port    int    `json:"port,omitempty"`
	// Drain says that it is about to go: it leaves DNS first.
	Drain bool `json:"drain,omitempty"`
	// Gone is when it was missed first.
	Gone time.Time `json:"gone,omitzero"`
}

// Source tells which nodes there are. Watch calls fn with all of them at once and after
// every change, until ctx ends or the source goes away. It never returns nil.
type Source interface {
	Watch(ctx context.Context, fn func([]Node)) error
}

const (
	// linger is how long a node that is gone is drained before it is forgotten.
	linger = 2 * time.Minute
	// doubt is how long it takes until it is believed that most nodes are gone.
	doubt = 10 * time.Minute
)

// View is what is believed of one source.
type View struct {
	Nodes []Node    `json:"nodes"`
	Doubt time.Time `json:"doubt,omitzero"` // since when most of them are missed
}

// See takes what a source says now. It returns the new view, and why what the source says
// is not believed, "" if it is.
func (v View) See(nodes []Node, now time.Time) (next View, why string) {
	alive := 0
	for _, n := range v.Nodes {
		if n.Gone.IsZero() {
			alive++
		}
	}
	left := 0
	for _, n := range v.Nodes {
		if n.Gone.IsZero() && slices.ContainsFunc(nodes, func(o Node) bool { return o.Name == n.Name }) {
			left++
		}
	}
	if alive > 1 && left*2 < alive || alive > 0 && len(nodes) == 0 {
		next = v
		if next.Doubt.IsZero() {
			next.Doubt = now
		}
		if len(nodes) == 0 || now.Sub(next.Doubt) < doubt {
			return next, fmt.Sprintf("%d of %d nodes are missing at once; it is not believed yet", alive-left, alive)
		}
	}
	next = View{}
	for _, n := range nodes {
		n.Gone = time.Time{}
		next.Nodes = append(next.Nodes, n)
	}
	for _, n := range v.Nodes {
		// Who has the address of one that is gone has taken its place.
		if slices.ContainsFunc(nodes, func(o Node) bool { return o.Name == n.Name || o.Address == n.Address }) {
			continue
		}
		if n.Gone.IsZero() {
			n.Gone = now
		}
		n.Drain = true
		if now.Sub(n.Gone) < linger {
			next.Nodes = append(next.Nodes, n)
		}
	}
	slices.SortFunc(next.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return next, ""
}

// Config says how a Follower works. Sources, DataDir and Changed are required.
type Config struct {
	Sources map[string]Source // by the name of the target they are for
	DataDir string            // where what was seen last is kept
	// Changed is told all nodes whenever there is something new. It must not wait.
	Changed func(map[string][]Node)
	Log     *slog.Logger // default: none
}

// Follower keeps views of all sources.
type Follower struct {
	cfg   Config
	views map[string]View
}

// New reads what was seen before. A file that cannot be read is moved aside: the platform
// is asked anew then, rather than that a broken disk stops failover.
func New(cfg Config) (*Follower, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	f := &Follower{cfg: cfg, views: map[string]View{}}
	text, err := state.ReadFile(f.file())
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	views := map[string]View{}
	if err == nil {
		err = json.Unmarshal(text, &views)
	}
	if err == nil && views == nil {
		err = errors.New("it holds nothing")
	}
	if err == nil {
		f.views = views
		return f, nil
	}
	moved, renameErr := state.MoveAside(f.file(), time.Now())
	if renameErr != nil {
		return nil, pancake.Errorf(pancake.Invalid, "what was seen of the platform before: %w", errors.Join(err, renameErr))
	}
	cfg.Log.Error("what was seen of the platform before could not be read and was moved aside; it is asked anew", "file", moved, "err", err)
	return f, nil
}

func (f *Follower) file() string { return filepath.Join(f.cfg.DataDir, state.PlatformName) }

// Nodes are those of all sources as they are believed.
func (f *Follower) Nodes() map[string][]Node {
	out := map[string][]Node{}
	for name := range f.cfg.Sources {
		out[name] = slices.Clone(f.views[name].Nodes)
	}
	return out
}

// Known says whether each source has been seen at some time, and which was not.
func (f *Follower) Known() (missing string, ok bool) {
	for name := range f.cfg.Sources {
		if len(f.views[name].Nodes) == 0 {
			return name, false
		}
	}
	return "", true
}

// event is what a source said last.
type event struct {
	name  string
	nodes []Node
}

// tickEvery is how often it is looked whether nodes that are gone can be forgotten.
const tickEvery = 5 * time.Second

// Run follows the sources until ctx ends, or, with once, until each was seen.
func (f *Follower) Run(ctx context.Context, once bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan event)
	for name, source := range f.cfg.Sources {
		go f.watch(ctx, name, source, events) // ends with ctx
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	last := map[string][]Node{} // what each source said last
	for {
		if _, ok := f.Known(); once && ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			last[e.name] = e.nodes
			f.see(e.name, e.nodes)
		case <-tick.C:
			for name, nodes := range last {
				f.see(name, nodes)
			}
		}
	}
}

// see takes what a source says, and tells of it if that is news.
func (f *Follower) see(name string, nodes []Node) {
	before := f.views[name]
	after, why := before.See(nodes, time.Now())
	if why != "" && before.Doubt.IsZero() {
		f.cfg.Log.Warn("the platform's nodes are kept as they were", "target", name, "why", why)
	}
	f.views[name] = after
	if slices.Equal(before.Nodes, after.Nodes) {
		return
	}
	if err := f.save(); err != nil {
		f.cfg.Log.Error("what the platform has is not saved", "err", err)
	}
	f.cfg.Log.Info("the platform's nodes changed", "target", name, "nodes", len(after.Nodes))
	f.cfg.Changed(f.Nodes())
}

func (f *Follower) save() error {
	text, err := json.Marshal(f.views)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := os.MkdirAll(f.cfg.DataDir, 0o700); err != nil {
		return err
	}
	return state.WriteFile(f.file(), text)
}

// watch follows one source, for ever.
func (f *Follower) watch(ctx context.Context, name string, source Source, events chan<- event) {
	wait := time.Second
	for failing := false; ; {
		err := source.Watch(ctx, func(nodes []Node) {
			wait, failing = time.Second, false
			select {
			case events <- event{name, nodes}:
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !failing {
			f.cfg.Log.Warn("the platform cannot be followed; what was known stays, and it is tried again", "target", name, "err", err)
		}
		failing = true
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, time.Minute)
	}
}
