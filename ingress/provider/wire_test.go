package provider

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/traefik/paerser/file"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/config/label"
)

// goldens are the configurations that the sidecar's tests pin, with the
// catalogues they were made from.
func goldens(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("../../sidecar/traefik/testdata/*/traefik.json")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDefaultsAreWrittenOut decodes what the sidecar sends once as this
// provider does, without defaults, and once as Traefik's HTTP and file
// providers do, which set them. The two must not differ.
func TestDefaultsAreWrittenOut(t *testing.T) {
	for _, dir := range goldens(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			line := read(t, dir, "traefik.json")
			got, err := decode(line)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.HTTP.Routers) == 0 {
				return // see TestWhyThereAreTwoForms
			}
			want := &dynamic.Configuration{}
			if err := file.DecodeContent(string(line), ".yaml", want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("decoded without defaults:\n%s\nwith defaults:\n%s", show(t, got), show(t, want))
			}
		})
	}
}

// TestWhyThereAreTwoForms pins how differently Traefik takes "no routes": the
// sidecar's stream says {"http":{"routers":{},…}}, its document {}.
func TestWhyThereAreTwoForms(t *testing.T) {
	if err := file.DecodeContent(noRoutes, ".yaml", &dynamic.Configuration{}); err == nil {
		t.Error("the HTTP provider understands the stream's form; the document needs no form of its own any more")
	}
	if err := file.DecodeContent("{}", ".yaml", &dynamic.Configuration{}); err != nil {
		t.Errorf("the HTTP provider does not understand {}: %v", err)
	}
}

// TestLabelsMeanWhatTheyMeanToTraefik decodes the labels of each catalogue
// with Traefik's own label decoder and compares what the sidecar made of them.
func TestLabelsMeanWhatTheyMeanToTraefik(t *testing.T) {
	compared := 0
	for _, dir := range goldens(t) {
		switch filepath.Base(dir) {
		case "bad-labels", "collisions":
			continue // left out on purpose; Traefik even panics on one of them
		}
		got, err := decode(read(t, dir, "traefik.json"))
		if err != nil {
			t.Fatal(err)
		}
		var services []struct {
			Name   string
			Labels map[string]string
		}
		if err := json.Unmarshal(read(t, dir, "services.json"), &services); err != nil {
			t.Fatal(err)
		}
		for _, s := range services {
			want, err := label.DecodeConfiguration(s.Labels)
			if err != nil {
				t.Fatal(err)
			}
			if s.Labels["traefik.http.routers.web.rule"] == "Host(`old.example`)" {
				continue // newer labels replace these
			}
			normalize(want)
			normalize(got)
			where := filepath.Base(dir) + ": " + s.Name
			compared += same(t, where, got.HTTP.Middlewares, want.HTTP.Middlewares)
			compared += same(t, where, got.HTTP.Routers, want.HTTP.Routers)
			compared += same(t, where, got.HTTP.Services, want.HTTP.Services)
			if got.TCP != nil {
				compared += same(t, where, got.TCP.Middlewares, want.TCP.Middlewares)
				compared += same(t, where, got.TCP.Routers, want.TCP.Routers)
				compared += same(t, where, got.TCP.Services, want.TCP.Services)
			}
			if got.UDP != nil {
				compared += same(t, where, got.UDP.Routers, want.UDP.Routers)
				compared += same(t, where, got.UDP.Services, want.UDP.Services)
			}
			if got.TLS != nil {
				compared += same(t, where, got.TLS.Stores, want.TLS.Stores)
			}
		}
	}
	if compared < 40 {
		t.Errorf("only %d elements were compared", compared)
	}
}

// normalize takes out what the sidecar adds to labels: servers, and what a
// router does not say.
func normalize(c *dynamic.Configuration) {
	for _, r := range c.HTTP.Routers {
		r.Rule, r.Service = "", ""
	}
	for _, s := range c.HTTP.Services {
		if s.LoadBalancer != nil {
			s.LoadBalancer.Servers = nil
		}
	}
	if c.TCP != nil {
		for _, r := range c.TCP.Routers {
			r.Rule, r.Service = "", ""
		}
		for _, s := range c.TCP.Services {
			s.LoadBalancer.Servers = nil
		}
	}
	if c.UDP != nil {
		for _, r := range c.UDP.Routers {
			r.Service = ""
		}
		for _, s := range c.UDP.Services {
			s.LoadBalancer.Servers = nil
		}
	}
}

// same compares the elements that both have: the sidecar leaves out some, with
// a reason that its own tests pin. It returns how many.
func same[T any](t *testing.T, where string, got, want map[string]T) int {
	t.Helper()
	n := 0
	for name := range want {
		if _, ok := got[name]; !ok {
			continue
		}
		n++
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s: %s is\n%s\nwhere Traefik reads\n%s", where, name, show(t, got[name]), show(t, want[name]))
		}
	}
	return n
}

func show(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}
