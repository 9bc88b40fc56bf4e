package state_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/elect"
	"github.com/pancake-stack/pancake/goavail/state"
	"github.com/pancake-stack/pancake/goavail/vote"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestStateSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir")
	d, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, moved, err := d.Load(now); err != nil || moved != "" || s.Incarnation != 0 {
		t.Errorf("%+v %q %v", s, moved, err)
	}
	want := state.State{
		Version: 1, Incarnation: 1 << 60, Seen: map[string]uint64{"p1": 1<<60 + 1}, Known: map[string]string{"p1": "127.0.0.1:1"},
		Orders:    []vote.Order{{Kind: vote.Out, About: "t1", At: now, Version: 3, Origin: "p1"}},
		Penalties: map[string]vote.Penalty{"t1": {Points: 1000, At: now, Last: vote.Down}},
		History:   []client.Entry{{ID: "x", At: now, Kind: client.KindChange, Moves: []client.Move{{Value: "1", In: true}}}},
	}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	promise := elect.Promise{Term: 7, Holder: "p1"}
	if err := d.KeepPromise(promise); err != nil {
		t.Fatal(err)
	}
	key, err := d.Key()
	if err != nil {
		t.Fatal(err)
	}
	again, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := again.Load(now); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%+v\n%v", got, want, err)
	}
	if got := again.Promise(); got != promise {
		t.Error(got)
	}
	if got, err := again.Key(); err != nil || !got.Equal(key) {
		t.Error("the key is another", err)
	}
	files, _ := os.ReadDir(path)
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 || strings.HasPrefix(f.Name(), ".") {
			t.Errorf("%s is left, or readable by others: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestBrokenFilesDoNotStopTheAgent(t *testing.T) {
	path := t.TempDir()
	d, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("state.json", `{"version":1,"orders":`)
	s, moved, err := d.Load(now)
	if err != nil || s.Orders != nil || moved != filepath.Join(path, "state.json.broken-1795262400") {
		t.Errorf("%+v %q %v", s, moved, err)
	}
	if _, err := os.Stat(moved); err != nil {
		t.Error(err)
	}
	write("promise.json", "what?")
	if got := d.Promise(); got != (elect.Promise{}) {
		t.Error(got)
	}
	// What cannot be guessed at is an error that says what to do.
	write("state.json", `{"version":2}`)
	if _, _, err := d.Load(now); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), "later") {
		t.Error(err)
	}
	write("place.key", "what?")
	if _, err := d.Key(); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), "restore it") {
		t.Error(err)
	}
	if _, err := state.Open(filepath.Join(path, "place.key")); pancake.KindOf(err) != pancake.Invalid {
		t.Error(err)
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{".state.json-123", ".place.key-1", ".platform.json-1", "notes"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := state.Open(path); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 1 || left[0].Name() != "notes" {
		t.Errorf("%v, %v", left, err)
	}
}
