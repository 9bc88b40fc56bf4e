package feed

import (
	"crypto/rand"
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// EventsKept is how many changes Events keeps: those of 2,000 services that
// start, become healthy and stop within one disconnect. It is about 1 MB.
const EventsKept = 8192

// Event is one change of a service. Its JSON is made once, however many readers
// there are.
type Event struct {
	client.ChangeEvent
	once sync.Once
	json []byte
	err  error
}

// JSON is the event as NinesStack Sidecar writes it.
func (e *Event) JSON() ([]byte, error) {
	e.once.Do(func() { e.json, e.err = json.Marshal(&e.ChangeEvent) })
	return e.json, e.err
}

// Events keeps the last changes of the catalogue. A position in it is known to
// others by an ID, which no other Events, such as that of the Sidecar before a
// restart, takes for its own.
type Events struct {
	*Ring[*Event]
	epoch string
}

// NewEvents makes an Events that keeps EventsKept changes.
func NewEvents() *Events {
	return &Events{Ring: NewRing[*Event](EventsKept), epoch: rand.Text()[:8]}
}

// Add appends what others care to know of changes: not the repetitions, nor what
// was only forgotten, nor notes. The state that has these changes is shown
// before, so that whoever reads an event and then the state finds it there.
func (e *Events) Add(changes []catalog.Change) {
	var events []*Event
	for _, c := range changes {
		if c.Refresh || c.Local || c.Removed {
			continue
		}
		events = append(events, &Event{ChangeEvent: client.ChangeEvent{
			Service: *c.Service, PreviousStatus: c.Before, Time: c.Service.Updated,
		}})
	}
	e.Ring.Add(events...)
}

// ID names a position.
func (e *Events) ID(position uint64) string {
	return e.epoch + "-" + strconv.FormatUint(position, 10)
}

// Position is the position that an ID names. It reports false for one that is
// not of this Events.
func (e *Events) Position(id string) (uint64, bool) {
	text, ok := strings.CutPrefix(id, e.epoch+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}
