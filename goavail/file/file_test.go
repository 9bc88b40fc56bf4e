package file

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/notify"
	"github.com/pancake-stack/pancake/goavail/source"
)

func none(string) string { return "" }

const head = "provider: {name: cloudflare}\ntargets:\n  - {name: a, address: 192.0.2.1, port: 80}\nrecords:\n  - {name: www.example.com, targets: [a]}\n"

func TestMistakes(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", "g.yml: is empty"},
		{"a: [", "g.yml:2:1: not valid YAML: "},
		{"[a]", "g.yml:1:1: a list where keys and values are needed"},
		{head + "---\nx: y", "a second document begins here"},
		{head + "plces: []", "g.yml:6:1: plces: unknown key; did you mean places?"},
		{head + "place: a\nplace: b", "g.yml:7:1: place: is set twice, first on line 6"},
		{head + "timing: {lease: 10}", `g.yml:6:17: timing.lease: "10" where a length of time is needed`},
		{head + "timing: {lease: -10s}", "timing.lease: \"-10s\" where a length of time is needed"},
		{head + "canary_need: many", `g.yml:6:14: canary_need: "many" where a whole number is needed`},
		{head + "dry_run: perhaps", "dry_run: \"perhaps\" where true or false is needed"},
		{head + "places: {a: b}", "places: keys and values where a list is needed"},
		{head + "places: [{name: a, address: x}]", `g.yml:6:29: places[0].address: "x" is not host:port`},
		{head + "places: [{name: a}, {name: a}]", `places[1].name: there is a place "a" already`},
		{head + "places: [{name: a, key: zz}]", "places[0].key: is not a public key"},
		{head + "safety: {panic_percent: 101}", "safety.panic_percent: 101 is not between 1 and 100"},
		{head + "notify: {slack: {url: https://hooks.slack.com/services/x}}", "the address of a Slack webhook is a secret"},
		{head + "notify: {webhook: {url: https://x, events: [chnge]}}", "did you mean change?"},
		{strings.Replace(head, "cloudflare", "clodflare", 1), `provider.name: "clodflare" is not a provider; did you mean cloudflare?`},
		{strings.Replace(head, "cloudflare}", "cloudflare, server: x}", 1), "provider.server: is a key of rfc2136, and the provider is cloudflare"},
		{strings.Replace(head, "[a]", "[aa]", 1), `g.yml:5:39: records[0].targets[0]: there is no target "aa"; did you mean a?`},
		{strings.Replace(head, "port: 80", "kind: tpc", 1), "targets[0]: kind \"tpc\" is not known"},
		{strings.Replace(head, ", port: 80", "", 1), "targets[0]: tcp needs a port"},
		{strings.Replace(head, "address: 192.0.2.1", "from: {sidecar: x}", 1), "targets[0].from.service: is missing"},
		{strings.Replace(head, "targets: [a]", "ttl: 5s, targets: [a]", 1), "records[0].ttl: Cloudflare takes"},
		{strings.Replace(head, "targets: [a]", "min_healthy: 2, targets: [a]", 1), "g.yml:5:5: records[0]: min_healthy 2 is more than the 1 targets"},
		{head + "safety: {min_healthy: 2}", "min_healthy 2 is more than the 1 targets"},
		{head + "places: [{name: a}, {name: b}]", "g.yml: gossip.key_file: is missing; agents that talk over a network need a key"},
		{head + "places: [{name: a, region: eu}, {name: b, region: eu}]", `g.yml:6:33: places[1]: b is where a is, in region "eu"`},
		{head + "api: {listen: \"0.0.0.0:7950\"}", "g.yml:6:15: api.listen: 0.0.0.0:7950 can be reached by others, and the API would ask nobody"},
		{head + "api: {listen: \"0.0.0.0:7950\", plain_http: true}", "the API would ask nobody"},
		{head + "api: {listen: \"192.0.2.1:7950\", token_file: x}", "api.listen: 192.0.2.1:7950 can be reached by others, who could read the token on the way"},
		{head + "api: {identity: x, token_file: y}", "g.yml:6:6: api: the API takes either certificates"},
		{strings.Repeat("[", 40), "exceeded max depth"},
	} {
		_, err := Parse("g.yml", []byte(tc.text), OldFlags{}, none)
		if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.60q:\n got %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

// A token over plain HTTP beyond loopback is taken from who asks for it, and warned of.
func TestPlainHTTPOnDemand(t *testing.T) {
	for text, warned := range map[string]bool{
		`api: {listen: "127.0.0.2:7950", token_file: x}`:                   false,
		`api: {listen: "192.0.2.1:7950", token_file: x, plain_http: true}`: true,
		`api: {listen: "192.0.2.1:7950", identity: x}`:                     false,
	} {
		f, err := Parse("g.yml", []byte(head+text), OldFlags{}, none)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := strings.Contains(strings.Join(f.Advice(), "\n"), "the token travels as it is"); got != warned {
			t.Errorf("%s: warned %t: %q", text, got, f.Advice())
		}
	}
}

func TestAliasesAndMerges(t *testing.T) {
	text := `provider: {name: cloudflare}
check: &fast {kind: http, interval: 1s}
targets:
  - {<<: *fast, name: a, address: 192.0.2.1, interval: 2s}
  - {name: b, interval: 3s, <<: *fast, address: 192.0.2.2}
records: [{name: x.example.com, targets: [a, {target: b, value: 192.0.2.9}]}]
`
	f, err := Parse("g.yml", []byte(text), OldFlags{}, none)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := f.Config(nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := cfg.Targets[0].Check, cfg.Targets[1].Check; a.Interval != 2*time.Second || b.Interval != 3*time.Second || a.Kind != "http" || b.Port != 80 {
		t.Errorf("%+v\n%+v", a, b)
	}
	if m := cfg.Records[0].Members; len(m) != 2 || m[1].Value != "192.0.2.9" || m[0].Value != "" {
		t.Errorf("%+v", m)
	}
}

// A bomb of aliases is refused rather than expanded.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("etcd: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		b.WriteString("x" + string(rune('a'+i)) + ": 1\n")
	}
	b.WriteString("targets: [" + strings.TrimSuffix(strings.Repeat("{from: {etcd: *a0}}, ", 30_000), ", ") + "]\n")
	if _, err := Parse("g.yml", []byte(b.String()), OldFlags{}, none); err == nil || !strings.Contains(err.Error(), "more than 200000 values") {
		t.Errorf("%.300v", err)
	}
}

