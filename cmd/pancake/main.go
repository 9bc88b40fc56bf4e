// Pancake is the one binary: the daemons and the deploy CLI. Each subcommand has
// a file; it turns flags into a Config and calls the part that does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/pancake-stack/pancake"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends ctx; from then on signals act as if nobody had
	// listened, so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	env := newEnvironment(os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	env.lookup = os.LookupEnv
	os.Exit(execute(ctx, env, os.Args[1:]))
}

// The exit codes. They are part of the interface: scripts read them.
const (
	exitOK          = 0
	exitFailed      = 1   // it was tried and did not work out
	exitUsage       = 2   // the input is wrong: flags, arguments, spec
	exitUnavailable = 3   // the scheduler does not answer
	exitDenied      = 4   // not allowed, or the scheduler is not the one it should be
	exitInterrupted = 130 // 128 + SIGINT, as shells report it
)

// run executes one command line and returns the process' exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	return execute(ctx, newEnvironment(getenv, stdin, stdout, stderr), args)
}

func execute(ctx context.Context, env *environment, args []string) int {
	root := newRootCommand(env)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !env.started {
		// Nothing ran yet: whatever is wrong is wrong with the command line.
		if pancake.KindOf(err) == pancake.Internal {
			err = pancake.Errorf(pancake.Invalid, "%w", err)
		}
		err = pancake.Errorf(pancake.KindOf(err), "%w\nSee \"%s --help\".", err, cmd.CommandPath())
	}
	code := exitCode(ctx, err)
	if err != nil && code != exitInterrupted && !errors.Is(err, errSilent) {
		fmt.Fprintf(env.stderr, "pancake: %v\n", err)
	}
	return code
}

// errSilent is the cause of a failure that the command has explained already.
var errSilent = errors.New("explained already")

// exitCode picks the exit code for what a command returned.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	switch pancake.KindOf(err) {
	case pancake.Invalid:
		return exitUsage
	case pancake.Unavailable:
		return exitUnavailable
	case pancake.Unauthenticated, pancake.Forbidden:
		return exitDenied
	}
	return exitFailed
}
