package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// keptOutput is how much of what a program prints is kept, in bytes. maxOutput is how
	// much it may print in all; beyond it finds its output closed.
	keptOutput = 4 << 10
	maxOutput  = 1 << 20
	// outputDelay is how long a program's output is waited for after its end: a child
	// that it left behind may hold it open.
	outputDelay = 100 * time.Millisecond
)

var errTooMuch = errors.New("it prints more than 1 MiB")

// output keeps the beginning of what a program prints and refuses what is too much.
type output struct {
	kept bounded
	size int
}

func (o *output) Write(p []byte) (int, error) {
	if o.size += len(p); o.size > maxOutput {
		return 0, errTooMuch
	}
	return o.kept.Write(p)
}

// run runs a program in a process group of its own, with nothing of our
// environment but PATH. When the program ends or the time is up, all of the group is
// ended: what it has started does not stay behind.
func run(ctx context.Context, words []string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH")}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = kill, outputDelay
	out := &output{kept: bounded{limit: keptOutput}}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", words[0], err)
	}
	err := cmd.Wait()
	_ = kill() // fails if nobody is left; the group's number is taken while somebody is
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // its exit code was 0
		return nil
	case out.size > maxOutput:
		err = errTooMuch
	default:
		err = reason(ctx, err)
	}
	return fmt.Errorf("%s: %w: %s", words[0], err, &out.kept)
}
