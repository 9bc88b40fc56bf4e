package main

import (
	"strings"
	"testing"
)

func TestScreenRedrawsInPlace(t *testing.T) {
	var out strings.Builder
	columns, rows := 10, 4
	s := &screen{out: &out, size: func() (int, int) { return columns, rows }}
	draw := func(want string, lines ...string) {
		t.Helper()
		out.Reset()
		if s.draw(lines); out.String() != want {
			t.Errorf("drew %q, want %q", out.String(), want)
		}
	}
	draw("one\x1b[K\ntwo\x1b[K\n\x1b[J", "one", "two")
	draw("\x1b[2A\ra line th\x1b[K\n\x1b[J", "a line that is too long")
	// More than the terminal has rows: the rest is counted.
	draw("\x1b[1A\r1\x1b[K\n2\x1b[K\n… and 3 l\x1b[K\n\x1b[J", "1", "2", "3", "4", "5")
	draw("\x1b[3A\r1\x1b[K\n2\x1b[K\n3\x1b[K\n\x1b[J", "1", "2", "3")
	draw("\x1b[3A\r\x1b[J")
}
