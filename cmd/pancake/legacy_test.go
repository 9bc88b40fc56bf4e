package main

import (
	"testing"
)

func TestLegacyVariablesFillFlagsThatAreNotSet(t *testing.T) {
	vars := map[string]string{
		"SIDECAR_ADVERTISE_IP": "127.0.0.9", "SIDECAR_SEEDS": "a:1,b:2", "SIDECAR_CLUSTER_NAME": "old", "SIDECAR_BIND_PORT": "7000",
		"EXECUTOR_SIDECAR_DRAINING_DURATION": "3s", "SIDECAR_DEFAULT_CHECK_ENDPOINT": "/up",
	}
	getenv := func(name string) string { return vars[name] }
	cmd := newAgentCommand(newEnvironment(getenv, nil, nil, nil))
	if err := cmd.ParseFlags([]string{"--cluster-name", "mine"}); err != nil {
		t.Fatal(err)
	}
	rest, err := applyLegacy(cmd, getenv)
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
	if rest("SIDECAR_ADVERTISE_IP") != "" || rest("SIDECAR_BIND_PORT") != "" || rest("SIDECAR_DEFAULT_CHECK_ENDPOINT") != "/up" {
		t.Error("what became a flag must not be read again, and the rest must be")
	}
	vars["EXECUTOR_SIDECAR_DRAINING_DURATION"] = "soon"
	if _, err := applyLegacy(newAgentCommand(newEnvironment(getenv, nil, nil, nil)), getenv); exitCode(t.Context(), err) != exitUsage {
		t.Errorf("a duration that is none: %v", err)
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
