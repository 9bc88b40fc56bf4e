package checkpoint

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

func record(id string) Record {
	s := func(n uint64, state pancake.TaskState) pancake.TaskStatus {
		return pancake.TaskStatus{State: state, Sequence: n, Updated: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	}
	return Record{
		Version: version,
		Assignment: agentlink.Assignment{
			Task:   pancake.Task{ID: id, Resources: pancake.Resources{CPUs: 100, MemoryMB: 32}},
			Deploy: pancake.Deploy{Container: pancake.Container{Image: "hello:1", Env: map[string]string{"A": "b"}}},
		},
		Kill:   &Kill{Grace: time.Second, Now: true},
		Status: s(3, pancake.TaskKilling), Unacked: []pancake.TaskStatus{s(2, pancake.TaskRunning), s(3, pancake.TaskKilling)},
		ContainerID: "abc", StartAsked: true, Ran: true, WasHealthy: true, DrainedAt: time.Date(2026, 11, 21, 12, 0, 1, 0, time.UTC),
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSaveLoadDelete(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b := record("a"), record("../../b/"+strings.Repeat("x", 400)) // ids come from the network
	for _, r := range []Record{a, b, a} {
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	got, setAside, err := open(t, dir).Load()
	if err != nil || len(setAside) != 0 || len(got) != 2 {
		t.Fatalf("%d records, %v, %v", len(got), setAside, err)
	}
	for _, r := range got {
		want := a
		if r.TaskID() != "a" {
			want = b
		}
		if !reflect.DeepEqual(r, want) {
			t.Errorf("got %+v\nwant %+v", r, want)
		}
	}
	for range 2 {
		if err := s.Delete("a"); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := s.Load(); err != nil || len(got) != 1 {
		t.Errorf("%d records after a delete, %v", len(got), err)
	}
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	good, err := json.Marshal(record("good"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"empty.json":                      "",
		"torn.json":                       string(good[:len(good)/2]),
		"newer.json":                      strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		ShortID("other") + suffix:         string(good), // not the file of this task
		ShortID("good") + suffix:          string(good),
		ShortID("good") + suffix + ".tmp": "half",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, setAside, err := s.Load()
	if err != nil || len(got) != 1 || got[0].TaskID() != "good" || len(setAside) != 4 {
		t.Fatalf("%d records, set aside %v, %v", len(got), setAside, err)
	}
	for _, path := range setAside {
		if _, err := os.Stat(path); err != nil || !strings.HasSuffix(path, damaged) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got, setAside, err := s.Load(); err != nil || len(got) != 1 || len(setAside) != 0 {
		t.Errorf("the second time: %d records, %v, %v", len(got), setAside, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*.tmp*")); len(left) != 0 {
		t.Errorf("half written files stay: %v", left)
	}
}

func TestSaveFailsWithoutHarm(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Save(record("a")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(record("a")); err == nil || !strings.Contains(err.Error(), "checkpoint of a") {
		t.Errorf("saved into nowhere: %v", err)
	}
}

func TestAgentID(t *testing.T) {
	dir := t.TempDir()
	first, err := AgentID(dir)
	if err != nil || !strings.HasPrefix(first, "agent-") {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := AgentID(dir); err != nil || again != first {
		t.Errorf("again %q, %v; was %q", again, err, first)
	}
	if other, err := AgentID(t.TempDir()); err != nil || other == first {
		t.Errorf("another directory got %q, %v", other, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agent-id"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := AgentID(dir); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("an empty file gives %v", err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); pancake.KindOf(err) != pancake.Conflict {
		t.Errorf("a second lock gives %v", err)
	}
	unlock()
	unlock, err = Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// Whatever is in a file, it is either refused or means the same when written again.
func FuzzDecode(f *testing.F) {
	good, err := json.Marshal(record("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"assignment":{"task":{"id":"a"}},"unacked":[{"sequence":9}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		if r.TaskID() == "" || r.Version != version {
			t.Fatalf("accepted %+v", r)
		}
		b, err = json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if c, err := json.Marshal(again); err != nil || string(c) != string(b) {
			t.Fatalf("%s\nreads back as\n%s, %v", b, c, err)
		}
	})
}
