package main

import (
	"net"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
)

// legacy are the variables of NinesStack Sidecar and sidecar-executor that mean
// the same as a flag of ours. A flag, our own variable and a settings file go before them.
var legacy = map[string]string{
	"SIDECAR_ADVERTISE_IP":               "advertise",
	"SIDECAR_SEEDS":                      "seeds",
	"SIDECAR_CLUSTER_NAME":               "cluster-name",
	"DOCKER_URL":                         "docker",
	"EXECUTOR_SIDECAR_DRAINING_DURATION": "drain",
}

// legacyPort is the port alone of what our --gossip says with an address.
const legacyPort = "SIDECAR_BIND_PORT"

// applyLegacy takes the legacy variables over into flags that were not set, and
// returns the environment without them.
func applyLegacy(cmd *cobra.Command, lookup func(string) (string, bool)) (func(string) (string, bool), error) {
	flags := cmd.Flags()
	for variable, name := range legacy {
		if value, _ := lookup(variable); value != "" && !flags.Changed(name) {
			if err := flags.Set(name, value); err != nil {
				return nil, pancake.Errorf(pancake.Invalid, "%s: %w", variable, err)
			}
		}
	}
	if port, _ := lookup(legacyPort); port != "" && !flags.Changed("gossip") {
		if err := flags.Set("gossip", net.JoinHostPort(flags.Lookup("advertise").Value.String(), port)); err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "%s: %w", legacyPort, err)
		}
	}
	return func(variable string) (string, bool) {
		if _, taken := legacy[variable]; taken || variable == legacyPort {
			return "", false
		}
		return lookup(variable)
	}, nil
}
