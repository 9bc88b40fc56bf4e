package authority

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

func TestSchedulersAgreeOnOneCA(t *testing.T) {
	r := newRig(t)
	const n = 5
	var all [n]*Authority
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			a, err := Open(t.Context(), r.config())
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = a
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	all[0] = r.open() // a restart
	for i, a := range all {
		if !a.Bundle().Equal(all[1].Bundle()) || len(a.Bundle()) != 1 || !slices.EqualFunc(a.GossipKeys(), all[1].GossipKeys(), bytes.Equal) {
			t.Errorf("scheduler %d has another CA or gossip key", i)
		}
		_, csr := newKey(t)
		if _, err := a.Issue(t.Context(), csr, identity.Identity{Cluster: DefaultCluster, Kind: identity.Scheduler, ID: "s"}, identity.IssueOptions{}); err != nil {
			t.Errorf("scheduler %d: %v", i, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	r := newRig(t)
	r.open()
	for name, tc := range map[string]struct {
		change func(*Config)
		want   pancake.Kind
		says   string
	}{
		"another cluster":     {func(c *Config) { c.Cluster = "other" }, pancake.Conflict, `cluster "pancake"`},
		"another sealing key": {func(c *Config) { c.Sealer, _ = identity.ParseKeySealer(identity.NewSealKey()) }, pancake.Invalid, "another key"},
		"no sealer":           {func(c *Config) { c.Sealer = nil }, pancake.Invalid, "sealer"},
		"bad name":            {func(c *Config) { c.Cluster = "a b" }, pancake.Invalid, "cluster name"},
		"bad life":            {func(c *Config) { c.LeafLife = time.Second }, pancake.Invalid, "live"},
	} {
		cfg := r.config()
		tc.change(&cfg)
		if _, err := Open(t.Context(), cfg); pancake.KindOf(err) != tc.want || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.client.Delete(t.Context(), caKey); err != nil {
		t.Fatal(err)
	}
	a := r.open() // a new CA is made where there is none
	if _, err := r.client.Put(t.Context(), caKey, "garbage"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), r.config()); err == nil {
		t.Error("garbage is a CA")
	}
	if err := a.RotateCA(t.Context(), 0); err == nil {
		t.Error("garbage was rotated")
	}
}

// Nothing that is secret may be found in etcd, in any of the usual spellings.
func TestNothingSecretInEtcd(t *testing.T) {
	r := newRig(t)
	a := r.open()
	join, api := r.token(a, TokenSpec{Type: identity.JoinToken}), r.token(a, TokenSpec{Type: identity.APIToken, Grant: identity.Grant{Role: identity.Viewer}})
	if err := a.RotateCA(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := a.RotateGossipKey(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	caPrivate, err := a.caView().issuing.PKCS8()
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte(join.Secret), []byte(api.Secret), caPrivate}
	secrets = append(secrets, a.GossipKeys()...)
	resp, err := r.client.Get(t.Context(), root, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	var dump []byte
	for _, kv := range resp.Kvs {
		dump = append(dump, kv.Value...)
	}
	for i, s := range secrets {
		b64 := base64.StdEncoding.EncodeToString(s)
		if bytes.Contains(dump, s) || bytes.Contains(dump, []byte(b64)) {
			t.Errorf("secret %d is in etcd in clear", i)
		}
	}
	// The search can find: the certificate is not secret.
	if !bytes.Contains(dump, []byte(base64.StdEncoding.EncodeToString(a.Bundle()[0].Raw))) {
		t.Error("the search does not find what is there")
	}
}

func TestRotateCA(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	var told atomic.Int32
	cfg := r.config()
	cfg.Changed = func() { told.Add(1) }
	a, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, behind := r.open(), r.open()
	r.run(b)
	old := a.Bundle()[0]
	self := identity.Identity{Cluster: DefaultCluster, Kind: identity.Scheduler, ID: "s"}
	leaf := func(a *Authority) identity.Leaf {
		t.Helper()
		key, csr := newKey(t)
		issued, err := a.Issue(ctx, csr, self, identity.IssueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := identity.NewLeaf(key, issued, r.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	from := func(l identity.Leaf) identity.Fingerprint {
		for _, ca := range l.Bundle {
			if l.Cert.CheckSignatureFrom(ca) == nil {
				return identity.FingerprintOf(ca)
			}
		}
		return identity.Fingerprint{}
	}
	before := leaf(a)
	if err := a.RotateCA(ctx, 10*time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := a.RotateCA(ctx, 0); pancake.KindOf(err) != pancake.Conflict {
		t.Errorf("a second rotation: %v", err)
	}
	eventually(t, "the other scheduler trusts both", func() bool { return len(b.Bundle()) == 2 })
	if got := leaf(b); from(got) != identity.FingerprintOf(old) || len(got.Bundle) != 2 {
		t.Error("the new CA issues already, or is not handed out")
	}
	if err := a.tend(ctx); err != nil || a.CAStatus().Rotation.Phase != Introduced {
		t.Errorf("advanced too early: %v", err)
	}
	r.clock.add(10 * time.Hour)
	if err := a.tend(ctx); err != nil || a.CAStatus().Rotation.Phase != Switched {
		t.Fatalf("not advanced: %v, %v", err, a.CAStatus())
	}
	next := a.Bundle()[0]
	if got := leaf(behind); from(got) != identity.FingerprintOf(next) { // it does not run, so it has not heard
		t.Error("a scheduler that is behind issues with the old CA")
	}
	if _, err := before.Check(r.clock.now()); err != nil {
		t.Errorf("a leaf of the old CA, during the overlap: %v", err)
	}
	resumed := r.open() // a scheduler that starts in the middle
	r.clock.add(10 * time.Hour)
	if err := resumed.tend(ctx); err != nil || resumed.CAStatus().Rotation.Phase != Stable {
		t.Fatalf("not resumed: %v", err)
	}
	eventually(t, "the old CA is forgotten", func() bool { return len(b.Bundle()) == 1 && b.Bundle()[0].Equal(next) })
	before.Bundle = b.Bundle()
	_, err = before.Check(r.clock.now())
	wantReason(t, "a leaf of the old CA", err, identity.WrongCA)
	if err := a.AdvanceCA(ctx, Stable); pancake.KindOf(err) != pancake.Conflict {
		t.Errorf("advance without a rotation: %v", err)
	}
	if told.Load() == 0 {
		t.Error("Changed was never called")
	}
	for _, d := range []time.Duration{-1, maxOverlap + 1} {
		if err := a.RotateCA(ctx, d); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("overlap %s: %v", d, err)
		}
	}
}

func TestOneOfTwoAdvances(t *testing.T) {
	r := newRig(t)
	a, b := r.open(), r.open()
	if err := a.RotateCA(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for _, s := range []*Authority{a, b, a, b} {
		wg.Go(func() {
			switch err := s.AdvanceCA(t.Context(), Introduced); {
			case err == nil:
				won.Add(1)
			case pancake.KindOf(err) != pancake.Conflict:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d advanced", won.Load())
	}
}

func TestRotateGossipKey(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	a, b := r.open(), r.open()
	r.run(b)
	k1 := a.GossipKeys()[0]
	if len(k1) != 32 {
		t.Fatalf("a key of %d bytes", len(k1))
	}
	if err := a.RotateGossipKey(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	keys := a.GossipKeys()
	if len(keys) != 2 || !bytes.Equal(keys[0], k1) {
		t.Fatal("the new key is used before it is known")
	}
	k2 := keys[1]
	r.clock.add(time.Hour)
	if err := a.tend(ctx); err != nil {
		t.Fatal(err)
	}
	if keys = a.GossipKeys(); len(keys) != 2 || !bytes.Equal(keys[0], k2) || !bytes.Equal(keys[1], k1) {
		t.Fatal("not switched")
	}
	if err := a.AdvanceGossipKey(ctx, Switched); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other scheduler knows", func() bool { g := b.GossipKeys(); return len(g) == 1 && bytes.Equal(g[0], k2) })
	if s := b.GossipStatus(); len(s.KeyIDs) != 1 || s.Rotation.Phase != Stable {
		t.Errorf("status %+v", s)
	}
}

func TestReseal(t *testing.T) {
	r := newRig(t)
	a := r.open()
	if err := a.RotateCA(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := a.RotateGossipKey(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	old, next := r.key, identity.NewSealKey()
	r.key = next + "\n" + old
	if err := r.open().Reseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.key = next
	if got := r.open(); !got.Bundle().Equal(a.Bundle()) {
		t.Error("another CA after sealing anew")
	}
	r.key = old
	if _, err := Open(t.Context(), r.config()); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("the old key still opens: %v", err)
	}
}
