package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"slices"

	"github.com/pancake-stack/pancake"
)

// Bundle is the CA certificates that are trusted: one, or two while a CA is being
// replaced.
type Bundle []*x509.Certificate

// maxCerts bounds what is read of a bundle or a chain from elsewhere.
const maxCerts = 16

// ParseBundle reads CA certificates from their DER. It fails with Invalid.
func ParseBundle(ders [][]byte) (Bundle, error) {
	if len(ders) == 0 || len(ders) > maxCerts {
		return nil, pancake.Errorf(pancake.Invalid, "a CA bundle has 1 to %d certificates, this one has %d", maxCerts, len(ders))
	}
	var b Bundle
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "the CA bundle holds something that is not a certificate: %w", err)
		}
		if !c.IsCA || !c.BasicConstraintsValid {
			return nil, pancake.Errorf(pancake.Invalid, "the certificate of %q in the CA bundle is not one of a CA", clip(c.Subject.CommonName))
		}
		b = append(b, c)
	}
	return b, nil
}

// ParseBundlePEM reads CA certificates from PEM, as ca.pem holds them. Other
// blocks are refused. It fails with Invalid.
func ParseBundlePEM(text []byte) (Bundle, error) {
	ders, err := pemBlocks(text, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return ParseBundle(ders)
}

// PEM is the bundle as PEM.
func (b Bundle) PEM() []byte { return certsPEM(b.DER()) }

// DER is the bundle's certificates.
func (b Bundle) DER() [][]byte {
	var out [][]byte
	for _, c := range b {
		out = append(out, c.Raw)
	}
	return out
}

// Pool is the bundle as the standard library wants it.
func (b Bundle) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range b {
		p.AddCert(c)
	}
	return p
}

// Fingerprints are those of the bundle's certificates.
func (b Bundle) Fingerprints() []Fingerprint {
	var out []Fingerprint
	for _, c := range b {
		out = append(out, FingerprintOf(c))
	}
	return out
}

// Equal reports whether both hold the same certificates in the same order.
func (b Bundle) Equal(other Bundle) bool {
	return slices.EqualFunc(b, other, func(x, y *x509.Certificate) bool { return x.Equal(y) })
}

// issuer returns the CA of the bundle that signed c, nil if none did.
func (b Bundle) issuer(c *x509.Certificate) *x509.Certificate {
	for _, ca := range b {
		if c.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// FingerprintOf returns the fingerprint of a CA certificate.
func FingerprintOf(ca *x509.Certificate) Fingerprint { return sha256.Sum256(ca.Raw) }

// pemBlocks returns the contents of PEM blocks that all have to be of one type.
func pemBlocks(text []byte, typ string) ([][]byte, error) {
	var out [][]byte
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return out, nil
		}
		if block.Type != typ || len(out) == maxCerts {
			return nil, pancake.Errorf(pancake.Invalid, "expected at most %d PEM blocks %q, found one %q", maxCerts, typ, clip(block.Type))
		}
		out = append(out, block.Bytes)
	}
}

func certsPEM(ders [][]byte) []byte {
	var out bytes.Buffer
	for _, der := range ders {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return out.Bytes()
}
