package etcd_test

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler"
	"github.com/pancake-stack/pancake/scheduler/etcd"
	"github.com/pancake-stack/pancake/scheduler/state"
	"github.com/pancake-stack/pancake/scheduler/storetest"
)

func open(t *testing.T, client *clientv3.Client) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	client := testkit.Etcd(t)
	storetest.Run(t, func(t *testing.T) scheduler.Store { return open(t, client) })
}

func TestSchemaVersion(t *testing.T) {
	client := testkit.Etcd(t)
	open(t, client)
	open(t, client) // its own version is fine
	for version, want := range map[string]string{"2": "start a newer one", "x": "not the state of a Pancake scheduler"} {
		if _, err := client.Put(t.Context(), "/pancake/v1/version", version); err != nil {
			t.Fatal(err)
		}
		_, err := etcd.Open(t.Context(), client)
		if pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), want) {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

func TestTooLargeADecisionIsRefused(t *testing.T) {
	s := open(t, testkit.Etcd(t))
	d := &pancake.Deploy{ID: "d", RequestID: "r", Message: strings.Repeat("x", 2<<20)}
	err := s.Commit(t.Context(), state.Term{Key: "k"}, []state.Change{{Deploys: []*pancake.Deploy{d}}})
	if err == nil || pancake.KindOf(err) == pancake.Unavailable || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %v", err)
	}
}
