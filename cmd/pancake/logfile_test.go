package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogFileDoesNotGrowForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev.log")
	log, err := startLog(path)
	if err != nil {
		t.Fatal(err)
	}
	log.limit = 100
	// The process' own stderr, to which the runtime writes a panic, is the same file.
	other, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, letter := range "abcdefghij" {
		if _, err := log.Write([]byte(strings.Repeat(string(letter), 39) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.WriteString("panic\n"); err != nil {
		t.Fatal(err)
	}
	expect := func(path string, lines ...string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		for _, line := range lines {
			if len(line) == 1 {
				line = strings.Repeat(line, 39)
			}
			want.WriteString(line + "\n")
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s holds\n%swant\n%s", filepath.Base(path), got, want.Bytes())
		}
	}
	expect(path, "i", "j", "panic")
	expect(path+".1", "g", "h")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}

	// It goes on where it was, and the log of a run that has ended is kept.
	if log, err = appendLog(path); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Write([]byte("more\n")); err != nil {
		t.Fatal(err)
	}
	expect(path, "i", "j", "panic", "more")
	if _, err = startLog(path); err != nil {
		t.Fatal(err)
	}
	expect(path)
	expect(path+".1", "i", "j", "panic", "more")
}

// A line that is larger than all of the log is written, and a disk that cannot take the copy stops nothing.
func TestLogFileTakesWhateverComes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev.log")
	if err := os.Mkdir(path+".1", 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := appendLog(path)
	if err != nil {
		t.Fatal(err)
	}
	log.limit = 10
	for _, line := range []string{strings.Repeat("x", 50) + "\n", "last\n"} {
		if _, err := log.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(got), "(what was here before is lost: ") || !strings.HasSuffix(string(got), "\nlast\n") {
		t.Errorf("got %q", got)
	}
}

func TestLogFileOutlivesAFullDisk(t *testing.T) {
	log, err := appendLog("/dev/full")
	if err != nil {
		t.Skipf("this system has no file that is always full: %v", err)
	}
	defer log.Close()
	for range 3 {
		if n, err := log.Write([]byte("line\n")); n != 5 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
}
