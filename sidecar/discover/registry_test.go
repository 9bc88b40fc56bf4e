package discover_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

const web = `{"Service": {"Name": "web", "Ports": [{"Port": 8080, "ServicePort": 80}]}, "TTL": "30s"}`

// registry runs one in simulated time.
func registry(t *testing.T, cfg discover.RegistryConfig, fn func(t *testing.T, r *discover.Registry, s *sink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		cfg.AdvertiseIP, cfg.Hostname = cmp.Or(cfg.AdvertiseIP, "10.0.0.1"), "here"
		r := discover.NewRegistry(cfg, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		fn(t, r, s)
		cancel()
		<-done
		if _, settled := s.told(); settled != 1 {
			t.Errorf("settled %d times", settled)
		}
		if err := r.Deregister(context.Background(), "x"); pancake.KindOf(err) != pancake.Unavailable {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestRegistration(t *testing.T) {
	registry(t, discover.RegistryConfig{}, func(t *testing.T, r *discover.Registry, s *sink) {
		svc, err := r.Register(t.Context(), "web-1", []byte(web))
		if err != nil {
			t.Fatal(err)
		}
		if svc.ID != "web-1" || svc.Hostname != "here" || svc.Status != pancake.Alive || fmt.Sprint(svc.Ports) != "[{tcp 8080 80 10.0.0.1 0}]" {
			t.Errorf("%+v", svc)
		}
		if s.running() != "[web-1]" || s.health("web-1") != "Alive" {
			t.Errorf("%s, %s", s.running(), s.health("web-1"))
		}
		time.Sleep(20 * time.Second)
		if err := r.Beat(t.Context(), "web-1", pancake.Sick, "database is\ndown"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if s.running() != "[web-1]" || s.health("web-1") != "Unhealthy database is down" {
			t.Errorf("after a heart beat: %s, %s", s.running(), s.health("web-1"))
		}
		time.Sleep(11 * time.Second)
		if s.running() != "[]" {
			t.Errorf("31 s without a heart beat: %s", s.running())
		}
		for _, err := range []error{r.Beat(t.Context(), "web-1", pancake.Alive, ""), r.Deregister(t.Context(), "web-1")} {
			if pancake.KindOf(err) != pancake.NotFound {
				t.Errorf("of one that is gone: %v", err)
			}
		}
	})
}

// TestHostWithAnotherAddress was started again with it: what is reached at its own address moves.
func TestHostWithAnotherAddress(t *testing.T) {
	cfg := discover.RegistryConfig{Path: filepath.Join(t.TempDir(), "registrations.json")}
	registry(t, cfg, func(t *testing.T, r *discover.Registry, _ *sink) {
		if _, err := r.Register(t.Context(), "w", []byte(`{"Service": {"Name": "w", "Ports": [{"Port": 1}, {"Port": 2, "IP": "10.7.7.7"}]}}`)); err != nil {
			t.Fatal(err)
		}
	})
	cfg.AdvertiseIP = "10.0.0.2"
	registry(t, cfg, func(t *testing.T, _ *discover.Registry, s *sink) {
		synctest.Wait()
		if got := fmt.Sprint(s.up["w"].Service.Ports); got != "[{tcp 1 0 10.0.0.2 0} {tcp 2 0 10.7.7.7 0}]" {
			t.Error(got)
		}
	})
}

func TestHeartBeatsThatAreLate(t *testing.T) {
	registry(t, discover.RegistryConfig{}, func(t *testing.T, r *discover.Registry, s *sink) {
		if _, err := r.Register(t.Context(), "w", []byte(`{"Service": {"Name": "w"}, "Check": {"Type": "Ttl", "Args": "5s"}, "TTL": "1m"}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if s.health("w") != "Unhealthy no heart beat for 5s" {
			t.Errorf("%s", s.health("w"))
		}
		if err := r.Beat(t.Context(), "w", pancake.Alive, ""); err != nil {
			t.Fatal(err)
		}
		if s.health("w") != "Alive" {
			t.Errorf("after a heart beat: %s", s.health("w"))
		}
		time.Sleep(61 * time.Second)
		if s.running() != "[]" {
			t.Errorf("after its TTL: %s", s.running())
		}
	})
}

func TestRegistrationsThatStay(t *testing.T) {
	registry(t, discover.RegistryConfig{Max: 2, Taken: func(id string) bool { return id == "container" }}, func(t *testing.T, r *discover.Registry, s *sink) {
		put := func(id, body string) error {
			_, err := r.Register(t.Context(), id, []byte(body))
			return err
		}
		if err := put("a", `{"Service": {"Name": "a", "Ports": [{"Port": 1}]}, "Check": {"Type": "Tcp"}}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if s.running() != "[a]" || s.health("a") != "" {
			t.Errorf("%s, %q", s.running(), s.health("a"))
		}
		if err := put("container", web); pancake.KindOf(err) != pancake.Conflict {
			t.Errorf("an ID of another source: %v", err)
		}
		if err := put("b", web); err != nil {
			t.Fatal(err)
		}
		if err := put("c", web); pancake.KindOf(err) != pancake.NoRoom {
			t.Errorf("one too many: %v", err)
		}
		ups, _ := s.told()
		if err := put("b", web); err != nil { // the same again
			t.Fatal(err)
		}
		if again, _ := s.told(); again != ups {
			t.Errorf("told %d times of the same", again-ups)
		}
		before, _ := s.get("b")
		if err := put("b", strings.Replace(web, "8080", "8081", 1)); err != nil {
			t.Fatal(err)
		}
		if after, _ := s.get("b"); after.Service.Ports[0].Port != 8081 || !after.Service.Created.Equal(before.Service.Created) {
			t.Errorf("%+v", after)
		}
		if got := s.running(); got != "[a b]" {
			t.Errorf("registered are %s", got)
		}
		if err := r.Deregister(t.Context(), "a"); err != nil || s.running() != "[b]" {
			t.Errorf("%v, %s", err, s.running())
		}
		if err := r.Beat(t.Context(), "b", pancake.Draining, ""); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%v", err)
		}
	})
}

func TestRegistrationsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "registrations.json")
	cfg := discover.RegistryConfig{Path: path}
	registry(t, cfg, func(t *testing.T, r *discover.Registry, s *sink) {
		var wg sync.WaitGroup
		for i := range 100 { // at once, so that they share writes
			wg.Go(func() {
				if _, err := r.Register(t.Context(), fmt.Sprintf("s%02d", i), []byte(web)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := r.Beat(t.Context(), "s01", pancake.Sick, "full"); err != nil {
			t.Fatal(err)
		}
		if err := r.Deregister(t.Context(), "s02"); err != nil {
			t.Fatal(err)
		}
	})
	registry(t, cfg, func(t *testing.T, r *discover.Registry, s *sink) {
		synctest.Wait()
		if ups, _ := s.told(); ups != 99 || s.health("s01") != "Unhealthy full" || s.health("s03") != "Alive" || s.health("s02") != "" {
			t.Errorf("%d known, %s, %s", ups, s.health("s01"), s.health("s03"))
		}
		time.Sleep(29 * time.Second)
		if err := r.Beat(t.Context(), "s05", pancake.Alive, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if s.running() != "[s05]" {
			t.Errorf("32 s after the restart: %s", s.running())
		}
	})
	registry(t, cfg, func(t *testing.T, _ *discover.Registry, s *sink) {
		synctest.Wait()
		if s.running() != "[s05]" {
			t.Errorf("after another: %s", s.running())
		}
	})
}

func TestRegistrationsThatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "registrations.json")
	if err := os.WriteFile(path, []byte(`{"Version": 1, "Serv`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &logs{}
	registry(t, discover.RegistryConfig{Path: path, Log: l.logger()}, func(t *testing.T, r *discover.Registry, s *sink) {
		synctest.Wait()
		if _, err := os.Stat(path + ".damaged"); err != nil || l.count("have to register again") != 1 {
			t.Errorf("a damaged file: %v", err)
		}
		if err := os.Mkdir(path, 0o700); err != nil { // nothing can be put in its place
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Register(t.Context(), "a", []byte(web)); pancake.KindOf(err) != pancake.Unavailable || s.running() != "[]" {
			t.Errorf("not written down: %v, %s", err, s.running())
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Register(t.Context(), "a", []byte(web)); err != nil || s.running() != "[a]" {
			t.Errorf("written down: %v, %s", err, s.running())
		}
	})
}

func TestBodiesThatAreNoGood(t *testing.T) {
	registry(t, discover.RegistryConfig{}, func(t *testing.T, r *discover.Registry, s *sink) {
		service := func(rest string) string { return `{"Service": {"Name": "x", "Ports": [{"Port": 1}]}` + rest + `}` }
		for _, tt := range []struct{ id, body, want string }{
			{"a/b", web, "1 to 128 letters"},
			{strings.Repeat("a", 129), web, "1 to 128 letters"},
			{"a", "", "EOF"},
			{"a", "[]", "found array, expected an object"},
			{"a", "{}", "Service.Name is missing"},
			{"a", web + "{}", "something follows"},
			{"a", `{"Service": {"Name": "` + strings.Repeat("x", 70_000) + `"}}`, "more than 65536 bytes"},
			{"a", `{"Service": {"Name": "` + strings.Repeat("x", 600) + `"}}`, "more than 512 bytes"},
			{"a", service(`, "TTL": "1"`), "not a duration"},
			{"a", service(`, "TTL": "1ms"`), "from 1s to 168h"},
			{"a", service(`, "Check": {"Type": "External", "Args": "/bin/rm -rf /"}`), "may not have programs run"},
			{"a", service(`, "Check": {"Type": "Docker"}`), "for containers"},
			{"a", service(`, "Check": {"Type": "Ttl"}`), "needs TTL"},
			{"a", service(`, "Check": {"Type": "Ttl", "Args": "soon"}`), "it is a duration"},
			{"a", service(`, "Check": {"Type": "HttpGet", "Status": "20"}`), "not a status"},
		} {
			if _, err := r.Register(t.Context(), tt.id, []byte(tt.body)); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%.80s: %v, want %q", tt.body, err, tt.want)
			}
		}
		if s.running() != "[]" {
			t.Errorf("%s", s.running())
		}
	})
}

func FuzzRegistration(f *testing.F) {
	f.Add([]byte(web))
	f.Add([]byte(`{"Service":{"Name":"x","Labels":{"traefik.enable":"true"}},"Check":{"Type":"Ttl","Args":"5s","Rise":2},"ListenPort":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := discover.ParseRegistration(body, "10.0.0.1")
		if err == nil && (e.Service.Name == "" || e.Service.Task != "" || e.Check.Type == "External" || len(e.Service.Ports) > 128) {
			t.Fatalf("%+v", e)
		}
	})
}
