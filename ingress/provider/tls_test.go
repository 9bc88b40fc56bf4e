package provider

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/ingress/internal/fakesidecar"
)

// cluster is a CA, as Pancake's, whose certificates name their holders by a URI.
type cluster struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	c.issue("ca", "")
	return c
}

func (c *cluster) file(name string) string { return filepath.Join(c.dir, name+".pem") }

// issue writes certificate and key into one file. The first is the CA's.
func (c *cluster) issue(name, uri string) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := c.cert, c.key
	if uri == "" {
		template.IsCA, template.BasicConstraintsValid, template.ExtKeyUsage = true, true, nil
		parent, signer = template, key
	} else {
		u, err := url.Parse(uri)
		if err != nil {
			c.t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		c.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := os.WriteFile(c.file(name), text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if uri == "" {
		c.key = key
		if c.cert, err = x509.ParseCertificate(der); err != nil {
			c.t.Fatal(err)
		}
	}
}

// serve starts a sidecar with the certificate of that name, for holders of one of the cluster.
func (c *cluster) serve(sidecar *fakesidecar.Sidecar, name string) *httptest.Server {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(c.file(name), c.file(name))
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	server := httptest.NewUnstartedServer(sidecar)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	c.t.Cleanup(server.Close)
	return server
}

func TestSidecarOnAnotherMachine(t *testing.T) {
	ours, theirs := newCluster(t), newCluster(t)
	for _, c := range []*cluster{ours, theirs} {
		c.issue("agent", "pancake://c1/agent/n1")
		c.issue("ingress", "pancake://c1/ingress/i1")
	}
	sidecar := fakesidecar.New(route("a"))
	server := ours.serve(sidecar, "agent")
	out := start(t, &Provider{URL: server.URL, TLS: TLS{CA: ours.file("ca"), Cert: ours.file("ingress")}})
	want(t, out, "a")

	// A new certificate in the same file is used by the next connection.
	ours.issue("ingress", "pancake://c1/ingress/i1")
	sidecar.Hangup()
	sidecar.Set(route("b"))
	want(t, out, "b")

	for name, p := range map[string]*Provider{
		"a certificate of another cluster": {URL: server.URL, TLS: TLS{CA: ours.file("ca"), Cert: theirs.file("ingress")}},
		"a sidecar of another cluster":     {URL: theirs.serve(fakesidecar.New(route("x")), "agent").URL, TLS: TLS{CA: ours.file("ca"), Cert: ours.file("ingress")}},
		"not an agent":                     {URL: ours.serve(fakesidecar.New(route("x")), "ingress").URL, TLS: TLS{CA: ours.file("ca"), Cert: ours.file("ingress")}},
	} {
		out := start(t, p)
		select {
		case <-out:
			t.Errorf("%s: routes were taken", name)
		case <-time.After(300 * time.Millisecond): // some attempts
		}
	}
	sidecar.Hangup()
}

func TestTLSSettings(t *testing.T) {
	c := newCluster(t)
	c.issue("ingress", "pancake://c1/ingress/i1")
	for name, tt := range map[string]struct {
		p    Provider
		text string
	}{
		"no files":      {Provider{URL: "https://h:1"}, "sidecar.ca"},
		"no CA file":    {Provider{URL: "https://h:1", TLS: TLS{CA: c.file("none"), Cert: c.file("ingress")}}, "sidecar.ca"},
		"no cert file":  {Provider{URL: "https://h:1", TLS: TLS{CA: c.file("ca"), Cert: c.file("none")}}, "sidecar.cert"},
		"without https": {Provider{URL: "http://h:1", TLS: TLS{CA: c.file("ca")}}, "https://"},
	} {
		if err := tt.p.Init(); err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", name, err, tt.text)
		}
	}
}
