package discover_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// engine is Docker in memory.
type engine struct {
	mu         sync.Mutex
	containers map[string]container.Summary
	stream     chan events.Message
	broken     chan struct{} // closed to break the stream off
	down       bool
	slow       time.Duration // how long a list takes
	lists      []string      // what was asked for: "all" or the number of ids
	tries      int           // to open the stream
}

func newEngine() *engine {
	return &engine{containers: map[string]container.Summary{}, stream: make(chan events.Message, 1000), broken: make(chan struct{})}
}

var errDown = errors.New("no such socket")

func (e *engine) ContainerList(_ context.Context, o client.ContainerListOptions) (client.ContainerListResult, error) {
	e.mu.Lock()
	ids := o.Filters["id"]
	asked := "all"
	if ids != nil {
		asked = fmt.Sprint(len(ids))
	}
	e.lists = append(e.lists, asked)
	var items []container.Summary
	for id, c := range e.containers {
		if ids == nil || ids[id] {
			items = append(items, c)
		}
	}
	down, slow := e.down, e.slow
	e.mu.Unlock()
	time.Sleep(slow) // the answer is as old as the question
	if down {
		return client.ContainerListResult{}, errDown
	}
	return client.ContainerListResult{Items: items}, nil
}

func (e *engine) Events(ctx context.Context, _ client.EventsListOptions) client.EventsResult {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tries++
	out, errs := make(chan events.Message), make(chan error, 1)
	if e.down {
		errs <- errDown
		return client.EventsResult{Messages: out, Err: errs}
	}
	broken := e.broken
	go func() {
		for {
			select {
			case <-ctx.Done():
				errs <- ctx.Err()
				return
			case <-broken:
				errs <- errDown
				return
			case m := <-e.stream:
				select {
				case out <- m:
				case <-ctx.Done():
				}
			}
		}
	}()
	return client.EventsResult{Messages: out, Err: errs}
}

func (e *engine) event(action events.Action, id string, labels map[string]string) {
	e.stream <- events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: id, Attributes: labels}}
}

func (e *engine) start(id string, labels map[string]string) {
	e.add(id, labels)
	e.event(events.ActionStart, id, labels)
}

// add starts a container without an event.
func (e *engine) add(id string, labels map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[id] = container.Summary{ID: id, Image: "image:1", Labels: labels, Ports: []container.PortSummary{
		{IP: netip.MustParseAddr("0.0.0.0"), PrivatePort: 80, PublicPort: 31000, Type: "tcp"},
	}}
}

func (e *engine) die(id string) {
	e.mu.Lock()
	delete(e.containers, id)
	e.mu.Unlock()
	e.event(events.ActionDie, id, nil)
}

func (e *engine) setDown(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
	if down {
		close(e.broken)
	} else {
		e.broken = make(chan struct{})
	}
}

func (e *engine) asked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	lists := e.lists
	e.lists = nil
	return lists
}

// sink remembers what it is told.
type sink struct {
	mu      sync.Mutex
	up      map[string]discover.Found
	status  map[string]string
	settled int
	ups     int
}

func (s *sink) Up(_ context.Context, f discover.Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up[f.Service.ID] = f
	s.ups++
}

func (s *sink) Gone(_ context.Context, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.up, id)
}

func (s *sink) Settled(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled++
}

func (s *sink) running() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(slices.Sorted(maps.Keys(s.up)))
}

func (s *sink) Status(_ context.Context, id string, status pancake.ServiceStatus, note string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == nil {
		s.status = map[string]string{}
	}
	s.status[id] = strings.TrimSpace(status.String() + " " + note)
}

// health is what was last said of a service.
func (s *sink) health(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status[id]
}

// told counts the calls of Up and Settled.
func (s *sink) told() (ups, settled int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ups, s.settled
}

// follow runs discovery on a fake engine in simulated time.
func follow(t *testing.T, fn func(e *engine, s *sink)) {
	t.Helper()
	followLogged(t, nil, fn)
}

func followLogged(t *testing.T, log *slog.Logger, fn func(e *engine, s *sink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e, s := newEngine(), &sink{up: map[string]discover.Found{}}
		e.add("old", nil)
		d, err := discover.NewDocker(discover.DockerConfig{AdvertiseIP: "10.0.0.1", ForeignContainers: true, Log: log}, e, s)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		fn(e, s)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		synctest.Wait()
	})
}

func TestFollowsEvents(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		if _, settled := s.told(); s.running() != "[old]" || settled != 1 {
			t.Fatalf("at the start: %s, settled %d times", s.running(), settled)
		}
		e.asked()
		e.start("a", nil)
		synctest.Wait()
		if got := fmt.Sprint(e.asked()); s.running() != "[a old]" || got != "[1]" {
			t.Errorf("after a start: %s, asked %s", s.running(), got)
		}
		e.die("a")
		e.event(events.ActionDestroy, "a", nil)
		synctest.Wait()
		if got := e.asked(); s.running() != "[old]" || len(got) != 0 {
			t.Errorf("after its death: %s, asked %v", s.running(), got)
		}
		e.start("no", map[string]string{"SidecarDiscover": "false"})
		synctest.Wait()
		if got := e.asked(); s.running() != "[old]" || len(got) != 0 {
			t.Errorf("one that is not to be discovered: %s, asked %v", s.running(), got)
		}
	})
}

