#!/usr/bin/env bash
# Shows that catalogues come together again whatever happens: simulated clusters first,
# then real ones in network namespaces (as root). A line is printed for each seed.
#
#   SEEDS=100 MINUTES=60 scripts/chaos.sh
#
# SEEDS   random lives of the model of 200 nodes (default 100), a tenth as many with the
#         real network code
# MINUTES of each life of the model (default 60)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

seeds=${SEEDS:-100} minutes=${MINUTES:-60}

model() {
	PANCAKE_SIM_SEEDS=$seeds PANCAKE_SIM_MINUTES=$minutes go test -count=1 -run TestModel -v -timeout 24h ./sidecar/gossip
}

network() {
	PANCAKE_SIM_SEEDS=$(((seeds + 9) / 10)) PANCAKE_SIM_NODES=${NODES:-30} PANCAKE_SIM_MINUTES=10 \
		go test -count=1 -run TestLife -v -timeout 24h ./sidecar/gossip/simnet
}

partitions() {
	scripts/build.sh
	PANCAKE_E2E_PARTITION=2m go test -tags e2e -count=1 -run TestSidecarsFind -v -timeout 30m ./test/e2e
}

step "200 nodes, $minutes minutes, $seeds seeds" model
step "real network code, in memory" network
step "five nodes in namespaces, cut for two minutes" partitions
