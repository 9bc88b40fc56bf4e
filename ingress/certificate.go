package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"time"

	"github.com/traefik/traefik/v3/pkg/tls"
	"github.com/traefik/traefik/v3/pkg/types"
)

// defaultDomain names the default certificate. Traefik's own has this name
// too and leaves it out of its metrics.
const defaultDomain = "TRAEFIK DEFAULT CERT"

// newDefaultCertificate makes the certificate for names that have none.
// Without it Traefik makes an RSA key each time the routes change, which takes
// up to a quarter of a second.
func newDefaultCertificate(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("default certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("default certificate: %w", err)
	}
	template := x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: defaultDomain},
		NotBefore:             now.Add(-time.Hour), // for clocks that are behind
		NotAfter:              now.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"pancake-ingress.default"},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("default certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("default certificate: %w", err)
	}
	return &tls.Certificate{
		CertFile: types.FileOrContent(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyFile:  types.FileOrContent(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})),
	}, nil
}

// withDefault returns stores with c as the default certificate, unless they
// have one already or a resolver is to get one.
func withDefault(stores map[string]tls.Store, c *tls.Certificate) map[string]tls.Store {
	store := stores[tls.DefaultTLSStoreName]
	if store.DefaultCertificate != nil || store.DefaultGeneratedCert != nil {
		return stores
	}
	out := make(map[string]tls.Store, len(stores)+1)
	maps.Copy(out, stores)
	store.DefaultCertificate = c
	out[tls.DefaultTLSStoreName] = store
	return out
}
