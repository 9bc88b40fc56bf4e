package executor_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
)

// A Sidecar that was restarted with its executor has forgotten that a task is
// drained, and would send traffic to it until it is stopped.
func TestRestartInTheMiddleOfADrain(t *testing.T) {
	r := newRig(t)
	r.cfg.DrainDuration = time.Hour
	r.start()
	task := r.launch("draining", nil)
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	r.scheduler.kill(task.ID, false)
	r.scheduler.await(task.ID, "drained", func(s pancake.TaskStatus) bool { return s.Health == pancake.HealthDraining })
	r.stop()

	r.announce(task, running.ContainerID, pancake.Alive)
	r.cfg.DrainDuration = 300 * time.Millisecond
	r.start()
	r.scheduler.awaitState(task.ID, pancake.TaskKilled)
	id := running.ContainerID[:12]
	if got := r.sidecar.drains(); !slices.Equal(got, []string{id, id}) {
		t.Errorf("drained %v, want %s twice", got, id)
	}
	r.none()
}

// The engine drops events that are not taken at once. Here it drops them all.
func TestEventsAreMissed(t *testing.T) {
	r := newRig(t)
	r.cfg.Docker.Host = mute(t, r.docker.DaemonHost())
	r.cfg.Reconcile = 200 * time.Millisecond
	r.start()
	task := r.launch("unheard", map[string]string{"COLOUR": "blue"})
	running := r.scheduler.awaitState(task.ID, pancake.TaskRunning)
	if _, err := r.docker.ContainerKill(t.Context(), running.ContainerID, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	if s := r.scheduler.awaitState(task.ID, pancake.TaskFailed); s.ExitCode != 137 {
		t.Errorf("failed: %+v", s)
	}
	r.none()
}

// mute is the engine behind a socket of its own, without events.
func mute(t *testing.T, engine string) string {
	t.Helper()
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	forward.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(engine, "unix://"))
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasSuffix(req.URL.Path, "/events") {
			forward.ServeHTTP(w, req)
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return "tcp://" + srv.Listener.Addr().String()
}
