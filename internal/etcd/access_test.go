package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/pancake-stack/pancake"
)

// authority signs certificates into files.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes <name>.pem and <name>.key, by itself when there is no CA yet.
func (a *authority) sign(t *testing.T, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{a.file(name + ".pem"): {Type: "CERTIFICATE", Bytes: der}, a.file(name + ".key"): {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// secureServer starts an etcd that takes clients with a certificate of a only.
func secureServer(t *testing.T, a *authority) string {
	t.Helper()
	a.sign(t, "server", &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	core := newCore(slog.New(slog.DiscardHandler))
	ec, err := embedConfig(Config{DataDir: t.TempDir(), ClientURL: strings.Replace(freeURL(t), "http:", "https:", 1), PeerURL: freeURL(t), Unsafe: true}, core)
	if err != nil {
		t.Fatal(err)
	}
	ec.ClientTLSInfo = transport.TLSInfo{
		CertFile: a.file("server.pem"), KeyFile: a.file("server.key"), TrustedCAFile: a.file("ca.pem"), ClientCertAuth: true,
	}
	ec.AdvertiseClientUrls = []url.URL{ec.ListenClientUrls[0]}
	e, err := embed.StartEtcd(ec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Server.HardStop(); e.Close() })
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(startLimit):
		t.Fatal("etcd does not start")
	}
	return ec.ListenClientUrls[0].String()
}

func TestDialWithCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	endpoint := secureServer(t, ours)
	for _, a := range []*authority{ours, theirs} {
		a.sign(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	good := Access{CA: ours.file("ca.pem"), Cert: ours.file("client.pem"), Key: ours.file("client.key")}
	public := ours.file("public.key")
	if err := os.WriteFile(public, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}

	c, err := Dial(t.Context(), []string{endpoint}, good)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}

	for name, tt := range map[string]struct {
		endpoint string
		access   Access
		kind     pancake.Kind
		text     string
	}{
		"no certificate":       {endpoint, Access{CA: good.CA}, pancake.Unavailable, "certificate"},
		"one of another CA":    {endpoint, Access{CA: good.CA, Cert: theirs.file("client.pem"), Key: theirs.file("client.key")}, pancake.Unavailable, "certificate"},
		"a server of another":  {endpoint, Access{CA: theirs.file("ca.pem"), Cert: good.Cert, Key: good.Key}, pancake.Unavailable, "certificate"},
		"in clear":             {strings.Replace(endpoint, "https:", "http:", 1), Access{}, pancake.Unavailable, "does not answer"},
		"http with a CA":       {strings.Replace(endpoint, "https:", "http:", 1), good, pancake.Invalid, "https://"},
		"a certificate only":   {endpoint, Access{Cert: good.Cert}, pancake.Invalid, "go together"},
		"a key that all read":  {endpoint, Access{CA: good.CA, Cert: good.Cert, Key: public}, pancake.Invalid, "chmod 600"},
		"a CA that is missing": {endpoint, Access{CA: ours.file("none")}, pancake.Invalid, "none"},
		"a user only":          {endpoint, Access{User: "pancake"}, pancake.Invalid, "go together"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for seconds
			c, err := Dial(t.Context(), []string{tt.endpoint}, tt.access)
			if err == nil {
				c.Close()
			}
			if pancake.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %s with %q", err, tt.kind, tt.text)
			}
		})
	}
}

func TestDialWithPassword(t *testing.T) {
	s, err := Embed(t.Context(), Config{DataDir: t.TempDir(), ClientURL: freeURL(t), PeerURL: freeURL(t), Unsafe: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	plain, err := Dial(t.Context(), []string{s.Endpoint}, Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, user := range []string{"root", "pancake"} {
		if _, err := plain.UserAdd(t.Context(), user, "correct"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := plain.UserGrantRole(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.RoleAdd(t.Context(), "pancake"); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.RoleGrantPermission(t.Context(), "pancake", "/pancake/", clientv3.GetPrefixRangeEnd("/pancake/"), clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.UserGrantRole(t.Context(), "pancake", "pancake"); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := func(password string) string {
		name := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(name, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}

	c, err := Dial(t.Context(), []string{s.Endpoint}, Access{User: "pancake", PasswordFile: file("correct")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(t.Context(), "/pancake/v1/k", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "/other", "v"); err == nil {
		t.Error("the role is for /pancake/ only, and wrote elsewhere")
	}
	_, err = Dial(t.Context(), []string{s.Endpoint}, Access{User: "root", PasswordFile: file("wrong")})
	if pancake.KindOf(err) != pancake.Unauthenticated || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}
	_, err = Dial(t.Context(), []string{"192.0.2.1:2379"}, Access{User: "root", PasswordFile: file("correct")})
	if pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), "in clear") {
		t.Errorf("a password in clear: %v", err)
	}
}
