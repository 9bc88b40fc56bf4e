package main

import (
	"slices"
	"testing"
)

// The seeds of a bridge are Sidecars, which do not listen on a bridge's port.
func TestSeedsOfABridge(t *testing.T) {
	got := withPort([]string{"10.0.0.1", "10.0.0.2:8000", "host", "::1", "[::1]", "[::1]:8000"}, 7946)
	if want := []string{"10.0.0.1:7946", "10.0.0.2:8000", "host:7946", "[::1]:7946", "[::1]:7946", "[::1]:8000"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAnnouncedByABridge(t *testing.T) {
	for text, want := range map[string]struct {
		host string
		port int
	}{"": {"", 0}, "10.0.0.2": {"10.0.0.2", 0}, "10.0.0.2:7000": {"10.0.0.2", 7000}, "::1": {"::1", 0}, "[::1]:7000": {"::1", 7000}} {
		f := bridgeFlags{reached: text}
		if host, port, err := f.announced(); err != nil || host != want.host || port != want.port {
			t.Errorf("%q: %s %d, %v", text, host, port, err)
		}
	}
	for _, bad := range []string{"host", "host:7000", "10.0.0.2:0", "10.0.0.2:x", ":7000"} {
		f := bridgeFlags{reached: bad}
		if _, _, err := f.announced(); exitCode(t.Context(), err) != exitUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
