package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
)

// readyFDFlag names the file descriptor on which a detached "pancake dev"
// tells the process that started it how far it is.
const readyFDFlag = "ready-fd"

// devLogName is the file in the data directory that a detached process logs to.
const devLogName = "dev.log"

// detachLimit is how long a detached start may take: a first start of everything is some seconds.
const detachLimit = 2 * time.Minute

// detach starts this command again in the background, repeats what it says
// while it starts, and returns once everything runs.
func detach(ctx context.Context, env *environment, cmd *cobra.Command, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find my own program: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pancake.Errorf(pancake.Invalid, "--data-dir: %w", err)
	}
	if held(dir) {
		env.say("Pancake runs already (pid %d)", readHolder(dir).PID)
		return nil
	}
	logPath := filepath.Join(dir, devLogName)
	log, err := startLog(logPath)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "--data-dir: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()

	background := exec.Command(self, detachedArgs(cmd)...)
	background.Stdout, background.Stderr = log.file, log.file
	background.ExtraFiles = []*os.File{w} // becomes descriptor 3
	background.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := background.Start(); err != nil {
		return fmt.Errorf("start %s: %w", self, err)
	}
	_ = w.Close() // ours; the child has its own
	ready, err := relay(ctx, env, r)
	if ready {
		down := "pancake dev down"
		if dir != defaultDevDir {
			down += " --data-dir '" + dir + "'"
		}
		env.printf("\nIt runs in the background (pid %d, log %s).\nStop it and its tasks with: %s\n", background.Process.Pid, logPath, down)
		return background.Process.Release()
	}
	_ = background.Process.Signal(syscall.SIGTERM) // it failed or takes too long: do not leave half of it
	_ = background.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(pancake.Errorf(pancake.Failed, "pancake dev did not start; the end of %s:\n%s", logPath, tailOfFile(logPath, 10)), err)
}

// relay repeats the lines of r until one says that everything is ready.
func relay(ctx context.Context, env *environment, r *os.File) (ready bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	defer stop()
	if err := r.SetReadDeadline(time.Now().Add(detachLimit)); err != nil {
		return false, fmt.Errorf("bound the wait: %w", err)
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if lines.Text() == readyMark {
			return true, nil
		}
		env.printf("%s\n", lines.Text())
	}
	return false, lines.Err()
}

// readyMark ends what a detached process says on its ready descriptor.
const readyMark = "\x04ready"

// detachedArgs repeats the flags that were set, for the process in the
// background. That reads the same variables and file, which may ask for --detach.
func detachedArgs(cmd *cobra.Command) []string {
	args := []string{"dev", "--detach=false", "--" + readyFDFlag, strconv.Itoa(3)}
	for _, f := range setFlags(cmd) {
		if f.Name != "detach" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	}
	return args
}
