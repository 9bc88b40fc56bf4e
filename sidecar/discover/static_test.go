package discover_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/discover"
)

// sidecarsOwn is a file as NinesStack Sidecar has it.
const sidecarsOwn = `[
	{
		"Service": {
			"Name": "web",
			"Image": "abc123",
			"Ports": [
				{"Type": "tcp", "Port": 10234, "ServicePort": 9999},
				{"Type": "udp", "Port": 53, "IP": "192.168.1.1"}
			],
			"ProxyMode": "tcp"
		},
		"Check": {"Type": "HttpGet", "Args": "http://:10234/", "Interval": "5s", "Fall": 3},
		"ListenPort": 7778
	},
	{"Service": {"Name": "db", "Ports": [{"Port": 5432}]}, "Check": {}}
]`

// inYAML says the same.
const inYAML = `# services of this host
- Service:
    Name: web
    Image: abc123
    Ports:
      - {Type: tcp, Port: 10234, ServicePort: 9999}
      - {Type: udp, Port: 53, IP: 192.168.1.1}
    ProxyMode: tcp
  Check: {Type: HttpGet, Args: "http://:10234/", Interval: 5s, Fall: 3}
  ListenPort: 7778
- Service: {Name: db, Ports: [{Port: 5432}]}
`

func TestStaticFile(t *testing.T) {
	var ids []string
	for _, text := range []string{sidecarsOwn, inYAML} {
		entries, err := discover.ParseStatic([]byte(text), "10.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		e := entries[0]
		got := fmt.Sprint(e.Service.Name, e.Service.Image, e.Service.Ports, e.Service.ProxyMode, e.Check.Type, e.Check.Args, e.Check.Options, e.ListenPort)
		want := "webabc123[{tcp 10234 9999 10.0.0.1 0} {udp 53 0 192.168.1.1 0}]tcpHttpGethttp://:10234/map[Fall:3 Interval:5s]7778"
		if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if db := entries[1]; fmt.Sprint(db.Service.Ports) != "[{tcp 5432 0 10.0.0.1 0}]" || db.Service.ProxyMode != "http" || db.Check.Type != "" {
			t.Errorf("%+v", db)
		}
		ids = append(ids, e.Service.ID)
	}
	if ids[0] != ids[1] || len(ids[0]) != 12 {
		t.Errorf("IDs %q", ids)
	}
}

func TestStaticFileThatIsWrong(t *testing.T) {
	entry := func(service, rest string) string {
		return "[\n\n{\"Service\": {" + service + "}" + rest + "}]"
	}
	for name, tt := range map[string]struct{ text, want string }{
		"empty":          {"\n", "the file is empty"},
		"cut off":        {"[\n {\"Service\":", "line 2: not JSON: unexpected end"},
		"no comma":       {"[\n{}\n{}]", "line 3: not JSON: invalid character '{'"},
		"no list":        {`{"Service": {}}`, "not a list of services"},
		"YAML":           {"- a: b\n c: d", "not a list of services in YAML"},
		"YAML, an entry": {"- Service: {Name: a}\n- Service: {Name: b, Ports: [{Port: x}]}", "line 2: service \"b\": Service.Ports.Port: found string, expected a whole number"},
		"no name":        {entry("", ""), "line 3: Service.Name is missing"},
		"unknown key":    {entry(`"Name": "x", "Prots": []`, ""), `line 3: service "x": unknown field "Prots"`},
		"number":         {entry(`"Name": 1`, ""), "Service.Name: found number, expected a text"},
		"port":           {entry(`"Name": "x", "Ports": [{"Port": 0}]`, ""), `line 3: service "x": Service.Ports: entry 1: Port is 0; it is a number from 1 to 65535`},
		"address":        {entry(`"Name": "x", "Ports": [{"Port": 1, "IP": "nowhere"}]`, ""), "no address"},
		"protocol":       {entry(`"Name": "x", "Ports": [{"Port": 1, "Type": "sctp"}]`, ""), "tcp and udp"},
		"mode":           {entry(`"Name": "x", "ProxyMode": "udp"`, ""), "it can be http, tcp and ws"},
		"label":          {entry(`"Name": "x", "Labels": {"a": "b"}`, ""), "only labels that begin with traefik."},
		"check type":     {entry(`"Name": "x"`, `, "Check": {"Type": "Magic"}`), "known are HttpGet"},
		"check option":   {entry(`"Name": "x"`, `, "Check": {"Intervall": "1s"}`), "Check.Intervall does not exist"},
		"check value":    {entry(`"Name": "x"`, `, "Check": {"Interval": "1"}`), `"1" is not a duration`},
		"check object":   {entry(`"Name": "x"`, `, "Check": {"Interval": {}}`), "neither a text nor a number"},
		"ttl":            {entry(`"Name": "x"`, `, "TTL": "1s"`), "register themselves"},
		"docker":         {entry(`"Name": "x"`, `, "Check": {"Type": "Docker"}`), "no check of type Docker"},
		"listen port":    {entry(`"Name": "x"`, `, "ListenPort": 70000`), "ListenPort 70000"},
		"id":             {entry(`"Name": "x", "ID": "a/b"`, ``), "1 to 128 letters"},
		"twice":          {"[{\"Service\": {\"Name\": \"x\"}},\n{\"Service\": {\"Name\": \"x\"}}]", `line 2: service "x" has the name and ports, or the ID, of the one in line 1`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := discover.ParseStatic([]byte(tt.text), "10.0.0.1"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParseStatic(f *testing.F) {
	f.Add([]byte(sidecarsOwn))
	f.Add([]byte(inYAML))
	f.Add([]byte(`[{"Service":{"Name":"x"},"Check":{"Type":1,"Header_A":true}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := discover.ParseStatic(text, "10.0.0.1")
		ids := map[string]bool{}
		for _, e := range entries {
			if err != nil || e.Service.Name == "" || e.Service.ID == "" || ids[e.Service.ID] {
				t.Fatalf("%+v, %v", e, err)
			}
			ids[e.Service.ID] = true
		}
	})
}

// write replaces a file as an editor does, or in place.
func write(t *testing.T, path, text string, inPlace bool) {
	t.Helper()
	to := path
	if !inPlace {
		to += ".new"
	}
	if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if !inPlace {
		if err := os.Rename(to, path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStaticFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "services.json")
	s, l := newSink(), &logs{}
	static, err := discover.NewStatic(discover.StaticConfig{Path: path, AdvertiseIP: "10.0.0.1", Poll: 5 * time.Millisecond, Log: l.logger()}, s)
	if err != nil {
		t.Fatal(err)
	}
	stop := begin(t, static)
	eventually(t, "it says that there is no file", func() bool { return l.count("no such file") == 1 })
	if _, settled := s.told(); settled != 0 {
		t.Error("settled without a file")
	}
	write(t, path, `[{"Service": {"ID": "a", "Name": "a", "Image": "1"}}, {"Service": {"ID": "b", "Name": "b"}}]`, false)
	eventually(t, "the services", func() bool { _, n := s.told(); return s.running() == "[a b]" && n == 1 })
	before, _ := s.get("a")

	write(t, path, `[{"Service": {"ID": "a", "Name": "a"`, true)
	eventually(t, "it says what is wrong", func() bool { return l.count(path+":1: not JSON") == 1 })
	if s.running() != "[a b]" {
		t.Errorf("with a broken file: %s", s.running())
	}
	ups, _ := s.told()
	write(t, path, `[{"Service": {"ID": "a", "Name": "a", "Image": "2"}}, {"Service": {"ID": "b", "Name": "b"}}]`, true)
	eventually(t, "the change", func() bool { f, _ := s.get("a"); return f.Service.Image == "2" })
	if after, _ := s.get("a"); !after.Service.Created.Equal(before.Service.Created) || after.Service.Created.IsZero() {
		t.Errorf("created %s, and then %s", before.Service.Created, after.Service.Created)
	}
	if again, _ := s.told(); again != ups+1 {
		t.Errorf("told %d times", again-ups)
	}
	write(t, path, `[]`, false)
	eventually(t, "none is left", func() bool { return s.running() == "[]" })
	write(t, path, inYAML, false)
	eventually(t, "those in YAML", func() bool { ups, _ := s.told(); return ups == again(s, 5) })
	running := s.running()
	stop()

	// Another start finds the same services under the same IDs.
	s2 := newSink()
	static, err = discover.NewStatic(discover.StaticConfig{Path: path, AdvertiseIP: "10.0.0.1"}, s2)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, static)
	eventually(t, "the same IDs", func() bool { return s2.running() == running })
	for id, f := range s2.up {
		if f.Service.Name == "web" && f.Listener != "http://10.0.0.1:7778/sidecar/update" {
			t.Errorf("%s listens at %q", id, f.Listener)
		}
	}
}

// again is n once the sink has been told that often.
func again(s *sink, n int) int {
	if ups, _ := s.told(); ups < n {
		return -1
	}
	return n
}

func TestStaticNeedsAFile(t *testing.T) {
	if _, err := discover.NewStatic(discover.StaticConfig{}, newSink()); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("%v", err)
	}
}

// TestDocumentedFile reads the example of the documentation.
func TestDocumentedFile(t *testing.T) {
	text, err := os.ReadFile("../../docs/sidecar/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	entries, err := discover.ParseStatic([]byte(example), "10.0.0.1")
	if !ok || err != nil || len(entries) != 2 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestStaticPipe: a pipe that nobody writes to is no file, and holds up nothing.
func TestStaticPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "services.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := discover.NewStatic(discover.StaticConfig{Path: path}, &sink{up: map[string]discover.Found{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("still waiting for the pipe")
	}
}
