package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake/sidecar/client"
)

// repeating is a Sidecar that says the same every ten seconds.
type repeating string

func (r repeating) RoundTrip(req *http.Request) (*http.Response, error) {
	body, w := io.Pipe()
	context.AfterFunc(req.Context(), func() { _ = w.CloseWithError(req.Context().Err()) })
	go func() {
		for {
			if _, err := io.WriteString(w, string(r)); err != nil {
				return
			}
			time.Sleep(10 * time.Second)
		}
	}()
	return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
}

// TestClockOfTheFuture: a state from a host whose clock is ahead must not make a Receiver deaf
// to all that follows.
func TestClockOfTheFuture(t *testing.T) {
	r := client.NewReceiver(1, func(*client.State) {})
	post := func(cluster string, at time.Time) {
		t.Helper()
		body, err := json.Marshal(client.StateChangedEvent{State: &client.State{ClusterName: cluster, LastChanged: at}, ChangeEvent: client.ChangeEvent{Time: at}})
		if err != nil {
			t.Fatal(err)
		}
		r.UpdateHandler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/sidecar/update", bytes.NewReader(body)))
		if got := r.State().ClusterName; got != cluster {
			t.Errorf("after %q it knows %q", cluster, got)
		}
	}
	now := time.Now()
	post("ahead", now.Add(time.Hour))
	post("right", now)
	post("later", now.Add(time.Second))
}

var errEnough = errors.New("enough")

// TestSlowConsumersAreNotCutOff: that the caller takes its time is no silence of the Sidecar.
func TestSlowConsumersAreNotCutOff(t *testing.T) {
	take := func(calls *int) error {
		if *calls++; *calls == 3 {
			return errEnough
		}
		time.Sleep(time.Minute)
		return nil
	}
	for name, follow := range map[string]func(calls *int) error{
		"watch": func(calls *int) error {
			c := client.Client{HTTP: &http.Client{Transport: repeating("{}\n")}}
			return c.Watch(context.Background(), func(*client.State) error { return take(calls) })
		},
		"events": func(calls *int) error {
			c := client.Client{HTTP: &http.Client{Transport: repeating("id: 1\nevent: change\ndata: {}\n\n")}}
			return c.Events(context.Background(), "", func(client.Event) error { return take(calls) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, start := 0, time.Now()
				if err := follow(&calls); !errors.Is(err, errEnough) {
					t.Errorf("after %d calls: %v", calls, err)
				}
				if took := time.Since(start); took != 2*time.Minute {
					t.Errorf("it took %s: the connection was made anew", took)
				}
				synctest.Wait()
				time.Sleep(time.Minute)
			})
		})
	}
}
