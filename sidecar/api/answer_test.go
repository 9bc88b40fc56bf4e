package api_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

func TestEntityTagsAndGzip(t *testing.T) {
	f := newFixture()
	tags := map[string]bool{}
	for _, path := range []string{"/api/state.json", "/api/services.json", "/api/services/hello.json", "/api/members.json", "/v1/services", "/v1/clusters"} {
		plain := f.do("GET", path)
		tag := plain.Header().Get("ETag")
		if tag == "" || tags[tag] || plain.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %v", path, plain.Header())
		}
		tags[tag] = true
		for _, header := range []string{tag, `"other", ` + tag, strings.TrimPrefix(tag, "W/"), "*"} {
			if w := f.send("GET", path, "", map[string]string{"If-None-Match": header}); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
				t.Errorf("%s with If-None-Match %s: %d %s", path, header, w.Code, w.Body)
			}
		}
		if w := f.send("GET", path, "", map[string]string{"If-None-Match": `"other"`}); w.Code != http.StatusOK {
			t.Errorf("%s with another tag: %d", path, w.Code)
		}
		for accept, want := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "identity": false, "": false} {
			w := f.send("GET", path, "", map[string]string{"Accept-Encoding": accept})
			got := io.Reader(w.Body)
			zipped := w.Header().Get("Content-Encoding") == "gzip"
			if want = want && plain.Body.Len() >= 1400; zipped != want {
				t.Errorf("%s with Accept-Encoding %q of %d bytes: compressed %t", path, accept, plain.Body.Len(), zipped)
			}
			if zipped {
				var err error
				if got, err = gzip.NewReader(got); err != nil {
					t.Fatal(err)
				}
			}
			if b, err := io.ReadAll(got); err != nil || string(b) != plain.Body.String() {
				t.Errorf("%s with Accept-Encoding %q is different: %v", path, accept, err)
			}
		}
	}
	tag := f.do("GET", "/api/state.json").Header().Get("ETag")
	c := example()
	c.SetStatus("deadbeef0001", pancake.Alive, "", noon.Add(time.Second))
	f.state.Set(c.Snapshot())
	if w := f.send("GET", "/api/state.json", "", map[string]string{"If-None-Match": tag}); w.Code != http.StatusOK {
		t.Errorf("after a change: %d", w.Code)
	}
}

