package guard

import (
	"sync"

	"github.com/pancake-stack/pancake"
)

// maxCalls is how many calls one address may have under way: streams, too.
const maxCalls = 256

// clients counts the calls under way, by address.
type clients struct {
	mu   sync.Mutex
	busy map[string]int
}

// enter counts a call until leave. It fails with Unavailable when there are too many.
func (c *clients) enter(addr string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[addr] >= maxCalls {
		return pancake.Errorf(pancake.Unavailable, "%d calls from this address are under way, and more are not taken; try again when some have ended", maxCalls)
	}
	c.busy[addr]++
	return nil
}

func (c *clients) leave(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[addr]--; c.busy[addr] <= 0 {
		delete(c.busy, addr)
	}
}