// TestLabelsThatAreWrong are complained about once, not each time that everything is listed.
func TestLabelsThatAreWrong(t *testing.T) {
	l := &logs{}
	followLogged(t, l.logger(), func(e *engine, _ *sink) {
		e.start("new", map[string]string{"ServicePort_80": "http", "SidecarListener": "9"})
		time.Sleep(10 * time.Minute)
	})
	for _, text := range []string{"not a port number", "not told of changes"} {
		if n := l.count(text); n != 1 {
			t.Errorf("%q %d times", text, n)
		}
	}
}

// TestWaitingForARestart: Docker lists a container among those that run also while it waits to
// start it again after a crash.
func TestWaitingForARestart(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		e.event(events.ActionDie, "old", nil)
		e.mu.Lock()
		c := e.containers["old"]
		c.State, c.Ports = container.StateRestarting, nil
		e.containers["old"] = c
		e.mu.Unlock()
		time.Sleep(time.Minute) // everything is listed again
		if got := s.running(); got != "[]" {
			t.Errorf("%s are announced", got)
		}
		e.start("old", nil)
		synctest.Wait()
		if got := s.running(); got != "[old]" {
			t.Errorf("after its start %s are announced", got)
		}
	})
}

func TestManyStartsShareAQuestion(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		e.mu.Lock()
		e.slow = time.Second
		e.mu.Unlock()
		e.asked()
		for i := range 300 {
			e.start(fmt.Sprintf("c%03d", i), nil)
		}
		time.Sleep(3 * time.Second)
		ups, _ := s.told()
		if got := e.asked(); ups != 301 || len(got) > 2 {
			t.Errorf("%d known, asked %v", ups, got)
		}
	})
}

// TestOldAnswers has containers die while Docker still answers that they run.
func TestOldAnswers(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		e.mu.Lock()
		e.slow = time.Second
		e.mu.Unlock()
		e.start("a", nil)
		time.Sleep(500 * time.Millisecond)
		e.die("a") // it was running when Docker was asked
		time.Sleep(5 * time.Second)
		if s.running() != "[old]" {
			t.Errorf("died meanwhile: %s", s.running())
		}
		e.start("b", nil)
		time.Sleep(500 * time.Millisecond)
		e.die("b")
		e.start("b", nil)
		time.Sleep(5 * time.Second)
		if s.running() != "[b old]" {
			t.Errorf("restarted meanwhile: %s", s.running())
		}
	})
}

func TestMissedEventsAreMadeUpFor(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		e.add("a", nil)
		e.mu.Lock()
		delete(e.containers, "old")
		e.mu.Unlock()
		time.Sleep(31 * time.Second)
		ups, settled := s.told()
		if s.running() != "[a]" || settled != 1 {
			t.Errorf("%s, settled %d times", s.running(), settled)
		}
		time.Sleep(10 * time.Minute)
		if again, _ := s.told(); again != ups {
			t.Errorf("told %d times of what it knew", again-ups)
		}
	})
}

func TestDockerGoesAndComes(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		e.setDown(true)
		time.Sleep(10 * time.Minute)
		if s.running() != "[old]" {
			t.Errorf("without Docker: %s", s.running())
		}
		e.mu.Lock()
		if e.tries > 120 {
			t.Errorf("tried %d times in ten minutes", e.tries)
		}
		delete(e.containers, "old")
		e.mu.Unlock()
		e.setDown(false)
		time.Sleep(20 * time.Second)
		if s.running() != "[]" {
			t.Errorf("with Docker again: %s", s.running())
		}
	})
}

// TestOldAnswersAboutHealth has a container get well while Docker still answers that it is not.
func TestOldAnswersAboutHealth(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		e.start("a", map[string]string{"HealthCheck": "Docker"})
		e.mu.Lock()
		c := e.containers["a"]
		c.Status = "Up 5 seconds (unhealthy)"
		e.containers["a"] = c
		e.mu.Unlock()
		e.event("health_status: unhealthy", "a", nil)
		synctest.Wait()
		if got := s.health("a"); got != "Unhealthy Docker's health check fails" {
			t.Fatalf("%q", got)
		}
		e.mu.Lock()
		e.slow = time.Second
		e.mu.Unlock()
		e.start("b", nil) // Docker is asked, and says of a only what is of no use
		e.event("update", "a", map[string]string{"HealthCheck": "Docker"})
		time.Sleep(100 * time.Millisecond)
		e.mu.Lock()
		c.Status = "Up 6 seconds (healthy)"
		e.containers["a"] = c
		e.mu.Unlock()
		e.event("health_status: healthy", "a", nil)
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			if got := s.health("a"); got != "Alive" {
				t.Fatalf("%q", got)
			}
		}
		e.mu.Lock()
		c.Status = "Up 7 seconds (unhealthy)"
		e.containers["a"] = c
		e.mu.Unlock()
		time.Sleep(time.Minute) // no event tells of it
		if got := s.health("a"); got != "Unhealthy Docker's health check fails" {
			t.Errorf("%q", got)
		}
	})
}

// TestHeartBeatsOfContainers has a container ask for a check that is not for it.
func TestHeartBeatsOfContainers(t *testing.T) {
	follow(t, func(e *engine, s *sink) {
		e.start("a", map[string]string{"HealthCheck": "Ttl"})
		synctest.Wait()
		if got := s.health("a"); !strings.HasPrefix(got, "Unhealthy a check of type Ttl is for services that register themselves") {
			t.Errorf("%q", got)
		}
	})
}