// What Print writes is read back as the same.
func TestPrintReadsBack(t *testing.T) {
	text, err := os.ReadFile("../../examples/goavail/goavail.yml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("goavail.yml", text, OldFlags{}, none)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Print(&b, f.Settings); err != nil {
		t.Fatal(err)
	}
	again, err := Parse("again.yml", []byte(b.String()), OldFlags{}, none)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if !reflect.DeepEqual(f.Settings, again.Settings) {
		t.Errorf("it differs:\n%s", b.String())
	}
}

// The documentation names every key.
func TestEveryKeyIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/goavail/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for field := range typ.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if name != "" && !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("docs/goavail/configuration.md does not name `%s` of %s", name, typ.Name())
			}
			walk(field.Type)
		}
	}
	walk(reflect.TypeFor[Settings]())
}

const old = `
failure_threshold = 3
interval = 2
port = 443
slack_addr = "T0/B0/xyz"
[Members]
peers = ["10.0.0.2:8080", "10.0.0.3:8080"]
local_addr = "10.0.0.1:8080"
members_port = 7946
min_peers_agree = 1
crypto_key = "0123456789abcdef"
[Cloudflare]
dns_proxied = true
dns_domain = "example.com"
hostnames = ["www", "api.example.com"]
ip_addresses = ["192.0.2.1", "192.0.2.2"]
[Route53]
aws_domain = "example.net."
hostnames = ["www"]
ip_addresses = ["192.0.2.3"]
ttl = 60
aws_zoneid = "Z1"
aws_region = "us-east-1"
`

