package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/lifecycle"
)

// dataDir is where one process keeps what must survive its end.
type dataDir struct {
	path string
	lock *os.File
}

// holder says which process holds a data directory; it is the content of the lock file.
type holder struct {
	PID     int    `json:"pid"`
	Command string `json:"command"` // "dev", "agent", "scheduler"
}

const lockName = "lock"

// openDataDir makes the directory and takes it for this process. The lock is
// the kernel's, so it ends with the process, however that ends.
func openDataDir(path, command string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--data-dir %s: %w", path, err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--data-dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--data-dir: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		other := readHolder(path)
		return nil, pancake.Errorf(pancake.Conflict,
			"the data directory %s is in use by \"pancake %s\" (pid %d); stop that, or name another directory with --data-dir",
			path, other.Command, other.PID)
	}
	d := &dataDir{path: path, lock: f}
	b, err := json.Marshal(holder{PID: os.Getpid(), Command: command})
	if err == nil {
		err = errors.Join(f.Truncate(0), writeAt(f, b))
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return d, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

func (d *dataDir) join(name string) string { return filepath.Join(d.path, name) }

// close gives the directory back.
func (d *dataDir) close() { _ = d.lock.Close() } // the lock goes with the file, whatever Close says

// readHolder returns what the lock file says, zero when it says nothing.
func readHolder(path string) holder {
	var h holder
	b, err := os.ReadFile(filepath.Join(path, lockName))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return holder{}
	}
	return h
}

// held reports whether a process holds the directory.
func held(path string) bool {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Is(err, syscall.EWOULDBLOCK)
	}
	return false
}

// stopHolder ends the process that holds the directory, and waits until it has let go.
func stopHolder(ctx context.Context, path string) (stopped bool, err error) {
	if !held(path) {
		return false, nil
	}
	h := readHolder(path)
	if h.PID <= 1 {
		return false, pancake.Errorf(pancake.Failed, "a process holds %s but its lock file does not say which", path)
	}
	if err := syscall.Kill(h.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, pancake.Errorf(pancake.Failed, "stop process %d: %w", h.PID, err)
	}
	const limit = time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = lifecycle.Poll(ctx, func(context.Context) error {
		if held(path) {
			return pancake.Errorf(pancake.Failed, "process %d has not ended within %s of SIGTERM", h.PID, limit)
		}
		return nil
	})
	return err == nil, err
}

// tailOfFile returns the last lines of a text file, for an error message.
func tailOfFile(path string, lines int) string {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b[max(0, len(b)-16<<10):]), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
