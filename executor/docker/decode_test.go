package docker

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPortTaken(t *testing.T) {
	for text, want := range map[string]string{
		"driver failed programming external connectivity on endpoint x (0f): Error starting userland proxy: listen tcp4 127.0.0.1:31001: bind: address already in use": "127.0.0.1:31001",
		"driver failed: Bind for 0.0.0.0:80 failed: port is already allocated":                                                                                         "0.0.0.0:80",
		"listen udp [::1]:53: bind: address already in use":                                                                                                            "[::1]:53",
		"failed to bind host port for 127.0.0.1:8080:172.17.0.2:80/tcp: address already in use":                                                                        "127.0.0.1:8080",
		"address already in use": "of the task",
		"no such file":           "",
	} {
		if got, taken := portTaken(text); got != want || taken != (want != "") {
			t.Errorf("%s: %q, %t", text, got, taken)
		}
	}
}

func FuzzTail(f *testing.F) {
	f.Add("a\nb\r\n\xff\n")
	f.Add(strings.Repeat("line\n", 50))
	f.Fuzz(func(t *testing.T, text string) {
		lines := tail(text)
		size := 0
		for _, l := range lines {
			size += len(l)
			if !utf8.ValidString(l) || strings.Contains(l, "\n") || len(l) > lastLineBytes {
				t.Fatalf("line %q", l)
			}
		}
		if len(lines) > lastLines || size > lastBytes {
			t.Fatalf("%d lines of %d bytes", len(lines), size)
		}
	})
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"auths":{"r":{"auth":"YW5uOnNlY3JldA=="}}}`))
	f.Add([]byte(`{"auths":{"r":{"auth":"!"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if auth, err := decodeCredentials(bytes.NewReader(b), "r"); err != nil && auth != "" {
			t.Fatalf("both %q and %v", auth, err)
		}
	})
}