func TestOldFile(t *testing.T) {
	if _, err := Parse("old.toml", []byte(old), OldFlags{}, none); err == nil || !strings.Contains(err.Error(), "has both") {
		t.Errorf("two providers: %v", err)
	}
	f, err := Parse("old.toml", []byte(old), OldFlags{Provider: "cloudflare"}, none)
	if err != nil {
		t.Fatal(err)
	}
	s := f.Settings
	if s.Place != "10-0-0-1" || len(s.Places) != 3 || s.Check.Fall != 4 || s.Check.Rise != 4 || s.Check.Port != 443 || s.Check.Kind != "tcp" ||
		len(s.Targets) != 2 || len(s.Records) != 2 || s.Records[0].Name != "www.example.com" || s.Records[1].Name != "api.example.com" || !s.Records[0].Proxied {
		t.Errorf("%+v", s)
	}
	all := strings.Join(f.Warnings, "\n")
	for _, want := range []string{"one sample more", "members_port: it was never used", "2 of 3", "crypto_key", "slack_addr"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning says %q:\n%s", want, all)
		}
	}
	var b strings.Builder
	if err := Print(&b, s); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String()+all, "0123456789abcdef") || strings.Contains(b.String(), "xyz") {
		t.Error("a secret was taken over:\n" + b.String())
	}
	f, err = Parse("old.toml", []byte(old), OldFlags{Provider: "route53", Type: "ip"}, none)
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Settings; s.Check.Kind != "icmp" || s.Provider.Zones[0] != "example.net=Z1" || s.Records[0].TTL != Duration(time.Minute) || s.Records[0].Name != "www.example.net" {
		t.Errorf("%+v", s)
	}
	if _, err := Parse("old.toml", []byte("failure_threshold = 3\ninterval = \"2\"\n"), OldFlags{}, none); err == nil || !strings.HasPrefix(err.Error(), "old.toml:2: interval: not as the old goavail reads it") {
		t.Errorf("a value of the wrong type: %v", err)
	}
	for _, text := range []string{"failure_threshold = x", "interval = \"2\"\n", "", "[Route53]\nhostnames = [\"a\"]"} {
		if _, err := Parse("old.toml", []byte(text), OldFlags{}, none); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	text := head + "gossip: {key_file: " + key + "}\nnotify: {slack: {secret_env: SLACK}, webhook: {url: https://user:pw@example.com}}\n"
	load := func(getenv func(string) string) *File {
		t.Helper()
		f, err := Parse("g.yml", []byte(text), OldFlags{}, getenv)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if _, err := load(none).Config(nil); err == nil || !strings.Contains(err.Error(), "gossip.key_file: there is no file") {
		t.Errorf("no file: %v", err)
	}
	write("not a key", 0o600)
	if _, err := load(none).Config(nil); err == nil || strings.Contains(err.Error(), "not a key\"") || !strings.Contains(err.Error(), "is not a key of 16, 24 or 32 bytes") {
		t.Errorf("bad key: %v", err)
	}
	write("MDEyMzQ1Njc4OWFiY2RlZg==\n# older\nYWJjZGVmZ2hpamtsbW5vcA==\n", 0o600)
	f := load(none)
	cfg, err := f.Config(nil)
	if err != nil || len(cfg.GossipKeys) != 2 || len(cfg.GossipKeys[1]) != 16 {
		t.Errorf("%v %v", cfg.GossipKeys, err)
	}
	if _, err := f.Hooks(); err == nil || !strings.Contains(err.Error(), "the variable SLACK is not set") {
		t.Errorf("no variable: %v", err)
	}
	f = load(func(string) string { return "https://hooks.slack.com/services/T/B/x" })
	hooks, err := f.Hooks()
	if err != nil || len(hooks) != 2 || hooks[1].Kind != notify.Slack {
		t.Errorf("%v %v", hooks, err)
	}
	var b strings.Builder
	if err := f.Print(&b); err != nil || strings.Contains(b.String(), "pw@") || !strings.Contains(b.String(), "********") {
		t.Errorf("%v\n%s", err, b.String())
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	f = load(none)
	if _, err := f.Config(nil); err != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "can be read by others") {
		t.Errorf("%v %q", err, f.Warnings)
	}
}

func TestNodesOfThePlatform(t *testing.T) {
	text := `provider: {name: cloudflare}
targets: [{name: ingress, from: {sidecar: "http://127.0.0.1:7777", service: ingress}, kind: https}]
records:
  - {name: www.example.com, min_healthy: 3, targets: [ingress]} # the platform says how many there are
  - {name: www.example.com, type: AAAA, targets: [ingress]}
`
	f, err := Parse("g.yml", []byte(text), OldFlags{}, none)
	if err != nil {
		t.Fatal(err)
	}
	targets, records := f.Watched(map[string][]source.Node{"ingress": {
		{Name: "n1", Address: "192.0.2.1", Port: 8443}, {Name: "n2", Address: "2001:db8::1", Port: 8443, Drain: true},
	}})
	if len(targets) != 2 || targets[0].Name != "ingress/n1" || targets[0].Check.Port != 8443 || !targets[1].Drain {
		t.Errorf("%+v", targets)
	}
	for i, want := range []string{"ingress/n1", "ingress/n2"} {
		if m := records[i].Members; len(m) != 1 || m[0].Target != want || records[i].Type != []string{dns.A, dns.AAAA}[i] {
			t.Errorf("%+v", records[i])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(head, false)
	f.Add(old, true)
	f.Fuzz(func(t *testing.T, text string, toml bool) {
		name := "g.yml"
		if toml {
			name = "g.toml"
		}
		file, err := Parse(name, []byte(text), OldFlags{}, none)
		if err == nil {
			_, err = file.Config(nil)
		}
		if err != nil && pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%v", err)
		}
	})
}
