package authority

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// issuedRecord is the newest certificate of an identity.
type issuedRecord struct {
	Serial   string            `json:"serial"` // hexadecimal
	KeyHash  [sha256.Size]byte `json:"keyHash"`
	Issued   time.Time         `json:"issued"`
	NotAfter time.Time         `json:"notAfter"`
	Token    string            `json:"token,omitempty"` // id of the join token it was got with
}

// revocation refuses all certificates of an identity that were issued up to At.
type revocation struct {
	At time.Time `json:"at"` // whole seconds, as in certificates
}

func path(who identity.Identity) string { return string(who.Kind) + "/" + who.ID }

// Issue signs a certificate for whoever the caller vouches for: the scheduler
// itself, or whom an operator names.
func (a *Authority) Issue(ctx context.Context, csr []byte, who identity.Identity, opts identity.IssueOptions) (identity.Issued, error) {
	return a.issue(ctx, csr, who, opts, nil)
}

// Renew signs a new certificate for a peer that has shown its current one over
// TLS. Users' certificates are not renewed. It fails with Denied for a peer that
// was revoked.
func (a *Authority) Renew(ctx context.Context, peer identity.Peer, csr []byte) (identity.Issued, error) {
	if peer.Kind == identity.User {
		return identity.Issued{}, identity.Deny(identity.WrongKind, "certificates of users are not renewed; an operator issues new ones")
	}
	if !a.now().Before(peer.NotAfter) {
		return identity.Issued{}, identity.Deny(identity.Expired, "the certificate of %s has expired; join again with a new token", peer.Identity)
	}
	return a.issue(ctx, csr, peer.Identity, identity.IssueOptions{}, func(i *issuance) (bool, error) {
		return true, i.revoked.value.check(peer, i.revoked.exists())
	})
}

// issuance is what a certificate is decided on.
type issuance struct {
	revoked document[revocation]
	last    document[issuedRecord]
	cert    *x509.Certificate
	token   string // id, for the record

	conditions []clientv3.Cmp
	writes     []clientv3.Op
}

// issue signs and records. Decide, if set, looks at what is to be issued, and may
// add conditions and writes to the transaction; false begins again.
func (a *Authority) issue(ctx context.Context, csr []byte, who identity.Identity, opts identity.IssueOptions, decide func(*issuance) (bool, error)) (out identity.Issued, err error) {
	if err := who.Validate(); err != nil {
		return out, err
	}
	if opts.Life == 0 {
		opts.Life = a.leafLife
	}
	err = settle(ctx, "issue a certificate for "+who.String(), func() (bool, error) {
		i, ca, err := a.prepare(ctx, csr, who, opts)
		if err != nil {
			return false, err
		}
		if decide != nil {
			if ok, err := decide(i); !ok || err != nil {
				return false, err
			}
		}
		put, err := i.last.put(i.record())
		if err != nil {
			return false, err
		}
		done, err := a.commit(ctx, i.conditions, append(i.writes, put)...)
		if !done {
			return false, joinRefresh(ctx, a, err)
		}
		out = identity.Issued{Cert: i.cert.Raw, CAs: ca.trusted.DER()}
		return true, nil
	})
	if err == nil && (who.Kind == identity.Agent || who.Kind == identity.Scheduler) {
		out.GossipKeys = a.GossipKeys()
	}
	return out, err
}

// joinRefresh makes sure that the next attempt is made with the current CA.
func joinRefresh(ctx context.Context, a *Authority, err error) error {
	if err != nil {
		return err
	}
	return a.refresh(ctx)
}

// prepare signs a certificate, which nobody gets unless the transaction succeeds.
func (a *Authority) prepare(ctx context.Context, csr []byte, who identity.Identity, opts identity.IssueOptions) (*issuance, caView, error) {
	ca := a.caView()
	i := &issuance{}
	var err error
	if i.revoked, err = get[revocation](ctx, a, revoked+path(who)); err != nil {
		return nil, ca, err
	}
	if i.last, err = get[issuedRecord](ctx, a, issued+path(who)); err != nil {
		return nil, ca, err
	}
	at := a.now()
	if next := i.revoked.value.At.Add(time.Second); i.revoked.exists() && at.Before(next) {
		at = next // or it would count as issued before the revocation
	}
	if i.cert, err = ca.issuing.Issue(csr, who, opts, at); err != nil {
		return nil, ca, err
	}
	i.conditions = []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(caKey), "=", ca.revision), i.revoked.unchanged(), i.last.unchanged(),
	}
	return i, ca, nil
}

func (i *issuance) record() issuedRecord {
	return issuedRecord{
		Serial: i.cert.SerialNumber.Text(16), KeyHash: i.keyHash(), Token: i.token,
		Issued: i.cert.NotBefore.Add(identity.Backdate), NotAfter: i.cert.NotAfter,
	}
}

func (i *issuance) keyHash() [sha256.Size]byte { return sha256.Sum256(i.cert.RawSubjectPublicKeyInfo) }

// taken reports whether somebody holds a certificate of the identity that is good
// at now.
func (i *issuance) taken(now time.Time) bool {
	last := i.last.value
	return i.last.exists() && now.Before(last.NotAfter) && !(i.revoked.exists() && !last.Issued.After(i.revoked.value.At))
}

// Revoke refuses, from now on, all certificates of an identity issued so far; the
// identity may join again with a new token. Connections that are open stay open
// unless the caller ends them.
func (a *Authority) Revoke(ctx context.Context, who identity.Identity) error {
	if err := who.Validate(); err != nil {
		return err
	}
	if who.Cluster != a.cluster {
		return pancake.Errorf(pancake.Invalid, "%s is not of cluster %q", who, a.cluster)
	}
	err := settle(ctx, "revoke "+who.String(), func() (bool, error) {
		last, err := get[issuedRecord](ctx, a, issued+path(who))
		if err != nil {
			return false, err
		}
		old, err := get[revocation](ctx, a, revoked+path(who))
		if err != nil {
			return false, err
		}
		at := a.now().Truncate(time.Second)
		if last.value.Issued.After(at) {
			at = last.value.Issued // by a scheduler whose clock is ahead
		}
		put, err := old.put(revocation{At: at})
		if err != nil {
			return false, err
		}
		return a.commit(ctx, []clientv3.Cmp{last.unchanged(), old.unchanged()}, put)
	})
	if err != nil {
		return err
	}
	return a.refresh(ctx)
}

// Allow fails with Denied for a peer whose certificate was revoked. It reads memory
// only: it is for identity.ServerOptions.
func (a *Authority) Allow(p identity.Peer) error {
	a.mu.RLock()
	r, ok := a.revoked[path(p.Identity)]
	a.mu.RUnlock()
	return r.check(p, ok)
}

func (r revocation) check(p identity.Peer, exists bool) error {
	if exists && !p.Issued.After(r.At) {
		return identity.Deny(identity.Revoked, "the certificate of %s was revoked at %s; join again with a new token",
			p.Identity, r.At.UTC().Format(time.RFC3339))
	}
	return nil
}

func fingerprintOfDER(der []byte) identity.Fingerprint { return sha256.Sum256(der) }
