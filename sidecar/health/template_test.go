package health

import (
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
)

func TestExpand(t *testing.T) {
	c := New(Config{Host: "10.0.0.1", Hostname: "n1"})
	svc := &pancake.Service{Ports: []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 80}, {Type: "udp", Port: 31053, ServicePort: 53}}}
	for args, want := range map[string]string{
		"http://{{ host }}:{{ tcp 80 }}/up":                   "http://10.0.0.1:31000/up",
		"{{container}} {{ udp 53 }}":                          "n1 31053",
		`{{ if eq host "10.0.0.1" }}yes{{ else }}no{{ end }}`: "yes",
		`{{ if and host (not false) }}{{ tcp 80 }}{{ end }}`:  "31000",
		"plain": "plain",
	} {
		if got, err := c.expand(args, svc); err != nil || got != want {
			t.Errorf("%s: %q, %v", args, got, err)
		}
	}
}

// TestExpandIsCheap: a label of some hundred bytes must not cost gigabytes. Each of these
// doubles a text with each step.
func TestExpandIsCheap(t *testing.T) {
	c := New(Config{})
	for _, args := range []string{
		`{{ $a := "x" }}` + strings.Repeat(`{{ $a = print $a $a }}`, 18) + `{{ $a }}`,
		`{{ "'" ` + strings.Repeat("| js ", 18) + `}}`,
		`{{ ("\"" ` + strings.Repeat(`| printf "%q" `, 18) + `) }}`,
		`{{ if (printf "%1000000d" 1) }}{{ end }}`,
		`{{ range $i := "abc" }}{{ end }}`,
		`{{ define "a" }}{{ end }}{{ template "a" }}`,
		`{{ (html "<").X }}`,
	} {
		if got, err := c.expand(args, &pancake.Service{}); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%.40s: %d bytes, %v", args, len(got), err)
		}
	}
}
