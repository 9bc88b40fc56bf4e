package provider

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// TLS names files, in PEM, for a sidecar on another machine. They are read anew for
// each connection, so that they may be replaced at any time.
type TLS struct {
	// CA holds the certificates of the cluster's CA, of "pancake ca show --pem".
	CA string `json:"ca,omitempty"`
	// Cert and Key are of "pancake ca issue ingress/<id> --out <dir>", which writes both
	// into one file. Default for Key: Cert.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// agents begins the path of an agent's identity, pancake://<cluster>/agent/<id>.
const agents = "/agent/"

// config fails when a file is missing or not what it should be.
func (t TLS) config() (*tls.Config, error) {
	if t.CA == "" || t.Cert == "" {
		return nil, errors.New("sidecar.url begins with https://: it needs sidecar.ca and sidecar.cert as well")
	}
	if _, err := t.roots(); err != nil {
		return nil, err
	}
	if _, err := t.own(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.own() },
		InsecureSkipVerify:   true, // of the host name: the cluster's certificates name agents; verify does more
		VerifyConnection:     t.verify,
	}, nil
}

func (t TLS) own() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(t.Cert, cmp.Or(t.Key, t.Cert))
	if err != nil {
		return nil, fmt.Errorf("sidecar.cert and sidecar.key: %w", err)
	}
	return &c, nil
}

func (t TLS) roots() (*x509.CertPool, error) {
	text, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("sidecar.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("sidecar.ca: %s holds no certificate in PEM", t.CA)
	}
	return pool, nil
}

// verify takes agents of the cluster only.
func (t TLS) verify(cs tls.ConnectionState) error {
	roots, err := t.roots()
	if err != nil {
		return err
	}
	leaf := cs.PeerCertificates[0] // a server without one does not get here
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("the sidecar's certificate: %w", err)
	}
	for _, uri := range leaf.URIs {
		if uri.Scheme == "pancake" && strings.HasPrefix(uri.Path, agents) {
			return nil
		}
	}
	return errors.New("the certificate at the other end is not that of an agent")
}
