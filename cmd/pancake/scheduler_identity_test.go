package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

func TestSchedulerIsSecure(t *testing.T) {
	const lo, open = "127.0.0.1:7099", "10.0.0.1:7099"
	for _, test := range []struct {
		name string
		f    schedulerFlags
		want bool
		kind pancake.Kind // of the refusal
	}{
		{"loopback", schedulerFlags{http: lo, grpc: lo}, false, ""},
		{"told to be", schedulerFlags{http: lo, grpc: lo, secure: true}, true, ""},
		{"API for others", schedulerFlags{http: open, grpc: lo}, true, ""},
		{"agents from elsewhere", schedulerFlags{http: lo, grpc: open}, true, ""},
		{"all addresses", schedulerFlags{http: lo, grpc: ":7098"}, true, ""},
		{"advertised", schedulerFlags{http: lo, grpc: lo, advertiseGRPC: open}, true, ""},
		{"insecure", schedulerFlags{http: open, grpc: open, insecure: true}, false, ""},
		{"both", schedulerFlags{http: lo, grpc: lo, secure: true, insecure: true}, false, pancake.Invalid},
		{"etcd for others", schedulerFlags{http: lo, grpc: lo, secure: true, etcdFlags: etcdFlags{listen: open}}, false, pancake.Invalid},
		{"calls below none", schedulerFlags{http: lo, grpc: lo, secure: true, rate: -1}, false, pancake.Invalid},
		{"calls, but none at once", schedulerFlags{http: lo, grpc: lo, secure: true, rate: 1}, false, pancake.Invalid},
		{"no name", schedulerFlags{http: lo, grpc: lo, secure: true, clusterName: "A b"}, false, pancake.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.f.clusterName == "" {
				test.f.clusterName = "default"
			}
			err := test.f.settle()
			if err != nil || test.kind != "" {
				if err == nil || pancake.KindOf(err) != test.kind {
					t.Fatalf("got %v, want kind %q", err, test.kind)
				}
				return
			}
			if test.f.secure != test.want {
				t.Errorf("secure: %t", test.f.secure)
			}
		})
	}
}

func TestSealingKeyOfTheScheduler(t *testing.T) {
	none := func(string) string { return "" }
	path := filepath.Join(t.TempDir(), caKeyFile)
	var made string
	if _, err := (&schedulerFlags{}).sealer(none, path, &made); err != nil || made != path {
		t.Fatalf("made %q, %v", made, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v; want mode 0600", info, err)
	}
	made = ""
	if _, err := (&schedulerFlags{}).sealer(none, path, &made); err != nil || made != "" {
		t.Errorf("the second time: made %q, %v", made, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (&schedulerFlags{}).sealer(none, path, &made); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("others can read it: %v", err)
	}
	value := func(string) string { return string(identity.NewSealKey()) }
	if _, err := (&schedulerFlags{}).sealer(value, path, &made); err != nil {
		t.Errorf("from the environment: %v", err)
	}
	for _, key := range []string{filepath.Join(t.TempDir(), "missing"), "vault:transit", "vault:a b/c"} {
		if _, err := (&schedulerFlags{caKey: key}).sealer(none, path, &made); err == nil {
			t.Errorf("--ca-key %s was taken", key)
		}
	}
	if _, err := (&schedulerFlags{}).sealer(func(string) string { return "hunter2" }, path, &made); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("garbage in the environment: %v", err)
	}
}
