package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// screen redraws a block of lines in place on a terminal. Each drawing is one
// write, over the old text rather than after clearing it, so nothing flickers.
type screen struct {
	out   io.Writer
	size  func() (columns, rows int)
	lines int // of the last drawing, now above the cursor
}

// draw replaces the last drawing.
func (s *screen) draw(lines []string) {
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", s.lines)
	}
	width, height := s.size()
	if more := len(lines) - (height - 1); more > 0 {
		// What has scrolled away cannot be drawn over.
		lines = append(slices.Clone(lines[:height-2]), fmt.Sprintf("… and %s", plural(more+1, "line")))
	}
	for _, line := range lines {
		// A line that wrapped would make the count of lines wrong.
		b.WriteString(cut(line, width-1) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	s.lines = len(lines)
	_, _ = io.WriteString(s.out, b.String()) // a terminal that is gone ends the process by SIGHUP
}

// cut shortens line to width characters, not counting colours.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	var b strings.Builder
	seen, escaped, coloured := 0, false, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escaped, coloured = true, true
		case escaped:
			escaped = r != 'm'
		case seen == width:
			if coloured {
				b.WriteString("\x1b[0m")
			}
			return b.String()
		default:
			seen++
		}
		b.WriteRune(r)
	}
	return b.String()
}
