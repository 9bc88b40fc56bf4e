package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts under test/cli run "pancake": it is the test binary itself.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pancake": main})
}

// TestScripts runs what needs no scheduler.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../test/cli/testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               scriptEnvironment,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:                scriptCommands(),
	})
}

// scriptEnvironment keeps the settings of whoever runs the tests out of them.
func scriptEnvironment(e *testscript.Env) error {
	e.Setenv("USER", "tester")
	e.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's second before each exit adds up
	// Port 1 of loopback: nothing listens there, and connecting is refused at once.
	e.Setenv("PANCAKE_SCHEDULER", "http://127.0.0.1:1")
	return nil
}

// scriptCommands are the commands that scripts have besides testscript's own.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":   scriptExits,
		"answers": scriptAnswers,
	}
}

// scriptExits runs "exits CODE COMMAND ARG...": it must end with that exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%s: %v", args[1], err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}
