// Package checkpoint is the executor's memory: one file per task that says what
// was asked, how far it came and which statuses the scheduler has not
// acknowledged, and one file with the agent's id. Files are replaced atomically
// and reach the disk before a call returns.
package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

// version of the file format. A file of a newer version is set aside: what it
// says may mean something else.
const version = 1

// maxFile bounds a file, in bytes. An assignment is bounded by the agent link,
// a status by itself and the number of unacknowledged ones by the executor.
const maxFile = 4 << 20

// Record is everything that must survive the executor. The goroutine that owns
// the task alone writes it.
type Record struct {
	Version    int                  `json:"version"`
	Assignment agentlink.Assignment `json:"assignment"`
	// Kill is what the scheduler asked for, nil if nothing.
	Kill *Kill `json:"kill,omitempty"`

	Status pancake.TaskStatus `json:"status"`
	// Unacked are the statuses that the scheduler has not acknowledged, oldest first.
	Unacked []pancake.TaskStatus `json:"unacked,omitempty"`

	ContainerID string    `json:"containerId,omitempty"`
	StartAsked  bool      `json:"startAsked,omitempty"` // a container was seen or made, so it may have been started since
	Ran         bool      `json:"ran,omitempty"`        // TASK_RUNNING was reported
	WasHealthy  bool      `json:"wasHealthy,omitempty"` // Sidecar called it alive at least once
	DrainedAt   time.Time `json:"drainedAt,omitzero"`   // when Sidecar was asked to drain it
}

// TaskID is the id of the record's task.
func (r *Record) TaskID() string { return r.Assignment.Task.ID }

// Kill is a wish to end a task.
type Kill struct {
	Grace time.Duration `json:"grace,omitempty"` // from SIGTERM to SIGKILL; 0 means the executor's default
	Now   bool          `json:"now,omitempty"`   // without drain
}

// ShortID is a short name for a task: 64 bits of a hash of its id, in hex. The
// file of the task and its container are called by it.
func ShortID(taskID string) string {
	sum := sha256.Sum256([]byte(taskID))
	return hex.EncodeToString(sum[:8])
}

// Store keeps records under a directory.
type Store struct {
	dir string
}

const (
	suffix    = ".json"
	damaged   = ".damaged"
	temporary = ".tmp"
)

// Open makes the directory for records, dir/tasks, if it does not exist.
func Open(dir string) (*Store, error) {
	s := &Store{dir: filepath.Join(dir, "tasks")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	return s, nil
}

// Load reads all records. Files that cannot be understood are set aside, under
// their name with ".damaged" behind it, and named in the second result.
func (s *Store) Load() (records []Record, setAside []string, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoints: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		if strings.Contains(entry.Name(), temporary) {
			_ = os.Remove(path) // half written when the power went; left for the next start if it stays
		}
		if !strings.HasSuffix(entry.Name(), suffix) {
			continue
		}
		rec, err := read(path)
		if err == nil && ShortID(rec.TaskID())+suffix == entry.Name() {
			records = append(records, rec)
			continue
		}
		if err := os.Rename(path, path+damaged); err != nil {
			return nil, nil, fmt.Errorf("set damaged checkpoint aside: %w", err)
		}
		setAside = append(setAside, path+damaged)
	}
	return records, setAside, nil
}

func read(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Record{}, err
	}
	return decode(b)
}

func decode(b []byte) (Record, error) {
	var r Record
	if len(b) > maxFile {
		return r, fmt.Errorf("larger than %d bytes", maxFile)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&r); err != nil {
		return r, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return r, errors.New("something follows the record")
	}
	if r.Version != version {
		return r, fmt.Errorf("format version %d, not %d", r.Version, version)
	}
	if r.TaskID() == "" {
		return r, errors.New("no task id")
	}
	for i, u := range r.Unacked {
		if u.Sequence > r.Status.Sequence || (i > 0 && u.Sequence <= r.Unacked[i-1].Sequence) {
			return r, errors.New("unacknowledged statuses are out of order")
		}
	}
	return r, nil
}

// Save writes a record in place of the one before.
func (s *Store) Save(r Record) error {
	r.Version = version
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("checkpoint of %s: %w", r.TaskID(), err)
	}
	if err := replace(s.path(r.TaskID()), b); err != nil {
		return fmt.Errorf("checkpoint of %s: %w", r.TaskID(), err)
	}
	return nil
}

// Delete removes a task's record; none is no error.
func (s *Store) Delete(taskID string) error {
	if err := os.Remove(s.path(taskID)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("checkpoint of %s: %w", taskID, err)
	}
	return nil
}

func (s *Store) path(taskID string) string { return filepath.Join(s.dir, ShortID(taskID)+suffix) }

// replace writes a file so that after a crash at any moment either the old
// content or the new one is there, whole.
func replace(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+temporary+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
