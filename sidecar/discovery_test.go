package sidecar_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// call makes a request and expects a status.
func call(t *testing.T, method, url, body string, want int) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil || resp.StatusCode != want {
		t.Errorf("%s %s: %s %s, %v", method, url, resp.Status, text, err)
	}
	return text
}

// TestRegistrationAnswersWithTheRecord as it is in the catalogue from then on.
func TestRegistrationAnswersWithTheRecord(t *testing.T) {
	n := start(t, "n1", "127.62.3.1", func(c *sidecar.Config) {
		c.Discovery, c.StaticFile = []sidecar.Method{sidecar.ByStatic}, filepath.Join(t.TempDir(), "services.json")
		if err := os.WriteFile(c.StaticFile, []byte("[]"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	for _, body := range []string{
		`{"Service": {"Name": "worker", "Ports": [{"Port": 9000, "ServicePort": 90}]}, "TTL": "10m"}`,
		`{"Service": {"Name": "worker", "Ports": [{"Port": 9001, "ServicePort": 90}]}, "TTL": "10m"}`, // a change
		`{"Service": {"Name": "worker", "Ports": [{"Port": 9001, "ServicePort": 90}]}, "TTL": "10m"}`, // the same again
	} {
		before := time.Now()
		var answer pancake.Service
		if err := json.Unmarshal(call(t, "PUT", n.URL+"/api/services/w-1", body, http.StatusOK), &answer); err != nil {
			t.Fatal(err)
		}
		stored := n.find("n1", "w-1")
		if stored == nil || !reflect.DeepEqual(answer, *stored) {
			t.Errorf("answered %+v\nstored   %+v", answer, stored)
		}
		if answer.Updated.IsZero() || answer.Updated.After(time.Now()) || answer.Status != pancake.Alive || answer.Updated.Before(before.Add(-time.Minute)) {
			t.Errorf("answered %+v", answer)
		}
	}
}

// TestServicesThatAreNoContainers has services in a file and such as register
// themselves, seen by another host, and restarts their Sidecar.
func TestServicesThatAreNoContainers(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintln(w, "state: ready")
	}))
	t.Cleanup(web.Close)
	_, port, err := net.SplitHostPort(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "services.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := "- Service: {ID: one, Name: web, Ports: [{Port: " + port + ", ServicePort: 80, IP: 127.0.0.1}]}\n" +
		"  Check: {Type: HttpGet, Args: 'http://127.0.0.1:{{ tcp 80 }}/%s', Body: 'state: ready', Fall: 1}\n"
	write(fmt.Sprintf(entry, "health"))

	configure := func(c *sidecar.Config) {
		c.Discovery, c.StaticFile, c.RegistrationsFile, c.Quiet = []sidecar.Method{sidecar.ByStatic}, file, filepath.Join(dir, "registrations.json"), true
	}
	n1 := start(t, "n1", "127.21.1.1", configure)
	address := n1.address()
	n2 := start(t, "n2", "127.21.1.2", func(c *sidecar.Config) { c.Seeds, c.Passive = []string{address}, true })
	nodes := []*node{n1, n2}
	all(t, nodes, "n1", "one", pancake.Alive)

	registered := `{"Service": {"Name": "worker", "Ports": [{"Port": ` + port + `, "ServicePort": 90}]}, "TTL": "10m"}`
	call(t, "PUT", n1.URL+"/api/services/two", registered, http.StatusOK)
	all(t, nodes, "n1", "two", pancake.Alive)
	call(t, "PUT", n1.URL+"/api/services/two/ttl", `{"Status": "unhealthy", "Note": "queue full"}`, http.StatusNoContent)
	all(t, nodes, "n1", "two", pancake.Sick)
	if s := n1.find("n1", "two"); s.Note != "queue full" {
		t.Errorf("%+v", s)
	}
	call(t, "PUT", n1.URL+"/api/services/two/ttl", "", http.StatusNoContent)
	all(t, nodes, "n1", "two", pancake.Alive)
	call(t, "PUT", n1.URL+"/api/services/one", registered, http.StatusConflict)
	call(t, "PUT", n1.URL+"/api/services/three", `{"Service": {}}`, http.StatusBadRequest)
	call(t, "DELETE", n1.URL+"/api/services/three", "", http.StatusNotFound)

	write(fmt.Sprintf(entry, "gone"))
	all(t, nodes, "n1", "one", pancake.Sick)
	write(fmt.Sprintf(entry, "health") + "  Oops: 1\n") // stays as it was
	eventually(t, "the file is read", func() bool { return n1.find("n1", "one") != nil })
	write(fmt.Sprintf(entry, "health"))
	all(t, nodes, "n1", "one", pancake.Alive)

	n1.stop()
	again := start(t, "n1", "127.21.1.1", func(c *sidecar.Config) {
		configure(c)
		c.Seeds = []string{n2.address()}
	})
	nodes = []*node{again, n2}
	eventually(t, "n2 knows the new one", func() bool {
		members, err := n2.Members(t.Context())
		for _, m := range members {
			if err == nil && m.Name == "n1" && m.State == client.MemberAlive {
				return true
			}
		}
		return false
	})
	all(t, nodes, "n1", "one", pancake.Alive)
	all(t, nodes, "n1", "two", pancake.Alive)
	call(t, "DELETE", again.URL+"/api/services/two", "", http.StatusNoContent)
	all(t, nodes, "n1", "two", pancake.Tombstone)
	write("[]")
	all(t, nodes, "n1", "one", pancake.Tombstone)
}
