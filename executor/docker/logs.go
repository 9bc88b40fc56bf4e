package docker

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// Bounds of LastLines.
const (
	lastLines     = 20
	lastBytes     = 8 << 10
	lastLineBytes = 1 << 10
	lastRead      = 1 << 20 // the engine keeps lines of any length
)

// LogOptions say what of a container's output is wanted.
type LogOptions struct {
	Follow bool // go on until the container ends
	Tail   int  // the last lines before now; 0 means all
}

// Logs hands the output of a container to fn piece by piece, with "stdout" or
// "stderr" as its source, until it ends, ctx does, or fn fails.
func (e *Engine) Logs(ctx context.Context, id string, o LogOptions, fn func(source string, data []byte) error) error {
	tail := ""
	if o.Tail > 0 {
		tail = strconv.Itoa(o.Tail)
	}
	stream, err := e.api.ContainerLogs(ctx, id, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Follow: o.Follow, Tail: tail,
	})
	if err != nil {
		return e.failed(err, "read the logs of container "+short(id))
	}
	defer stream.Close()
	var refused error // of fn
	write := func(source string) writer {
		return func(p []byte) error {
			refused = fn(source, p)
			return refused
		}
	}
	_, err = stdcopy.StdCopy(write("stdout"), write("stderr"), stream)
	switch {
	case refused != nil:
		return refused
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return e.failed(err, "read the logs of container "+short(id))
	}
	return nil
}

// writer makes an io.Writer of a function.
type writer func(p []byte) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// LastLines returns what a container printed last, both streams together: at
// most 20 lines and 8 KiB, each line cut at 1 KiB. It takes 5 s at most.
func (e *Engine) LastLines(ctx context.Context, id string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stream, err := e.api.ContainerLogs(ctx, id, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lastLines),
	})
	if err != nil {
		return nil, e.failed(err, "read the logs of container "+short(id))
	}
	defer stream.Close()
	var text bytes.Buffer
	_, err = stdcopy.StdCopy(&text, &text, io.LimitReader(stream, lastRead))
	if err != nil {
		err = e.failed(err, "read the logs of container "+short(id))
	}
	return tail(text.String()), err
}

// tail cuts text down to the bounds of LastLines.
func tail(text string) []string {
	lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	var out []string
	size := 0
	for i := len(lines) - 1; i >= 0 && len(out) < lastLines; i-- {
		line := strings.TrimRight(lines[i], "\r")
		line = strings.ToValidUTF8(line[:min(len(line), lastLineBytes)], "?")
		if size += len(line) + 1; size > lastBytes {
			break
		}
		out = append([]string{line}, out...)
	}
	if len(out) == 1 && out[0] == "" {
		return nil
	}
	return out
}
