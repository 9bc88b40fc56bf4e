package traefik

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

var update = flag.Bool("update", false, "write the golden files anew")

func builder(t testing.TB) *Builder {
	t.Helper()
	b, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden builds each catalogue under testdata. The tests of the ingress
// module read the same files with Traefik's own types.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/services.json")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	b := builder(t)
	for _, file := range cases {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			conf, problems := b.Build(readServices(t, file))
			line, err := conf.Line()
			if err != nil {
				t.Fatal(err)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, line, "", "  "); err != nil {
				t.Fatal(err)
			}
			pretty.WriteByte('\n')
			golden(t, filepath.Join(dir, "traefik.json"), pretty.String())
			var text strings.Builder
			for _, p := range problems {
				fmt.Fprintln(&text, p)
			}
			golden(t, filepath.Join(dir, "problems.txt"), text.String())
		})
	}
}

func readServices(t testing.TB, file string) []pancake.Service {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var services []pancake.Service
	if err := json.Unmarshal(raw, &services); err != nil {
		t.Fatal(err)
	}
	return services
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s", file, got)
	}
}

func TestNew(t *testing.T) {
	for _, test := range []struct {
		name    string
		cfg     Config
		rule    string // of a service called My.App
		wantErr string
	}{
		{name: "zero", rule: "Host(`my-app.localhost`)"},
		{name: "domain", cfg: Config{Domain: "example.org"}, rule: "Host(`my-app.example.org`)"},
		{name: "rule", cfg: Config{DefaultRule: "PathPrefix(`/{{ normalize .Name }}{{ .Labels.suffix }}`)"}, rule: "PathPrefix(`/my-app`)"},
		{name: "bad domain", cfg: Config{Domain: "a`) || Host(`b"}, wantErr: "not a DNS name"},
		{name: "bad template", cfg: Config{DefaultRule: "{{ .Name"}, wantErr: "default rule"},
		{name: "bad field", cfg: Config{DefaultRule: "{{ .Nmae }}"}, wantErr: "Nmae"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := New(test.cfg)
			if test.wantErr != "" {
				if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), test.wantErr) {
					t.Fatalf("error %v, want an invalid one with %q", err, test.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			conf, problems := b.Build([]pancake.Service{{ID: "1", Name: "My.App", Ports: []pancake.ServicePort{{Type: "tcp", Port: 1, ServicePort: 80, IP: "10.0.0.1"}}}})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if got := conf.HTTP.Routers["my-app"].Rule; got != test.rule {
				t.Errorf("rule %s, want %s", got, test.rule)
			}
		})
	}
}

func TestDocumentOmitsWhatTraefikRefuses(t *testing.T) {
	b := builder(t)
	for name, test := range map[string]struct {
		services []pancake.Service
		want     string
	}{
		"nothing": {nil, `{}`},
		"a router to elsewhere": {
			[]pancake.Service{{ID: "1", Name: "a", Labels: map[string]string{
				"traefik.http.routers.a.rule":              "Host(`a`)",
				"traefik.http.routers.a.service":           "b@file",
				"traefik.http.services.a.failover.service": "x",
			}}},
			"{\"http\":{\"routers\":{\"a\":{\"service\":\"b@file\",\"rule\":\"Host(`a`)\"}}}}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			conf, _ := b.Build(test.services)
			got, err := conf.Document()
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if line, _ := conf.Line(); !bytes.Contains(line, []byte(`"services":{}`)) {
				t.Errorf("the line %s has no empty map, so Traefik could ignore it", line)
			}
		})
	}
}

func genService(t *rapid.T) pancake.Service {
	ports := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pancake.ServicePort {
		return pancake.ServicePort{
			Type:        rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "type"),
			Port:        int64(rapid.IntRange(0, 70000).Draw(t, "port")),
			ServicePort: int64(rapid.IntRange(0, 3).Draw(t, "service port")),
			IP:          rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "fd00::1"}).Draw(t, "ip"),
		}
	}), 0, 3).Draw(t, "ports")
	return pancake.Service{
		ID:        rapid.StringMatching(`[0-9a-f]{12}`).Draw(t, "id"),
		Name:      rapid.SampledFrom([]string{"a", "A", "b", "c.d", "c-d", "-"}).Draw(t, "name"),
		Created:   pancakeEpoch(rapid.IntRange(0, 3).Draw(t, "created")),
		Hostname:  rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "host"),
		Ports:     ports,
		ProxyMode: rapid.SampledFrom([]string{"http", "tcp", "ws", ""}).Draw(t, "mode"),
		Status:    pancake.ServiceStatus(rapid.IntRange(0, 5).Draw(t, "status")),
		Labels:    rapid.MapOfN(rapid.SampledFrom(someLabels), rapid.SampledFrom([]string{"a", "80", "true", "Host(`x`)"}), 0, 3).Draw(t, "labels"),
	}
}

var someLabels = []string{
	"traefik.enable", "traefik.http.routers.a.rule", "traefik.http.routers.x.service", "traefik.http.routers.b.priority",
	"traefik.http.services.x.loadbalancer.server.port", "traefik.http.services.a.loadbalancer.server.url",
	"traefik.http.middlewares.m.compress", "traefik.http.middlewares.m.basicauth.users",
	"traefik.tcp.routers.t.rule", "traefik.udp.routers.u.entrypoints", "traefik.http.nonsense", "traefik.tls.stores.default.defaultgeneratedcert.resolver",
}

func TestOrderDoesNotMatter(t *testing.T) {
	b := builder(t)
	rapid.Check(t, func(t *rapid.T) {
		services := rapid.SliceOfNDistinct(rapid.Custom(genService), 0, 8, func(s pancake.Service) string { return s.ID }).Draw(t, "services")
		shuffled := rapid.Permutation(services).Draw(t, "shuffled")
		one, oneProblems := b.Build(services)
		two, twoProblems := b.Build(shuffled)
		oneLine, err := one.Line()
		if err != nil {
			t.Fatal(err)
		}
		twoLine, err := two.Line()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(oneLine, twoLine) {
			t.Fatalf("order matters:\n%s\n%s", oneLine, twoLine)
		}
		if !slices.Equal(oneProblems, twoProblems) {
			t.Fatalf("order of problems matters:\n%v\n%v", oneProblems, twoProblems)
		}
	})
}

func TestOnlyAliveInstancesAreServers(t *testing.T) {
	b := builder(t)
	rapid.Check(t, func(t *rapid.T) {
		services := rapid.SliceOfNDistinct(rapid.Custom(genService), 0, 8, func(s pancake.Service) string { return s.ID }).Draw(t, "services")
		for i := range services {
			services[i].Labels = nil
			for j := range services[i].Ports { // an address of its own for each instance
				services[i].Ports[j].Port = int64(1000 + 10*i + j)
				services[i].Ports[j].IP = "10.0.0.1"
			}
		}
		conf, _ := b.Build(services)
		line, err := conf.Line()
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range services {
			at := fmt.Sprintf("10.0.0.1:%d", 100+i) // the common beginning of its addresses
			if s.Status != pancake.Alive && bytes.Contains(line, []byte(at)) {
				t.Fatalf("%s instance %s is a server: %s", s.Status, s.ID, line)
			}
		}
	})
}
