package goavail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
)

// errPartly says that some sets could not be read, and the others were.
var errPartly = errors.New("some records cannot be read")

// halvings bounds the further calls that find out which sets cannot be read.
const halvings = 32

// readOnly reads what is live, so that an agent that does not write can show it.
func (a *Agent) readOnly(ctx context.Context) error {
	_, err := a.readLimited(ctx)
	if err != nil && !errors.Is(err, errPartly) {
		return err
	}
	a.mu.Lock()
	a.act.next = time.Now().Add(5*a.cfg.ReadEvery + rand.N(a.cfg.ReadEvery))
	a.mu.Unlock()
	return err
}

// read reads the live records and returns those that somebody else has changed. With
// errPartly, some sets could not be read: those are left alone, and the others go on.
func (a *Agent) read(ctx context.Context) ([]client.Entry, error) {
	a.mu.Lock()
	keys := a.keys()
	a.mu.Unlock()
	calls := halvings
	sets, err := a.readSome(ctx, keys, &calls)
	if err != nil && (len(sets) == 0 || dns.ReasonOf(err) != dns.Refused) {
		return nil, fmt.Errorf("read the live records: %w", err)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errPartly, err)
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	var drifts []client.Entry
	live, expect := map[dns.Key]dns.Set{}, map[dns.Key][]string{}
	for key, set := range sets {
		live[key], expect[key] = set, set.Values()
		want, known := a.act.expect[key]
		if !known || a.act.epoch == 0 || slices.Equal(want, set.Values()) {
			continue
		}
		if s, ok := a.act.settling[key]; ok && now.Before(s.until) && slices.Equal(s.old, set.Values()) {
			live[key], expect[key] = a.live[key], want // our change does not show yet
			continue
		}
		drifts = append(drifts, client.Entry{
			Kind: client.KindDrift, Set: key.String(), Before: want, After: set.Values(),
			Text: fmt.Sprintf("%s was changed by somebody else: it held %s and holds %s", key, list(want), list(set.Values())),
		})
	}
	a.live, a.act.expect, a.act.read = live, expect, now
	return drifts, err
}

// readSome reads sets. If that is refused it reads them by halves: one that has been
// removed at the provider must not stop the failover of all others.
func (a *Agent) readSome(ctx context.Context, keys []dns.Key, calls *int) (map[dns.Key]dns.Set, error) {
	out := map[dns.Key]dns.Set{}
	sets, err := a.cfg.Provider.Read(ctx, keys)
	if err == nil && len(sets) != len(keys) {
		err = fmt.Errorf("read %d sets and got %d", len(keys), len(sets))
	}
	if err == nil {
		for i, key := range keys {
			sets[i].Key = key
			out[key] = sets[i]
		}
		return out, nil
	}
	if dns.ReasonOf(err) != dns.Refused || len(keys) < 2 || *calls < 2 {
		return nil, err
	}
	*calls -= 2
	half := len(keys) / 2
	for _, some := range [][]dns.Key{keys[:half], keys[half:]} {
		found, err := a.readSome(ctx, some, calls)
		if err != nil && dns.ReasonOf(err) != dns.Refused {
			return nil, err
		}
		maps.Copy(out, found)
	}
	return out, err
}

func list(values []string) string {
	if len(values) == 0 {
		return "nothing"
	}
	return strings.Join(values, ", ")
}

// readLimited is read, for no longer than one call may take.
func (a *Agent) readLimited(ctx context.Context) ([]client.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return a.read(ctx)
}
