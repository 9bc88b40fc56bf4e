package authority

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// caState is the CA as etcd holds it.
type caState struct {
	Cluster string `json:"cluster"`
	ring[caRecord]
}

type caRecord struct {
	Cert []byte `json:"cert"`          // DER
	Key  []byte `json:"key,omitempty"` // PKCS #8, sealed; gone once it is not used any more
}

// caView is the CA as this scheduler uses it.
type caView struct {
	revision int64
	issuing  *identity.CA
	trusted  identity.Bundle // the issuing one first
	rotation Rotation
}

// bootstrap makes what etcd lacks and loads the rest. It reports whether it made the CA.
func (a *Authority) bootstrap(ctx context.Context) (created bool, err error) {
	if created, err = a.createCA(ctx); err != nil {
		return false, err
	}
	if err := a.createGossip(ctx); err != nil {
		return created, err
	}
	_, err = a.reload(ctx)
	return created, err
}

func (a *Authority) createCA(ctx context.Context) (bool, error) {
	d, err := get[caState](ctx, a, caKey)
	if err != nil || d.exists() {
		return false, err
	}
	first, err := a.newCA(ctx)
	if err != nil {
		return false, err
	}
	put, err := d.put(caState{Cluster: a.cluster, ring: newRing(first, a.now())})
	if err != nil {
		return false, err
	}
	return a.commit(ctx, []clientv3.Cmp{d.unchanged()}, put) // if another scheduler was faster, its CA is the one
}

// newCA makes a CA and seals its key.
func (a *Authority) newCA(ctx context.Context) (caRecord, error) {
	ca, err := identity.NewCA(a.cluster, a.now())
	if err != nil {
		return caRecord{}, err
	}
	key, err := ca.PKCS8()
	if err != nil {
		return caRecord{}, pancake.Errorf(pancake.Internal, "encode the CA's key: %w", err)
	}
	sealed, err := a.sealer.Seal(ctx, key, a.caContext(ca.Fingerprint()))
	if err != nil {
		return caRecord{}, pancake.Errorf(pancake.KindOf(err), "seal the CA's key: %w", err)
	}
	return caRecord{Cert: ca.Cert.Raw, Key: sealed}, nil
}

// caContext keeps a sealed key from being put in another's place.
func (a *Authority) caContext(f identity.Fingerprint) []byte {
	return []byte("pancake ca key of " + a.cluster + " " + f.String())
}

// viewCA opens what etcd holds.
func (a *Authority) viewCA(ctx context.Context, d document[caState]) (caView, error) {
	v := caView{revision: d.revision, rotation: d.value.Rotation}
	if !d.exists() {
		return v, pancake.Errorf(pancake.Conflict, "the CA is gone from etcd (%s); restore etcd from its backup", caKey)
	}
	if d.value.Cluster != a.cluster {
		return v, pancake.Errorf(pancake.Conflict, "etcd holds the CA of cluster %q, and this scheduler is of cluster %q; correct the cluster's name", d.value.Cluster, a.cluster)
	}
	var ders [][]byte
	for _, r := range d.value.all() {
		ders = append(ders, r.Cert)
	}
	var err error
	if v.trusted, err = identity.ParseBundle(ders); err != nil {
		return v, err
	}
	key, err := a.sealer.Open(ctx, d.value.Current.Key, a.caContext(identity.FingerprintOf(v.trusted[0])))
	if err != nil {
		return v, pancake.Errorf(pancake.KindOf(err), "open the CA's key: %w", err)
	}
	v.issuing, err = identity.ParseCA(a.cluster, ders[0], key)
	return v, err
}

// Bundle is the CAs that are trusted now.
func (a *Authority) Bundle() identity.Bundle { return slices.Clone(a.caView().trusted) }

func (a *Authority) caView() caView {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.ca
}

// CAStatus describes the CA and its rotation.
func (a *Authority) CAStatus() CAStatus {
	v := a.caView()
	s := CAStatus{Cluster: a.cluster, Rotation: v.rotation}
	for i, c := range v.trusted {
		s.CAs = append(s.CAs, CAInfo{
			Fingerprint: identity.FingerprintOf(c).String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Issuing: i == 0,
		})
	}
	return s
}

// RotateCA begins to replace the CA: the new one is trusted first, after overlap
// it issues, and after another overlap the old one is not trusted any more. The
// default is the life of a certificate: everybody has renewed once by then, and
// so learnt of the change. It fails with Conflict while a replacement is under way.
func (a *Authority) RotateCA(ctx context.Context, overlap time.Duration) error {
	overlap, err := a.overlap(overlap)
	if err != nil {
		return err
	}
	next, err := a.newCA(ctx)
	if err != nil {
		return err
	}
	return a.changeCA(ctx, func(s caState) (caState, error) {
		var err error
		s.ring, err = s.begin(next, overlap, a.now())
		return s, err
	})
}

// AdvanceCA ends the phase from at once. Certificates of parts that have not heard
// of the new CA, or still use the old one, are then refused. It fails with
// Conflict when the rotation is not in that phase.
func (a *Authority) AdvanceCA(ctx context.Context, from Phase) error {
	return a.changeCA(ctx, func(s caState) (caState, error) {
		var err error
		s.ring, err = s.advance(from, a.now())
		if s.Previous != nil {
			s.Previous.Key = nil // it has signed its last
		}
		return s, err
	})
}

func (a *Authority) changeCA(ctx context.Context, change func(caState) (caState, error)) error {
	err := update(ctx, a, caKey, func(d document[caState]) (caState, error) {
		if !d.exists() {
			return caState{}, pancake.Errorf(pancake.Conflict, "the CA is gone from etcd (%s); restore etcd from its backup", caKey)
		}
		return change(d.value)
	})
	if err != nil {
		return err
	}
	return a.refresh(ctx)
}

// maxOverlap keeps a mistyped duration from leaving an old CA trusted for years.
const maxOverlap = identity.MaxLife

func (a *Authority) overlap(d time.Duration) (time.Duration, error) {
	if d == 0 {
		return a.leafLife, nil
	}
	if d < 0 || d > maxOverlap {
		return 0, pancake.Errorf(pancake.Invalid, "an overlap of %s is not between 0 and %s", d, maxOverlap)
	}
	return d, nil
}
