package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// maxLog bounds one log file, in bytes. There are two: what is full, or of the
// run before, is kept as <name>.1.
const maxLog = 8 << 20

// logFile is a log that does not grow for ever. It keeps its file, so whoever
// else appends to that goes on doing so.
type logFile struct {
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// startLog makes an empty log.
func startLog(path string) (*logFile, error) {
	if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return appendLog(path)
}

// appendLog goes on with a log.
func appendLog(path string) (*logFile, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &logFile{limit: maxLog, file: file, size: info.Size()}, nil
}

// Write implements io.Writer. It never fails: what cannot be written is lost,
// and a full disk does not end a program whose output goes through here.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(b)) > l.limit && l.turn() != nil {
		return len(b), nil
	}
	n, _ := l.file.Write(b)
	l.size += int64(n)
	return len(b), nil
}

// turn copies the log to <name>.1 and empties it: on a disk that is too full
// for the copy, it is emptied nevertheless.
func (l *logFile) turn() error {
	copied := copyFile(l.file.Name()+".1", l.file.Name())
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	l.size = 0
	if copied != nil {
		n, err := fmt.Fprintf(l.file, "(what was here before is lost: %v)\n", copied)
		l.size = int64(n)
		return err
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Close implements io.Closer.
func (l *logFile) Close() error { return l.file.Close() }
