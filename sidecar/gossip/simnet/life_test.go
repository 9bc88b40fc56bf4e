package simnet_test

import (
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake/sidecar/gossip/simnet"
)

// number returns a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: a positive number is needed", name, text)
	}
	return n
}

// TestLife lets clusters live under churn and faults, one for each seed. By
// default it is short. The whole of it:
//
//	PANCAKE_SIM_SEEDS=100 PANCAKE_SIM_NODES=200 PANCAKE_SIM_MINUTES=60 go test -run TestLife -v -timeout 24h ./sidecar/gossip/simnet
func TestLife(t *testing.T) {
	seeds, nodes, minutes := number(t, "PANCAKE_SIM_SEEDS", 2), number(t, "PANCAKE_SIM_NODES", 15), number(t, "PANCAKE_SIM_MINUTES", 5)
	first := number(t, "PANCAKE_SIM_FIRST", 1)
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for seed := first; seed < first+seeds; seed++ {
		began := time.Now()
		synctest.Test(t, func(t *testing.T) {
			r, err := simnet.Life{
				Nodes: nodes, Services: 10, For: time.Duration(minutes) * time.Minute, Every: 2 * time.Minute, Churn: 1, Faults: 5 * time.Second,
				Within: time.Minute, Seed: uint64(seed),
			}.Run()
			t.Logf("seed %d: %d nodes for %d minutes: %s", seed, nodes, minutes, r)
			if err != nil {
				t.Error(err)
			}
		})
		t.Logf("seed %d took %s", seed, time.Since(began).Round(100*time.Millisecond))
	}
}
