package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// job is what a child of the benchmark does.
type job struct {
	Kind     string // "node", "sidecars" or "memberlist"
	Nodes    int
	Services int
	Seed     string
	For      time.Duration
}

func runChild(ctx context.Context, text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return fmt.Errorf("-child: %w", err)
	}
	switch j.Kind {
	case "node":
		return alone(ctx, j)
	case "sidecars":
		return starveSidecars(ctx, j)
	case "memberlist":
		return starveMemberlist(ctx, j)
	}
	return fmt.Errorf("-child: there is no %q", j.Kind)
}

// say tells the parent.
func say(line string) { fmt.Fprintln(os.Stdout, line) }

// child is this program once more, in a process of its own.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startChild(ctx context.Context, j job) (*child, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, "-child", string(text))}
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = 20 * time.Second
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	c.lines = bufio.NewScanner(out)
	return c, c.cmd.Start()
}

// await returns what a line says behind a word.
func (c *child) await(word string) (string, error) {
	for c.lines.Scan() {
		if rest, ok := strings.CutPrefix(c.lines.Text(), word); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("child %v ended before it said %q", c.cmd.Args[2:], word)
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	for c.lines.Scan() {                      // until it has closed its output
	}
	_ = c.cmd.Wait() // how it ended does not matter any more
}

func (c *child) status(name string) (megabytes float64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, err
	}
	kilobytes, err := field(string(text), name)
	return kilobytes / 1024, err
}

// clockTick is how long a tick of /proc/<pid>/stat is: 100 a second on Linux.
const clockTick = 10 * time.Millisecond

// cpu is what the child has used.
func (c *child) cpu() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.cmd.Process.Pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest) // from the third, the state
	if len(fields) < 13 {
		return 0, fmt.Errorf("the stat of a process has %d fields", len(fields))
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick, err
}
