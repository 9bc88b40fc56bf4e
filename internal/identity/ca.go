package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/pancake-stack/pancake"
)

// How long things are valid.
const (
	CALife   = 10 * 365 * 24 * time.Hour
	LeafLife = 24 * time.Hour // default
	MinLife  = time.Minute
	MaxLife  = 90 * 24 * time.Hour // of a leaf
	// Backdate is how far before its issue a certificate begins, for clocks that are behind.
	Backdate = 5 * time.Minute
)

// The fields of a subject that carry a user's grant.
const (
	rolePrefix  = "pancake:role:"  // in Organization
	groupPrefix = "pancake:group:" // in OrganizationalUnit
)

// CA signs certificates for the identities of one cluster.
type CA struct {
	Cluster string
	Cert    *x509.Certificate

	key *ecdsa.PrivateKey
}

// NewCA makes a CA with a fresh ECDSA P-256 key, valid from Backdate before now
// for CALife.
func NewCA(cluster string, now time.Time) (*CA, error) {
	if err := ValidCluster(cluster); err != nil {
		return nil, err
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		// The date tells an old CA from a new one in other programs' lists.
		Subject:   pkix.Name{CommonName: "Pancake CA of " + cluster + " " + now.UTC().Format("2006-01-02"), Organization: []string{cluster}},
		NotBefore: now.Add(-Backdate), NotAfter: now.Add(CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, pancake.Errorf(pancake.Internal, "sign the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, pancake.Errorf(pancake.Internal, "read the CA's own certificate: %w", err)
	}
	return &CA{Cluster: cluster, Cert: cert, key: key}, nil
}

// ParseCA reads a CA from its certificate's DER and its key's PKCS #8. It fails
// with Invalid when they do not belong together.
func ParseCA(cluster string, cert, pkcs8 []byte) (*CA, error) {
	b, err := ParseBundle([][]byte{cert})
	if err != nil {
		return nil, err
	}
	key, err := parseKey(pkcs8)
	if err != nil {
		return nil, err
	}
	if pub, ok := b[0].PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return nil, pancake.Errorf(pancake.Invalid, "the CA's key does not belong to its certificate %s", FingerprintOf(b[0]))
	}
	return &CA{Cluster: cluster, Cert: b[0], key: key}, ValidCluster(cluster)
}

// PKCS8 is the private key. Seal it before it goes anywhere.
func (c *CA) PKCS8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(c.key) }

// Fingerprint is what join tokens carry of the CA.
func (c *CA) Fingerprint() Fingerprint { return FingerprintOf(c.Cert) }

// IssueOptions says what a certificate is to hold beside the identity.
type IssueOptions struct {
	// Life is from MinLife to MaxLife. Default LeafLife. It never ends after the CA's.
	Life time.Duration
	// Hosts are DNS names and IP addresses, for clients that go by those:
	// browsers, etcd. Pancake's own parts do not look at them.
	Hosts []string
	// Grant is for users only; a certificate of a user without one may do nothing.
	Grant Grant
}

// Issue signs a certificate for who. Of the CSR only the public key is taken: it
// must be ECDSA of at least 256 bits or RSA of 2048 to 4096 bits, and have signed
// the CSR. It fails with Invalid.
func (c *CA) Issue(csr []byte, who Identity, opts IssueOptions, now time.Time) (*x509.Certificate, error) {
	pub, err := checkCSR(csr)
	if err != nil {
		return nil, err
	}
	tmpl, err := c.template(who, opts, now)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.Cert, pub, c.key)
	if err != nil {
		return nil, pancake.Errorf(pancake.Internal, "sign the certificate of %s: %w", who, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, pancake.Errorf(pancake.Internal, "read the certificate of %s: %w", who, err)
	}
	return cert, nil
}

func (c *CA) template(who Identity, opts IssueOptions, now time.Time) (*x509.Certificate, error) {
	if err := who.Validate(); err != nil {
		return nil, err
	}
	if who.Cluster != c.Cluster {
		return nil, pancake.Errorf(pancake.Invalid, "the CA of cluster %q does not sign for cluster %q", c.Cluster, who.Cluster)
	}
	life := opts.Life
	if life == 0 {
		life = LeafLife
	}
	if life < MinLife || life > MaxLife {
		return nil, pancake.Errorf(pancake.Invalid, "a certificate lives %s to %s, not %s", MinLife, MaxLife, life)
	}
	end := now.Add(life)
	if end.After(c.Cert.NotAfter) {
		end = c.Cert.NotAfter
	}
	uri, err := url.Parse(who.String())
	if err != nil {
		return nil, pancake.Errorf(pancake.Internal, "%s is no URI: %w", who, err)
	}
	tmpl := &x509.Certificate{
		Subject: pkix.Name{CommonName: clipTo(who.ID, 64)}, // the longest X.509 allows; nobody looks at it
		URIs:    []*url.URL{uri}, NotBefore: now.Add(-Backdate), NotAfter: end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if who.Kind != User {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if err := addHosts(tmpl, opts.Hosts); err != nil {
		return nil, err
	}
	return tmpl, addGrant(tmpl, who, opts.Grant)
}

func addHosts(tmpl *x509.Certificate, hosts []string) error {
	for _, h := range hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, net.IP(ip.Unmap().AsSlice()))
			continue
		}
		if len(h) == 0 || len(h) > 253 || !only(h, ".-", true) {
			return pancake.Errorf(pancake.Invalid, "%q is neither a host name nor an IP address", clip(h))
		}
		tmpl.DNSNames = append(tmpl.DNSNames, h)
	}
	return nil
}

func addGrant(tmpl *x509.Certificate, who Identity, g Grant) error {
	if g.Role == "" && len(g.Groups) == 0 {
		return nil
	}
	if who.Kind != User {
		return pancake.Errorf(pancake.Invalid, "only certificates of users carry a role, not %s", who)
	}
	if err := g.Validate(); err != nil {
		return err
	}
	tmpl.Subject.Organization = []string{rolePrefix + string(g.Role)}
	for _, group := range g.Groups {
		tmpl.Subject.OrganizationalUnit = append(tmpl.Subject.OrganizationalUnit, groupPrefix+group)
	}
	return nil
}

// maxCSR is more than a CSR with the largest key and a few names needs, in bytes.
const maxCSR = 16 << 10

// checkCSR returns the public key of a CSR that is in order.
func checkCSR(der []byte) (any, error) {
	if len(der) > maxCSR {
		return nil, pancake.Errorf(pancake.Invalid, "the certificate request is longer than %d bytes", maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "the certificate request cannot be read: %w", err)
	}
	switch pub := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() && pub.Curve != elliptic.P521() {
			return nil, pancake.Errorf(pancake.Invalid, "the certificate request has a key on the curve %s; P-256, P-384 and P-521 are taken", pub.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < 2048 || bits > 4096 {
			return nil, pancake.Errorf(pancake.Invalid, "the certificate request has an RSA key of %d bits; 2048 to 4096 are taken", bits)
		}
	default:
		return nil, pancake.Errorf(pancake.Invalid, "the certificate request has a key of another type than ECDSA and RSA")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "the certificate request is not signed by its own key: %w", err)
	}
	return csr.PublicKey, nil
}

func clipTo(s string, n int) string { return s[:min(len(s), n)] }
