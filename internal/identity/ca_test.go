package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func csrOf(t testing.TB, key crypto.Signer, tmpl x509.CertificateRequest) []byte {
	t.Helper()
	return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &tmpl, key))
}

func TestIssueTakesOnlyTheKey(t *testing.T) {
	ca := newCA(t, "c1", now)
	key, _ := newKey(t)
	evil := must[*url.URL](t)(url.Parse("pancake://c1/scheduler/evil"))
	csr := csrOf(t, key, x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "evil", Organization: []string{rolePrefix + "operator"}}, DNSNames: []string{"evil.example"}, URIs: []*url.URL{evil},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}, // CA:TRUE
	})
	c, err := ca.Issue(csr, id(Agent, "n1"), IssueOptions{Hosts: []string{"n1.example", "127.0.0.7", "::1"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if c.IsCA || c.Subject.CommonName != "n1" || len(c.Subject.Organization) != 0 || !slices.Equal(c.DNSNames, []string{"n1.example"}) ||
		len(c.IPAddresses) != 2 || len(c.URIs) != 1 || c.URIs[0].String() != "pancake://c1/agent/n1" {
		t.Errorf("issued: %+v", c)
	}
	if !c.NotBefore.Equal(now.Add(-5*time.Minute)) || !c.NotAfter.Equal(now.Add(24*time.Hour)) {
		t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
	}
	if late := must[*x509.Certificate](t)(ca.Issue(csr, id(Agent, "n1"), IssueOptions{}, now.Add(CALife-time.Hour))); late.NotAfter.After(ca.Cert.NotAfter) {
		t.Errorf("the leaf ends %s, after its CA", late.NotAfter)
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := newCA(t, "c1", now)
	_, good := newKey(t)
	rsaKey := func(bits int) crypto.Signer { return must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, bits)) }
	p224 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := slices.Clone(good)
	forged[len(forged)-1] ^= 1
	var none x509.CertificateRequest
	if _, err := ca.Issue(csrOf(t, rsaKey(2048), none), id(Agent, "a"), IssueOptions{}, now); err != nil {
		t.Errorf("RSA 2048: %v", err)
	}
	for name, tc := range map[string]struct {
		csr  []byte
		who  Identity
		opts IssueOptions
		want string
	}{
		"garbage":         {[]byte("hunter2"), id(Agent, "a"), IssueOptions{}, "cannot be read"},
		"nothing":         {nil, id(Agent, "a"), IssueOptions{}, "cannot be read"},
		"huge":            {make([]byte, maxCSR+1), id(Agent, "a"), IssueOptions{}, "longer than"},
		"forged":          {forged, id(Agent, "a"), IssueOptions{}, "not signed by its own key"},
		"weak RSA":        {csrOf(t, rsaKey(1024), none), id(Agent, "a"), IssueOptions{}, "1024 bits"},
		"weak curve":      {csrOf(t, p224, none), id(Agent, "a"), IssueOptions{}, "P-224"},
		"Ed25519":         {csrOf(t, ed, none), id(Agent, "a"), IssueOptions{}, "another type"},
		"another cluster": {good, Identity{"c2", Agent, "a"}, IssueOptions{}, `cluster "c2"`},
		"bad identity":    {good, id(Agent, "a/b"), IssueOptions{}, "identity id"},
		"too short":       {good, id(Agent, "a"), IssueOptions{Life: time.Second}, "lives"},
		"too long":        {good, id(Agent, "a"), IssueOptions{Life: MaxLife + 1}, "lives"},
		"host":            {good, id(Agent, "a"), IssueOptions{Hosts: []string{"a b"}}, "host name"},
		"agent with role": {good, id(Agent, "a"), IssueOptions{Grant: Grant{Role: Operator}}, "only certificates of users"},
		"unknown role":    {good, id(User, "a"), IssueOptions{Grant: Grant{Role: "root"}}, "role"},
	} {
		if _, err := ca.Issue(tc.csr, tc.who, tc.opts, now); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCSR(f *testing.F) {
	ca := newCA(f, "c1", now)
	_, csr := newKey(f)
	f.Add(csr)
	f.Fuzz(func(t *testing.T, csr []byte) {
		c, err := ca.Issue(csr, id(Agent, "a"), IssueOptions{}, now)
		if err == nil && c.CheckSignatureFrom(ca.Cert) != nil {
			t.Error("issued a certificate that is not signed")
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add(Bundle{newCA(f, "c1", now).Cert}.PEM())
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := ParseBundlePEM(text)
		if err == nil && (len(b) == 0 || len(b) > maxCerts) {
			t.Errorf("a bundle of %d", len(b))
		}
	})
}

func FuzzNewLeaf(f *testing.F) {
	ca := newCA(f, "c1", now)
	l := leaf(f, ca, id(Agent, "a"), IssueOptions{}, now)
	f.Add(l.Cert.Raw, ca.Cert.Raw)
	f.Add(ca.Cert.Raw, l.Cert.Raw)
	f.Fuzz(func(t *testing.T, cert, caCert []byte) {
		got, err := NewLeaf(l.Key, Issued{Cert: cert, CAs: [][]byte{caCert}}, now)
		if err == nil && got.Identity().Validate() != nil {
			t.Errorf("a leaf of %s", got.Identity())
		}
	})
}

func TestCAComesBack(t *testing.T) {
	ca, other := newCA(t, "c1", now), newCA(t, "c1", now)
	key := must[[]byte](t)(ca.PKCS8())
	back := must[*CA](t)(ParseCA("c1", ca.Cert.Raw, key))
	l := leaf(t, back, id(Agent, "a"), IssueOptions{}, now)
	if _, err := l.Check(now); err != nil || back.Fingerprint() != ca.Fingerprint() {
		t.Errorf("after a return: %v", err)
	}
	if _, err := ParseCA("c1", other.Cert.Raw, key); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("another's key: %v", err)
	}
	if _, err := ParseCA("c1", l.Cert.Raw, key); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("not a CA: %v", err)
	}
}

func TestVerify(t *testing.T) {
	ca, other := newCA(t, "c1", now), newCA(t, "c1", now)
	trusted := Bundle{ca.Cert}
	chain := func(l Leaf) []*x509.Certificate { return []*x509.Certificate{l.Cert} }
	at := func(ca *CA, who Identity, when time.Time) []*x509.Certificate {
		return chain(leaf(t, ca, who, IssueOptions{}, when))
	}
	self := &x509.Certificate{SerialNumber: ca.Cert.SerialNumber, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), URIs: []*url.URL{{Scheme: "pancake", Host: "c1", Path: "/agent/a"}}}
	key, _ := newKey(t)
	selfSigned := must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader, self, self, key.Public(), key))))
	unnamed := must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader,
		&x509.Certificate{NotBefore: now, NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca.Cert, key.Public(), ca.key))))
	for name, tc := range map[string]struct {
		chain []*x509.Certificate
		usage x509.ExtKeyUsage
		now   time.Time
		want  Reason
		says  string
	}{
		"good":                   {at(ca, id(Agent, "a"), now), x509.ExtKeyUsageClientAuth, now, "", ""},
		"good as a server":       {at(ca, id(Agent, "a"), now), x509.ExtKeyUsageServerAuth, now, "", ""},
		"clock 4 minutes behind": {at(ca, id(Agent, "a"), now), x509.ExtKeyUsageClientAuth, now.Add(-4 * time.Minute), "", ""},
		"clock an hour behind":   {at(ca, id(Agent, "a"), now.Add(time.Hour)), x509.ExtKeyUsageClientAuth, now, NotYetValid, "clock"},
		"clock an hour ahead":    {at(ca, id(Agent, "a"), now), x509.ExtKeyUsageClientAuth, now.Add(time.Hour), "", ""},
		"expired":                {at(ca, id(Agent, "a"), now), x509.ExtKeyUsageClientAuth, now.Add(25 * time.Hour), Expired, "expired at 2026-03-02T12:00:00Z"},
		"expired, another CA":    {at(other, id(Agent, "a"), now), x509.ExtKeyUsageClientAuth, now.Add(25 * time.Hour), WrongCA, ""},
		"another CA":             {at(other, id(Agent, "a"), now), x509.ExtKeyUsageClientAuth, now, WrongCA, ca.Fingerprint().String()[:16]},
		"self-signed":            {[]*x509.Certificate{selfSigned}, x509.ExtKeyUsageClientAuth, now, WrongCA, ""},
		"the CA itself":          {[]*x509.Certificate{ca.Cert}, x509.ExtKeyUsageClientAuth, now, Malformed, ""},
		"no identity":            {[]*x509.Certificate{unnamed}, x509.ExtKeyUsageClientAuth, now, Malformed, "0 URIs"},
		"nothing":                {nil, x509.ExtKeyUsageClientAuth, now, NoCertificate, ""},
		"a user as a server":     {at(ca, id(User, "u"), now), x509.ExtKeyUsageServerAuth, now, WrongKind, ""},
		"after the CA's end":     {at(ca, id(Agent, "a"), now), x509.ExtKeyUsageClientAuth, now.Add(CALife + 48*time.Hour), Expired, ""},
	} {
		_, err := verify(tc.chain, trusted, tc.usage, tc.now)
		if ReasonOf(err) != tc.want || (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	p := Peer{Identity: id(Agent, "a")}
	for name, tc := range map[string]struct {
		expect Expect
		want   Reason
	}{
		"anybody": {Expect{}, ""}, "right": {Expect{Cluster: "c1", Kinds: []Kind{Scheduler, Agent}, ID: "a"}, ""}, "cluster": {Expect{Cluster: "c2"}, WrongCluster},
		"kind": {Expect{Kinds: []Kind{Scheduler}}, WrongKind}, "id": {Expect{ID: "b"}, WrongPeer},
	} {
		if err := tc.expect.check(p); ReasonOf(err) != tc.want {
			t.Errorf("expect %s: %v", name, err)
		}
	}
}

func TestSubjectOfPeer(t *testing.T) {
	ca := newCA(t, "c1", now)
	grant := Grant{Role: Deployer, Groups: []string{"web", "data"}}
	l := leaf(t, ca, id(User, "alice"), IssueOptions{Grant: grant}, now)
	p, err := l.Check(now)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Subject()
	if s.Name != "pancake://c1/user/alice" || s.Role != Deployer || !slices.Equal(s.Groups, grant.Groups) {
		t.Errorf("user: %+v", s)
	}
	for kind, want := range map[Kind]Role{Scheduler: Operator, Proviso: Operator, Goavail: Viewer, Ingress: Viewer, Agent: "", User: ""} {
		if got := (Peer{Identity: id(kind, "x")}).Subject().Role; got != want {
			t.Errorf("%s has role %q, want %q", kind, got, want)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "id")
	f := Files{dir}
	if _, err := f.Load(); pancake.KindOf(err) != pancake.NotFound {
		t.Fatalf("without files: %v", err)
	}
	ca := newCA(t, "c1", now)
	first, second := leaf(t, ca, id(Agent, "a"), IssueOptions{}, now), leaf(t, ca, id(Agent, "a"), IssueOptions{}, now)
	second.Bundle = append(second.Bundle, newCA(t, "c1", now).Cert)
	for _, l := range []Leaf{first, second} {
		if err := f.Save(l); err != nil {
			t.Fatal(err)
		}
		got := must[Leaf](t)(f.Load())
		if !got.Key.Equal(l.Key) || !got.Cert.Equal(l.Cert) || !got.Bundle.Equal(l.Bundle) {
			t.Error("another leaf came back")
		}
	}
	key := filepath.Join(dir, leafFile)
	for path, want := range map[string]os.FileMode{dir: 0o700, key: 0o600, filepath.Join(dir, bundleFile): 0o644} {
		if info := must[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	if list := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(list) != 2 {
		t.Errorf("%d files are left", len(list))
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), fmt.Sprintf("%04o", mode)) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	content := must[[]byte](t)(os.ReadFile(key))
	other := leaf(t, ca, id(Agent, "b"), IssueOptions{}, now)
	for name, text := range map[string][]byte{
		"cut short": content[:len(content)/2], "empty": nil, "garbage": []byte("hunter2"),
		"another's certificate": append(slices.Clone(content[:slices.Index(content, '\n')]), certsPEM([][]byte{other.Cert.Raw})...), "huge": make([]byte, maxFile+1),
	} {
		if err := WritePrivate(key, text); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
