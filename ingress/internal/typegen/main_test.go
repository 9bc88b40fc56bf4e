package main

import (
	"bytes"
	"os"
	"testing"
)

// TestTypesAreCurrent fails when the Traefik that this module pins has other
// options than the sidecar knows.
func TestTypesAreCurrent(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../sidecar/traefik/types_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("sidecar/traefik/types_gen.go is not what Traefik's types say; run go generate in ingress/")
	}
}
