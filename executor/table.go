package executor

import (
	"maps"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
)

// maxPast is how many finished tasks are remembered after their end was
// acknowledged, so that a late Launch does not run one of them again.
const maxPast = 1024

// table knows the tasks of the agent, and which of them have something to tell
// the scheduler. It may be used by many goroutines.
type table struct {
	// wake has an element while dirty is not empty.
	wake chan struct{}

	mu    sync.Mutex
	tasks map[string]*task
	// dirty holds the tasks with news. True means that the last status is
	// wanted even if it was acknowledged.
	dirty map[string]bool
	// past holds the last status of tasks that are over, at most maxPast; order says which came first.
	past  map[string]pancake.TaskStatus
	order []string
}

func newTable() *table {
	return &table{
		wake:  make(chan struct{}, 1),
		tasks: map[string]*task{}, dirty: map[string]bool{}, past: map[string]pancake.TaskStatus{},
	}
}

// add adds a task unless one of its id is there or was; it reports whether it did.
func (t *table) add(task *task) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, present := t.tasks[task.id]
	_, over := t.past[task.id]
	if present || over {
		return false
	}
	t.tasks[task.id] = task
	return true
}

func (t *table) get(id string) *task {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tasks[id]
}

// all returns the tasks as they are now; the map is the caller's.
func (t *table) all() map[string]*task {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.tasks)
}

// retire forgets a task and remembers how it ended.
func (t *table) retire(id string, last pancake.TaskStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tasks, id)
	t.remember(id, last)
}

// reject remembers an end for a task that never was ours, so that it is told when asked.
func (t *table) reject(id string, last pancake.TaskStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remember(id, last)
}

func (t *table) remember(id string, last pancake.TaskStatus) {
	if _, ok := t.past[id]; !ok {
		t.order = append(t.order, id)
	}
	t.past[id] = last
	if len(t.order) > maxPast {
		delete(t.past, t.order[0])
		t.order = t.order[1:]
	}
}

// news says that a task has something to tell; again, that its last status is
// wanted whether or not it was acknowledged.
func (t *table) news(id string, again bool) {
	t.mu.Lock()
	t.dirty[id] = t.dirty[id] || again
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// takeNews returns the tasks with news, and leaves none.
func (t *table) takeNews() map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	dirty := t.dirty
	t.dirty = map[string]bool{}
	return dirty
}

// ended says how a task ended that is not held any more. One never heard of is lost.
func (t *table) ended(id string, now time.Time) pancake.TaskStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.past[id]; ok {
		return s
	}
	return pancake.TaskStatus{
		State: pancake.TaskLost, Sequence: ahead(now), Updated: now,
		Reason: pancake.ReasonUnknownTask, Message: "the agent does not know this task",
	}
}

// ahead is a sequence for a task whose own was lost with its checkpoint. It must
// be beyond all that were sent: no task has had a status per millisecond since 1970.
func ahead(now time.Time) uint64 { return uint64(now.UnixMilli()) }
