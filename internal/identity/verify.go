package identity

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"
)

// Peer is who is at the other end of a connection, after its certificate was
// checked.
type Peer struct {
	Identity
	Grant     Grant     // of users
	Serial    string    // hexadecimal
	Issued    time.Time // when the CA signed it; whole seconds
	NotAfter  time.Time
	NotBefore time.Time
}

// Subject is the peer as Authorize wants it. Schedulers and proviso act as
// operators, goavail and ingress as viewers of every group, users as their
// certificate says; agents may do nothing on the HTTP API of the scheduler.
func (p Peer) Subject() Subject {
	s := Subject{Name: p.Identity.String()}
	switch p.Kind {
	case Scheduler, Proviso:
		s.Grant = Grant{Role: Operator}
	case Goavail, Ingress:
		s.Grant = Grant{Role: Viewer, Groups: []string{AllGroups}}
	case User:
		s.Grant = p.Grant
	case Agent:
	}
	return s
}

// verify checks a chain as a peer sent it, its own certificate first, against the
// CAs that are trusted. Whether the CA signed it comes first: nothing else that a
// stranger's certificate says matters.
func verify(chain []*x509.Certificate, trusted Bundle, usage x509.ExtKeyUsage, now time.Time) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, Deny(NoCertificate, "no certificate was presented")
	}
	leaf := chain[0]
	if trusted.issuer(leaf) == nil {
		return Peer{}, Deny(WrongCA, "certificate of %q was not signed by a CA that is trusted here (%s)",
			clip(leaf.Subject.CommonName), fingerprints(trusted))
	}
	p, err := peerOf(leaf)
	if err != nil {
		return Peer{}, err
	}
	if now.Before(leaf.NotBefore) {
		return p, Deny(NotYetValid, "certificate of %s is valid from %s, and the clock here says %s: one of the two clocks is wrong; check the clocks of both machines",
			p.Identity, stamp(leaf.NotBefore), stamp(now))
	}
	if now.After(leaf.NotAfter) {
		return p, Deny(Expired, "certificate of %s expired at %s, and the clock here says %s; if that is not the time, check the clocks", p.Identity, stamp(leaf.NotAfter), stamp(now))
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: trusted.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return p, Deny(WrongKind, "certificate of %s may not be used at this end of a connection", p.Identity)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return p, Deny(Expired, "the CA that signed the certificate of %s is not valid at %s: %w", p.Identity, stamp(now), err)
	}
	return p, Deny(Malformed, "certificate of %s: %w", p.Identity, err)
}

// peerOf reads a certificate's identity. It does not check who signed it.
func peerOf(c *x509.Certificate) (Peer, error) {
	if len(c.URIs) != 1 {
		return Peer{}, Deny(Malformed, "certificate of %q has %d URIs; it needs one, with its identity", clip(c.Subject.CommonName), len(c.URIs))
	}
	id, err := Parse(c.URIs[0].String())
	if err != nil {
		return Peer{}, Deny(Malformed, "certificate of %q: %w", clip(c.Subject.CommonName), err)
	}
	p := Peer{
		Identity: id, Serial: c.SerialNumber.Text(16),
		Issued: c.NotBefore.Add(Backdate), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	if id.Kind == User {
		p.Grant = grantOf(c)
	}
	return p, nil
}

func grantOf(c *x509.Certificate) Grant {
	var g Grant
	for _, o := range c.Subject.Organization {
		if role, ok := strings.CutPrefix(o, rolePrefix); ok {
			g.Role = Role(role)
		}
	}
	for _, u := range c.Subject.OrganizationalUnit {
		if group, ok := strings.CutPrefix(u, groupPrefix); ok {
			g.Groups = append(g.Groups, group)
		}
	}
	return g
}

// Expect says who may be at the other end.
type Expect struct {
	Cluster string // "" for any
	Kinds   []Kind // none for any
	ID      string // "" for any
	// Now is the clock that certificates have to be valid by, for tests. Default time.Now.
	Now func() time.Time
}

func (e Expect) now() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}

// check fails with Denied when p is not expected.
func (e Expect) check(p Peer) error {
	switch {
	case e.Cluster != "" && p.Cluster != e.Cluster:
		return Deny(WrongCluster, "%s is of another cluster than %q", p.Identity, e.Cluster)
	case len(e.Kinds) > 0 && !slices.Contains(e.Kinds, p.Kind):
		return Deny(WrongKind, "%s is not one of %v", p.Identity, e.Kinds)
	case e.ID != "" && p.ID != e.ID:
		return Deny(WrongPeer, "%s is not %q", p.Identity, e.ID)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func fingerprints(b Bundle) string {
	var out []string
	for _, f := range b.Fingerprints() {
		out = append(out, f.String()[:16])
	}
	return strings.Join(out, ", ")
}
