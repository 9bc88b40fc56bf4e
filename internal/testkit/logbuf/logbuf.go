// Package logbuf is for tests: a buffer for logs and outputs that is read while it is
// written. It is apart from testkit so that small tests do not link what that needs.
package logbuf

import (
	"bytes"
	"sync"
)

// Buffer collects what is written. Its zero value is empty and ready; it is safe for
// concurrent use.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write is io.Writer's. It does not fail.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
