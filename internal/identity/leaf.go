package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"time"

	"github.com/pancake-stack/pancake"
)

// JoinRequest asks for a first certificate. It is JSON, sent over JoinTLS.
type JoinRequest struct {
	Token string `json:"token"` // the join token's text
	// ID is what the part wants to be called. A token may be bound to one ID.
	ID  string `json:"id"`
	CSR []byte `json:"csr"` // DER
}

// Issued is the answer to a JoinRequest or to a CSR for a renewal, as JSON.
type Issued struct {
	Cert []byte   `json:"certificate"` // DER
	CAs  [][]byte `json:"cas"`         // DER; all that are trusted
	// GossipKeys are for memberlist, the one to encrypt with first. Agents and
	// schedulers only. They are secret: never log an Issued.
	GossipKeys [][]byte `json:"gossipKeys,omitempty"`
}

// Leaf is a part's own identity: its key and certificate, and the CAs it trusts.
type Leaf struct {
	Key    *ecdsa.PrivateKey
	Cert   *x509.Certificate
	Bundle Bundle
}

// NewKey makes an ECDSA P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, pancake.Errorf(pancake.Internal, "make a key: %w", err)
	}
	return key, nil
}

// NewCSR makes a certificate request, in DER, that names nothing but the key.
func NewCSR(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, pancake.Errorf(pancake.Internal, "make a certificate request: %w", err)
	}
	return der, nil
}

// NewLeaf puts together what was asked for and what was issued. It fails with
// Invalid when the certificate is not for the key, and with Denied when, at now,
// it would not pass the checks of others: a clock that is behind shows here.
func NewLeaf(key *ecdsa.PrivateKey, issued Issued, now time.Time) (Leaf, error) {
	bundle, err := ParseBundle(issued.CAs)
	if err != nil {
		return Leaf{}, err
	}
	cert, err := x509.ParseCertificate(issued.Cert)
	if err != nil {
		return Leaf{}, pancake.Errorf(pancake.Invalid, "what was issued is not a certificate: %w", err)
	}
	l := Leaf{Key: key, Cert: cert, Bundle: bundle}
	if err := l.belongs(); err != nil {
		return Leaf{}, err
	}
	_, err = l.Check(now)
	return l, err
}

// Check fails with Denied when the leaf would not pass the checks of others at
// now.
func (l Leaf) Check(now time.Time) (Peer, error) {
	return verify([]*x509.Certificate{l.Cert}, l.Bundle, x509.ExtKeyUsageClientAuth, now)
}

// Identity is what the certificate says; zero if it has none.
func (l Leaf) Identity() Identity {
	p, err := peerOf(l.Cert)
	if err != nil {
		return Identity{}
	}
	return p.Identity
}

// Grant is what the certificate of a user allows; zero for other kinds.
func (l Leaf) Grant() Grant {
	p, err := peerOf(l.Cert)
	if err != nil {
		return Grant{}
	}
	return p.Grant
}

// belongs fails when key and certificate are not of one another.
func (l Leaf) belongs() error {
	if pub, ok := l.Cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(l.Key.Public()) {
		return pancake.Errorf(pancake.Invalid, "the certificate of %q is for another key", clip(l.Cert.Subject.CommonName))
	}
	return nil
}

func parseKey(pkcs8 []byte) (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "the private key is not in PKCS #8")
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, pancake.Errorf(pancake.Invalid, "the private key is not of ECDSA")
	}
	return key, nil
}
