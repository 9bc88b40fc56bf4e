package scheduler_test

import (
	"log/slog"
	"testing"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/authority"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// The sealing key is changed: schedulers get the new one above the old one, the keys
// in etcd are sealed anew, and the old one is not needed any more.
func TestSealingKeyIsChanged(t *testing.T) {
	c := newCluster(t)
	fingerprint := identity.FingerprintOf(c.trust[0])
	next := identity.NewSealKey()
	alone, err := identity.ParseKeySealer(next)
	if err != nil {
		t.Fatal(err)
	}
	both, err := identity.ParseKeySealer(next + "\n" + c.key)
	if err != nil {
		t.Fatal(err)
	}
	open := func(s identity.Sealer) (*authority.Authority, error) {
		return authority.Open(t.Context(), authority.Config{Client: c.etcd, Sealer: s, Cluster: "test", Log: slog.New(slog.DiscardHandler)})
	}
	c.stop()
	restarted, _ := startSecure(t, c.etcd, both, "one:1")
	c.URL = restarted.URL
	operator := c.as(c.operator.Token)
	eventually(t, "leads", func() bool { _, err := operator.Leader(t.Context()); return err == nil })
	if _, err := open(alone); err == nil {
		t.Fatal("the new key opens what the old one has sealed")
	}
	if err := operator.ResealCA(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, err := open(alone)
	if err != nil {
		t.Fatalf("with the new key alone: %v", err)
	}
	if got := identity.FingerprintOf(a.Bundle()[0]); got != fingerprint {
		t.Errorf("the CA is another: %s, before %s", got, fingerprint)
	}
	if _, err := open(c.sealer); err == nil {
		t.Error("the old key opens what was sealed anew")
	}
	page, err := operator.Audit(t.Context(), client.AuditQuery{Action: "ca", Result: client.AuditOK})
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}
}
