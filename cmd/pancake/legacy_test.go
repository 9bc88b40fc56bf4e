package main

import (
	"testing"

	"github.com/pancake-stack/pancake/sidecar"
)

func TestLegacyVariablesFillFlagsThatAreNotSet(t *testing.T) {
	vars := map[string]string{
		"SIDECAR_ADVERTISE_IP": "127.0.0.9", "SIDECAR_SEEDS": "a:1,b:2", "SIDECAR_CLUSTER_NAME": "old", "SIDECAR_BIND_PORT": "7000",
		"EXECUTOR_SIDECAR_DRAINING_DURATION": "3s", "SIDECAR_DEFAULT_CHECK_ENDPOINT": "/up", "SIDECAR_EXCLUDE_IPS": "",
	}
	lookup := func(name string) (string, bool) {
		value, set := vars[name]
		return value, set
	}
	cmd := newAgentCommand(newEnvironment(nil, nil, nil, nil))
	if err := cmd.ParseFlags([]string{"--cluster-name", "mine"}); err != nil {
		t.Fatal(err)
	}
	rest, err := applyLegacy(cmd, lookup)
	if err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"advertise": "127.0.0.9", "seeds": "a:1,b:2", "cluster-name": "mine", "gossip": "127.0.0.9:7000", "drain": "3s", "docker": "",
	} {
		if got := cmd.Flags().Lookup(flag).Value.String(); got != want {
			t.Errorf("--%s is %q, want %q", flag, got, want)
		}
	}
	for variable, want := range map[string]string{
		"SIDECAR_ADVERTISE_IP": "unset", "SIDECAR_BIND_PORT": "unset", "SIDECAR_DEFAULT_CHECK_ENDPOINT": "/up", "SIDECAR_EXCLUDE_IPS": "", "SIDECAR_DISCOVERY": "unset",
	} {
		got, set := rest(variable)
		if !set {
			got = "unset"
		}
		if got != want {
			t.Errorf("%s is %q; what became a flag must not be read again, and the rest must be, as it is", variable, got)
		}
	}
	vars["EXECUTOR_SIDECAR_DRAINING_DURATION"] = "soon"
	if _, err := applyLegacy(newAgentCommand(newEnvironment(nil, nil, nil, nil)), lookup); exitCode(t.Context(), err) != exitUsage {
		t.Errorf("a duration that is none: %v", err)
	}
}

// An agent whose Sidecar does not look for containers would never hear of its tasks' health.
func TestAgentNeedsDockerAmongTheMethods(t *testing.T) {
	for value, fine := range map[string]bool{"": false, "static": false, "docker": true, "static,docker": true} {
		var cfg sidecar.Config
		vars := map[string]string{"SIDECAR_DISCOVERY": value}
		lookup := func(name string) (string, bool) {
			value, set := vars[name]
			return value, set
		}
		if err := sidecar.FromEnv(lookup, &cfg); err != nil {
			t.Fatal(err)
		}
		if err := findsTasks(cfg); (err == nil) != fine {
			t.Errorf("SIDECAR_DISCOVERY=%s: %v", value, err)
		}
	}
	if err := findsTasks(sidecar.Config{}); err != nil {
		t.Errorf("without the variable: %v", err)
	}
}

// An address that others can reach makes the node secure, wherever it is from: it
// does not start without an identity.
func TestLegacyAddressIsCheckedToo(t *testing.T) {
	env := newEnvironment(func(name string) string {
		return map[string]string{"SIDECAR_ADVERTISE_IP": "10.1.2.3"}[name]
	}, nil, t.Output(), t.Output())
	if code := execute(t.Context(), env, []string{"agent", "--data-dir", t.TempDir()}); code != exitDenied {
		t.Errorf("exit code %d", code)
	}
}
