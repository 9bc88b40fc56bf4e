package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/pancake-stack/pancake"
)

// environment is what the commands take from the process around them, so that
// tests can give them another one, and the flags that all of them share.
type environment struct {
	getenv         func(string) string
	lookup         func(string) (string, bool) // for variables of which an empty one is not as none
	stdin          io.Reader
	stdout, stderr io.Writer
	// terminal is the size in characters of the terminal behind a reader or
	// writer; 0 columns when there is none.
	terminal func(any) (columns, rows int)
	now      func() time.Time

	global  globalFlags
	named   bool // somebody said which scheduler: it is not the default
	started bool // a command's own code has begun: its flags and arguments were fine
}

// globalFlags are the values of the flags that every command has.
type globalFlags struct {
	scheduler string
	tokenFile string
	ca        string
	cert, key string
	output    string
	logLevel  string
	logFormat string
	noColor   bool
}

func newEnvironment(getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) *environment {
	return &environment{
		getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr,
		lookup: func(name string) (string, bool) {
			value := getenv(name)
			return value, value != ""
		},
		terminal: terminalSize,
		now:      time.Now,
	}
}

// terminalSize asks the terminal behind f for its size.
func terminalSize(f any) (columns, rows int) {
	file, ok := f.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(file.Fd()))
	if err != nil || columns == 0 {
		return 80, 24 // a terminal that does not tell; VT100's size
	}
	return max(columns, 20), max(rows, 5)
}

// isTerminal reports whether a person sits behind f, one of stdin, stdout and stderr.
func (e *environment) isTerminal(f any) bool {
	columns, _ := e.terminal(f)
	return columns > 0
}

// live reports whether what was printed can be redrawn in place.
func (e *environment) live() bool {
	return !e.json() && e.isTerminal(e.stdout) && e.getenv("TERM") != "dumb"
}

// paint returns the colours to print to stdout with.
func (e *environment) paint() palette {
	return palette(e.isTerminal(e.stdout) && !e.global.noColor && e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb")
}

// json reports whether the output is for machines.
func (e *environment) json() bool { return e.global.output == "json" }

// user is who the scheduler is told that a change comes from.
func (e *environment) user() string {
	return cmp.Or(e.getenv("USER"), e.getenv("LOGNAME"))
}

// logger makes the logger of a daemon. It writes to stderr: stdout is for results.
func (e *environment) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(e.global.logLevel)); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--log-level %q: use debug, info, warn or error", e.global.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch e.global.logFormat {
	case "json":
		return slog.New(slog.NewJSONHandler(e.stderr, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(e.stderr, options)), nil
	}
	return nil, pancake.Errorf(pancake.Invalid, "--log-format %q: use text or json", e.global.logFormat)
}

// printf prints to stdout. Errors of a closed pipe end the process by SIGPIPE,
// as they do for any Unix tool, so there is none to report.
func (e *environment) printf(format string, args ...any) {
	fmt.Fprintf(e.stdout, format, args...)
}

// notef prints a line for people to stderr, after the name that errors have too.
func (e *environment) notef(format string, args ...any) {
	fmt.Fprintf(e.stderr, "pancake: "+strings.TrimRight(format, "\n")+"\n", args...)
}

// printJSON prints v as one indented document.
func (e *environment) printJSON(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