func TestList(t *testing.T) {
	f := newFixture()
	for query, want := range map[string]string{
		"":                                       "1 2 4 5",
		"?name=hello":                            "1 2",
		"?name=hello&name=web":                   "1 2 4",
		"?host=n1":                               "1",
		"?status=alive":                          "2 4 5",
		"?status=0":                              "2 4 5",
		"?status=unhealthy,tombstone":            "1 3",
		"?status=Sick":                           "1",
		"?status=all&sort=-name":                 "5 4 3 2 1",
		"?sort=host":                             "1 2 4 5",
		"?sort=-status":                          "1 2 4 5",
		"?sort=-updated":                         "2 1 4 5",
		"?task=prod_hello-1":                     "1",
		"?task=prod":                             "",
		"?label=traefik.http.routers.hello.rule": "1",
		"?label=traefik.http.routers.hello.rule=x": "",
		"?name=none": "",
	} {
		w := f.do("GET", "/v1/services"+query)
		var out struct{ Services []pancake.Service }
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Services == nil {
			t.Fatalf("%s: %v %s", query, err, w.Body)
		}
		var ids []string
		for _, s := range out.Services {
			ids = append(ids, s.ID[11:])
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, bad := range []string{"?nmae=a", "?status=well", "?status=9", "?sort=age", "?sort="} {
		if w := f.do("GET", "/v1/services"+bad); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
}

func TestRegistration(t *testing.T) {
	f := newFixture()
	put := func(path, body string, want int) string {
		t.Helper()
		w := f.send("PUT", path, body, nil)
		if w.Code != want {
			t.Errorf("PUT %s %.80s: %d %s", path, body, w.Code, w.Body)
		}
		return w.Body.String()
	}
	if got := put("/api/services/me", `{"Name":"x"}`, 200); f.registrar.body != `{"Name":"x"}` || !strings.Contains(got, `"Name":"registered"`) {
		t.Errorf("registered %q, answered %s", f.registrar.body, got)
	}
	put("/api/services/me", strings.Repeat("x", 65<<10), 400)
	for body, want := range map[string]string{
		"": "0 ", `{}`: "0 ", `{"Status":"unhealthy","Note":"no disk"}`: "2 no disk", `{"Status":3}`: "3 ", `{"Note":"fine"}`: "0 fine",
	} {
		put("/api/services/me/ttl", body, 204)
		if got := fmt.Sprintf("%d %s", f.registrar.status, f.registrar.note); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	for _, bad := range []string{"[]", `{"Status":"dead"}`, `{"Status":4}`, `{"Status":true}`, `{"Statu":0}`, strings.Repeat(" ", 5<<10)} {
		put("/api/services/me/ttl", bad, 400)
	}
	put("/api/services/other/ttl", "", 404)
	if w := f.do("DELETE", "/api/services/me"); w.Code != 204 || !f.registrar.gone {
		t.Errorf("DELETE: %d %s", w.Code, w.Body)
	}
	if w := f.do("DELETE", "/api/services/other"); w.Code != 404 {
		t.Errorf("DELETE of another: %d", w.Code)
	}
}

// TestOtherSitesMayOnlyRead: a page in a browser on this host is not this host's user.
func TestOtherSitesMayOnlyRead(t *testing.T) {
	f := newFixture()
	foreign := map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://example.com"}
	if w := f.send("POST", "/api/services/deadbeef0001/drain", "", foreign); w.Code != http.StatusForbidden {
		t.Errorf("drain: %d", w.Code)
	}
	if w := f.send("GET", "/api/state.json", "", foreign); w.Code != http.StatusOK {
		t.Errorf("read: %d", w.Code)
	}
}

// sse is one block of an event stream.
type sse struct{ id, event, data string }

func next(t *testing.T, r *bufio.Reader) (e sse) {
	t.Helper()
	for {
		text := line(t, r)
		key, value, _ := strings.Cut(text, ": ")
		switch key {
		case "":
			return e
		case "id":
			e.id = value
		case "event":
			e.event = value
		case "data":
			e.data = value
		}
	}
}

// change adds a change of a service of n3 to the fixture's events.
func (f *fixture) change(name string, before, now pancake.ServiceStatus) {
	f.events.Add([]catalog.Change{{
		Service: &pancake.Service{ID: "c0ffee", Name: name, Hostname: "n3", Status: now, Updated: noon}, Before: before,
	}})
}

func TestEvents(t *testing.T) {
	stream(t, "/v1/events?name=a", func(f *fixture, lines *bufio.Reader, _ net.Conn) {
		hello := next(t, lines)
		start := time.Now()
		if beat := next(t, lines); beat != (sse{id: hello.id}) || time.Since(start) != 10*time.Second {
			t.Errorf("heartbeat %+v after %s", beat, time.Since(start))
		}
		f.change("b", pancake.Unknown, pancake.Alive)
		if other := next(t, lines); other.data != "" || other.id == hello.id {
			t.Errorf("a service that was not asked for: %+v", other)
		}
		f.change("a", pancake.Alive, pancake.Sick)
		e := next(t, lines)
		if want := `"Status":2},"PreviousStatus":0,"Time":"2026-03-01T12:00:00.123456789Z"}`; e.event != "change" || !strings.HasSuffix(e.data, want) {
			t.Errorf("got %+v", e)
		}
		// Repetitions, notes and what is forgotten are no news.
		svc := &pancake.Service{Name: "a"}
		f.events.Add([]catalog.Change{{Service: svc, Refresh: true}, {Service: svc, Local: true}, {Service: svc, Removed: true}})
		if mark := next(t, lines); mark.id != e.id {
			t.Errorf("after the event: %+v", mark)
		}
		if mark := next(t, lines); mark != (sse{id: e.id}) {
			t.Errorf("news: %+v", mark)
		}
	})
}

func TestEventsResume(t *testing.T) {
	f := newFixture()
	events := func(last string) []sse {
		t.Helper()
		var out []sse
		f.stream(t, "/v1/events", "Last-Event-ID: "+last+"\r\n", func(lines *bufio.Reader, _ net.Conn) {
			for {
				e := next(t, lines)
				if e.event == "" {
					out = append(out, e)
					return
				}
				out = append(out, e)
			}
		})
		return out
	}
	f.change("a", pancake.Unknown, pancake.Sick)
	f.change("a", pancake.Sick, pancake.Alive)
	last := f.events.ID(f.events.Last())
	f.change("b", pancake.Unknown, pancake.Sick)
	f.change("b", pancake.Sick, pancake.Alive)
	got := events(last)
	if len(got) != 3 || !strings.Contains(got[0].data, `"PreviousStatus":3`) || !strings.Contains(got[1].data, `"PreviousStatus":2`) {
		t.Fatalf("from %s: %+v", last, got)
	}
	if again := events(got[0].id); len(again) != 2 || again[0] != got[1] {
		t.Errorf("from %s: %+v", got[0].id, again)
	}
	for _, unknown := range []string{"17", "stranger-1", "x", f.events.ID(1 << 40)} {
		reset := events(unknown)
		if len(reset) != 2 || reset[0].event != "reset" || !strings.Contains(reset[0].data, "GET /api/state.json") || reset[0].id != got[2].id {
			t.Errorf("from %s: %+v", unknown, reset)
		}
	}
	for range 9000 { // more than are kept
		f.change("b", pancake.Alive, pancake.Sick)
	}
	if reset := events(last); reset[0].event != "reset" || slices.ContainsFunc(reset, func(e sse) bool { return e.event == "change" }) {
		t.Errorf("after a gap: %+v", reset)
	}
}
