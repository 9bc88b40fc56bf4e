package executor

import (
	"sync"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/checkpoint"
)

// mail is what others want a task's goroutine to know. It holds the latest
// word on each matter, so that it never grows and nobody waits to deliver it.
type mail struct {
	kill   *checkpoint.Kill
	look   bool // something may have happened to the container
	acked  uint64
	health health
}

// health is what Sidecar says of a task.
type health struct {
	state pancake.HealthState
	note  string
	// heard is false while Sidecar does not answer: then state is its last word.
	heard bool
}

// mailbox delivers mail to one goroutine.
type mailbox struct {
	wake chan struct{} // has an element while there may be news

	mu   sync.Mutex
	mail mail
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put changes the mail; change reports whether the owner need know.
func (m *mailbox) put(change func(*mail) bool) {
	m.mu.Lock()
	changed := change(&m.mail)
	m.mu.Unlock()
	if !changed {
		return
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take returns the mail. What happens once is then gone; words that stay true stay.
func (m *mailbox) take() mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.mail
	m.mail.look = false
	return out
}
